"""A backend for probekit: ONNX files and OpenVINO IR, run by OpenVINO with reductions in its own graph."""
