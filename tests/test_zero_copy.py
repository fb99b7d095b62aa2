"""Tensors of memory that is not to be written to."""

import gc
import mmap

import numpy as np
import pytest
import torch

from probekit.zero_copy import tensor_of


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "int64"])
@pytest.mark.parametrize("shape", [(7, 3), (1, 1), (0, 3), (3, 0)])
@pytest.mark.parametrize("writeable", [True, False])
def test_a_tensor_has_the_values_of_the_array(dtype, shape, writeable):
    array = (100 * np.random.default_rng(0).random(shape)).astype(dtype)
    array.flags.writeable = writeable
    tensor = tensor_of(array)
    assert tuple(tensor.shape) == shape
    assert tensor.dtype == getattr(torch, dtype)
    assert np.array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("writeable", [True, False])
def test_nothing_is_copied(writeable):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    array.flags.writeable = writeable
    assert tensor_of(array).data_ptr() == array.ctypes.data


def test_a_tensor_keeps_its_memory(tmp_path):
    (tmp_path / "x").write_bytes(np.arange(5000, dtype=np.float32).tobytes())
    with (tmp_path / "x").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tensor = tensor_of(np.frombuffer(mapped, np.float32).reshape(50, 100))
    with pytest.raises(BufferError):
        mapped.close()  # the tensor is a view of it
    del mapped
    gc.collect()
    assert torch.equal(tensor, torch.arange(5000).float().view(50, 100))
