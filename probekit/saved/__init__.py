"""Fitted probes on disk, and what can be done with them: prediction, an ONNX model with a probe, a PyTorch module."""
