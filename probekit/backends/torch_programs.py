"""The programs of one tap in PyTorch: its tensor becomes features where and when it is computed.

The features are those of :func:`probekit.steps.run_program`. What several programs have in common is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from probekit.backends.torch_steps import Value, kernel
from probekit.steps import BatchFirst, Flatten, MatMul, Max, Mean, Std, Take, program_digest, run_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.backends.torch_steps import BatchMasks, Kernel
    from probekit.components import Array
    from probekit.steps import Program, Step

_KEPT = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64,
)  # fmt: skip
"""Dtypes that every moving operator knows; others become float32 at once."""
_PART_BYTES = 4 << 20
"""Temporaries of this size stay in a processor's cache: a deviation of 50 MB took a third of the time in such parts."""


@dataclass
class _Node:
    """One step of one or more programs that begin alike; the root of a tree is none."""

    run: Kernel | None = None
    after: dict[str, _Node] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    plain: bool = False
    """Whether it reads float32 once and makes nothing of the tensor's size."""

    def add(self, steps: Sequence[Step], kernels: Sequence[Kernel], place: int) -> None:
        """Add a program whose features stand at ``place`` of the result."""
        node = self
        for step, run in zip(steps, kernels, strict=True):
            plain = isinstance(step, Mean | Max) and step.mask is None
            node = node.after.setdefault(program_digest((step,)), _Node(run, plain=plain))
        node.ends.append(place)

    def follow(self, value: Value, masks: BatchMasks) -> dict[int, torch.Tensor]:
        """Run all programs below on what this step gave."""
        found = dict.fromkeys(self.ends, value.single) if self.ends else {}
        for node in self.after.values():
            assert node.run is not None  # noqa: S101 - only a root has none
            found |= node.follow(Value(node.run(value, masks)), masks)
        return found

    def follow_in_parts(self, value: Value, masks: BatchMasks) -> dict[int, torch.Tensor]:
        """Run them on a few examples at a time where that spares memory."""
        tensor = value.tensor
        once = tensor.dtype == torch.float32 and len(self.after) == 1 and next(iter(self.after.values())).plain
        size = 4 * tensor.numel()
        if once or size <= 2 * _PART_BYTES or tensor.device.type != "cpu":
            return self.follow(value, masks)
        rows = max(1, len(tensor) * _PART_BYTES // size)
        pieces = [
            self.follow(Value(tensor[start : start + rows]), masks.part(start, start + rows))
            for start in range(0, len(tensor), rows)
        ]
        return {place: torch.cat([piece[place] for piece in pieces]) for place in pieces[0]}


class TapPrograms:
    """All programs of one tap: what they have in common is computed once.

    Args:
        programs: {place in the result: program}.
    """

    def __init__(self, programs: dict[int, Program]) -> None:
        # By the batch axis, and whether the examples may be taken in parts: a product reads its matrix for each part.
        self._trees: dict[tuple[int, bool], _Node] = {}
        self._others: dict[int, Program] = {}
        for place, program in programs.items():
            steps = _fused(program)
            kernels = [run for step in steps if (run := kernel(step)) is not None]
            if len(kernels) < len(steps):
                self._others[place] = program
                continue
            axis = steps[0].axis if steps and isinstance(steps[0], BatchFirst) else 0
            computes = any(isinstance(step, Mean | Max | Std) for step in steps)
            in_parts = computes and not any(isinstance(step, MatMul) for step in steps)
            start = 1 if axis else 0
            self._trees.setdefault((axis, in_parts), _Node()).add(steps[start:], kernels[start:], place)

    def __call__(self, tensor: torch.Tensor, masks: BatchMasks) -> dict[int, torch.Tensor]:
        """Return the features by place: float32, contiguous, sharing no memory with the tensor or with each other."""
        found: dict[int, torch.Tensor] = {}
        if self._others:
            array = to_numpy(tensor)
            found |= {
                place: torch.from_numpy(run_program(program, array, masks.arrays))
                for place, program in self._others.items()
            }
        raw = tensor.detach().resolve_neg()
        value = Value(raw if raw.dtype in _KEPT else raw.float())
        # A model that runs in autocast does not make the products of a reduction less exact.
        with torch.autocast(raw.device.type, enabled=False):
            for (axis, in_parts), tree in self._trees.items():
                first = Value(value.tensor.movedim(axis, 0)) if axis else value
                found |= tree.follow_in_parts(first, masks) if in_parts else tree.follow(first, masks)
        return _own(found, raw)


def _fused(program: Program) -> list[Step]:
    """Leave out a Flatten before a Take, which finds its columns by itself."""
    pairs = zip(program, (*program[1:], None), strict=True) if program else ()
    return [step for step, after in pairs if not (type(step) is Flatten and type(after) is Take)]


def _own(found: dict[int, torch.Tensor], raw: torch.Tensor) -> dict[int, torch.Tensor]:
    """Give every result memory of its own: a view would change with the model's tensor, or keep all of it alive."""
    taken = {raw.untyped_storage().data_ptr()}
    for place, tensor in found.items():
        plain = tensor.contiguous()
        storage = plain.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() > 4 * plain.numel():
            plain = plain.clone()
        taken.add(plain.untyped_storage().data_ptr())
        found[place] = plain
    return found


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a copy in NumPy; bfloat16 and float8, which NumPy lacks, as float32."""
    plain = tensor.detach().resolve_neg()
    if plain.is_floating_point() and plain.dtype not in (torch.float16, torch.float32, torch.float64):
        plain = plain.float()
    return plain.cpu().numpy().copy()
