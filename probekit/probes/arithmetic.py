"""In which dtype and on how many threads passes over X are fastest."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.probes.design import Design

SMALL_FIT_FLOPS = 4e9
"""Operations of a pass up to which more threads make a fit hardly faster: steps between products take most of it."""
_ONE_THREAD_FLOPS = 2e7
_HALF_WIDTH_FLOPS, _HALF_WIDTH_FLOPS_CACHED = 5e7, 2e9
_CACHED_VALUES = 1 << 23
_STREAMED_COLUMNS = 128
"""From so many on, half the width saves more than it costs to standardise rows that are read anew."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep what PyTorch computes on one thread."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


@contextmanager
def threads_for(flops: int, device: torch.device) -> Iterator[None]:
    """Keep small passes on one thread: there, waiting for the other threads takes longer than the work.

    Args:
        flops: of one pass.
        device: of X.
    """
    with one_thread() if flops < _ONE_THREAD_FLOPS and device.type == "cpu" else nullcontext():
        yield


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether products of bfloat16 have units of their own on a device; a property, not a measurement."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False


def is_faster_rough(X: Design, columns: int) -> bool:
    """Return whether passes of so many columns are faster in bfloat16.

    What stays in the processor's cache is not read faster for being half as wide: there, only many columns are. Nor are
    rows that are read anew in every pass: in float32 they need not be standardised.
    """
    if not has_fast_bfloat16(X.device) or (X.streamed and columns < _STREAMED_COLUMNS):
        return False
    cached = X.device.type == "cpu" and X.numel() <= _CACHED_VALUES
    return 4 * X.numel() * columns >= (_HALF_WIDTH_FLOPS_CACHED if cached else _HALF_WIDTH_FLOPS)
