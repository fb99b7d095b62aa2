"""One forward pass: on which device, in which memory format and precision a module runs, and what it is fed."""

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from probekit.backends.torch_model import first_line
from probekit.errors import InputError, MachineError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from probekit.components import Array, FloatArray


@dataclass(frozen=True)
class Place:
    """Where and how a module runs.

    Args:
        device: of the module, its inputs and the reductions.
        channels_last: whether tensors of four axes are stored with their channels last.
        autocast: the dtype that torch's autocast computes in; None: each operator in its inputs' own.
    """

    device: torch.device
    channels_last: bool = False
    autocast: torch.dtype | None = None

    def put(self, module: nn.Module) -> nn.Module:
        """Move a module here; its parameters change their place in memory, not their values."""
        if self.channels_last:
            module.to(memory_format=torch.channels_last)
        return module.to(self.device)

    def tensor(self, array: Array) -> torch.Tensor:
        """Copy an input here: an in-place operation of the model must not reach the caller's array."""
        tensor = torch.from_numpy(np.array(array))
        if self.channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Compute without gradients, in this precision, and with all 23 bits of float32 on a GPU."""
        with ExitStack() as stack:
            # Not inference_mode: a model may take gradients by its inputs while it runs.
            stack.enter_context(torch.no_grad())
            if self.device.type == "cuda":
                stack.enter_context(_without_tf32())
            if self.autocast is not None:
                stack.enter_context(torch.autocast(self.device.type, self.autocast))
            yield

    def to_host(self, tensors: Sequence[torch.Tensor]) -> list[FloatArray]:
        """Return float32 tensors as arrays that nothing changes afterwards; from a GPU by one copy for all."""
        if self.device.type == "cpu":
            return [tensor.numpy() for tensor in tensors]
        if not tensors:
            return []
        joint = torch.cat([tensor.reshape(-1).to(self.device) for tensor in tensors])
        host = torch.empty(len(joint), dtype=torch.float32, pin_memory=self.device.type == "cuda")
        host.copy_(joint, non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        parts = torch.split(host, [tensor.numel() for tensor in tensors])
        return [part.reshape(tensor.shape).numpy() for part, tensor in zip(parts, tensors, strict=True)]


CPU = Place(torch.device("cpu"))


@contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def find_device(wanted: str, field: str = "model.device") -> torch.device:
    """Return the device of a name, for ``auto`` the best one that is here.

    Args:
        wanted: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        field: where the spec asks for it.

    Raises:
        MachineError: ``PK-E02``, it is not here.
    """
    here = [
        name
        for name, is_here in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available))
        if is_here()
    ]
    here.append("cpu")
    if wanted == "auto":
        return torch.device(here[0])
    if wanted not in here:
        what = f"the device {wanted!r} is not available here"
        raise MachineError(Problem("PK-E02", what, f"available: {', '.join(here)}", field))
    return torch.device(wanted)


def call(module: nn.Module, feed: Mapping[str, Any], place: Place = CPU) -> Any:
    """Run a module on a feed of NumPy arrays, without gradients.

    Raises:
        InputError: ``PK-M23``, the model refuses the inputs.
        MachineError: ``PK-R03``, it does not fit in memory.
    """
    parameters = inspect.signature(module.forward).parameters
    named = {name for name, one in parameters.items() if one.kind is not one.POSITIONAL_ONLY}
    try:
        with place.running():
            tensors = {name: place.tensor(array) for name, array in feed.items()}
            positional = [value for name, value in tensors.items() if name not in named]
            return module(*positional, **{name: value for name, value in tensors.items() if name in named})
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            what = f"the model does not fit in memory: {first_line(error)}"
            raise MachineError(Problem("PK-R03", what, "set a smaller model.batch_size", "model")) from error
        shapes = ", ".join(f"{name} {tuple(array.shape)} {array.dtype}" for name, array in feed.items())
        what = f"the model refuses its inputs ({shapes}): {first_line(error)}"
        raise InputError(Problem("PK-M23", what, "", "model")) from error
