"""PyTorch tensors of memory that is not to be written to, such as a file's that is mapped."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor


def tensor_of(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor of an array's own memory, which nobody may write to.

    PyTorch has no notion of memory that is read only, and warns about it. Nothing is copied.

    Args:
        array: C-contiguous, of a dtype that PyTorch has; halves may come as their bits, in uint16.
    """
    import torch  # takes seconds; a store can be read without it

    if array.flags.writeable or not array.size:
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    memory: Any = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # lives as long as the tensor does
    return torch.from_numpy(np.frombuffer(memory, array.dtype).reshape(array.shape))
