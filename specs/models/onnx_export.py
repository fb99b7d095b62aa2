"""Write a torch module as one ONNX file that is fit to be shared. Used by the other scripts here; makes nothing itself.

The exporter records, at every node, the stack trace and the source paths of the machine it ran on. Those are
removed. Names of nodes and tensors stay as the exporter gives them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import torch

if TYPE_CHECKING:
    from pathlib import Path

BATCH_SIZES = (1, 7)


def export(model: torch.nn.Module, row_shape: tuple[int, ...], path: Path, *, tolerance: float = 1e-5) -> None:
    """Export ``model``, ``image`` to ``logits``, any batch size, to the single file ``path``, and check that file."""
    model.eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        model,
        (torch.zeros(2, *row_shape),),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    proto = program.model_proto  # weights are inside: no external data file
    strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(proto, path)
    compare(model, row_shape, path, tolerance)


def strip(message: Any) -> None:
    """Remove doc strings and metadata (stack traces, source paths) from a protobuf message and all messages in it."""
    for field, value in list(message.ListFields()):
        if field.name in {"doc_string", "metadata_props"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                strip(part)


def compare(model: torch.nn.Module, row_shape: tuple[int, ...], path: Path, tolerance: float) -> None:
    """Raise unless ONNX Runtime gives torch's logits; differences count relative to the largest logit above 1."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in BATCH_SIZES:
        image = np.random.default_rng(0).random((n, *row_shape), dtype=np.float32)
        with torch.no_grad():
            ours = model(torch.from_numpy(image)).numpy()
        (theirs,) = session.run(["logits"], {"image": image})
        gap = float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(ours).max()))
        if ours.shape != theirs.shape or not gap <= tolerance:
            raise RuntimeError(f"{path.name}: ONNX Runtime and torch differ by {gap:.1e} at batch size {n}")
        print(f"{path.name}: ONNX Runtime agrees with torch at batch size {n} (difference {gap:.1e})")
