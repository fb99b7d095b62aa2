"""OpenVINO, imported without its usage statistics: by default ``import openvino`` sends an event over the network."""

import sys

if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
    # OpenVINO goes without the package that sends them where there is none.
    sys.modules["openvino_telemetry"] = None
    try:
        import openvino as ov
    finally:
        del sys.modules["openvino_telemetry"]
import openvino as ov
from openvino import opset13 as ops
from openvino.frontend import FrontEndManager

__all__ = ["FrontEndManager", "ops", "ov"]
