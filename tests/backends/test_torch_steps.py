"""Every step in PyTorch against its one meaning in NumPy, for every layout and dtype."""

import gc
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.backends.torch_programs import TapPrograms, to_numpy
from probekit.backends.torch_steps import BatchMasks
from probekit.steps import (
    BatchFirst,
    Flatten,
    Last,
    MatMul,
    Max,
    Mean,
    Positions,
    Program,
    Select,
    Slice,
    Std,
    Take,
    run_program,
)

CPU = torch.device("cpu")
LAYOUTS = ["NC", "NCHW", "NHWC", "NCDHW", "NCT", "NTC", "TNC"]
DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32,
    torch.float64, torch.float8_e4m3fn,
]  # fmt: skip


def reduced(programs: list[Program], tensor: torch.Tensor, masks: dict[str, Any] | None = None) -> list[Any]:
    found = TapPrograms(dict(enumerate(programs)))(tensor, BatchMasks(masks or {}, tensor.device))
    return [found[place].numpy() for place in range(len(programs))]


def agree(found: Any, truth: Any, largest: float = 1.0) -> None:
    """Rounding may differ by the order of a sum, NaN and infinities not at all."""
    assert found.dtype == np.float32
    assert found.shape == truth.shape
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, truth, rtol=2e-5, atol=3e-6 * max(1.0, largest))


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, list[Program], dict[str, Any]]:
    """Draw a tensor, every kind of program that its layout allows, and masks."""
    layout = draw(st.sampled_from(LAYOUTS))
    sizes = {letter: draw(st.integers(1, 5)) for letter in "NCDHWT"}
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = [sizes[letter] for letter in layout]
    dtype = draw(st.sampled_from(DTYPES))
    values = rng.standard_normal(shape) * 10 ** draw(st.integers(-2, 3))
    tensor = torch.from_numpy(np.array(values)).clamp(-400, 400).to(dtype)
    if draw(st.booleans()) and tensor.ndim == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    if draw(st.booleans()):  # no step may rely on a plain order in memory
        tensor = torch.stack([tensor, tensor], dim=-1)[..., 0]
    batch = layout.index("N")
    first: Program = (BatchFirst(batch),) if batch or draw(st.booleans()) else ()
    rest = layout.replace("N", "")
    axes = tuple(place for place, letter in enumerate(rest, start=1) if letter != "C")
    sizes_of = [sizes[letter] for letter in rest]
    width = int(np.prod(sizes_of))
    masks = {"m": rng.integers(0, 2, [sizes["N"], *(sizes_of[axis - 1] for axis in axes)]).astype(
        draw(st.sampled_from([np.bool_, np.int64, np.float32]))
    )}  # fmt: skip
    taken = np.sort(rng.choice(width, rng.integers(1, width + 1), replace=False)).astype(np.int64)
    programs: list[Program] = [
        (Flatten(),),
        (Flatten(), Take(taken)),
        (Flatten(), MatMul(rng.standard_normal((width, 3)).astype(np.float32))),
    ]
    if axes:
        steps = [step(axes, mask) for step in (Mean, Max, Std) for mask in (None, "m")]
        programs += [(step, Flatten()) for step in (*steps, Std(axes), Mean(axes[:1]))]
        programs += [(Mean(axes[:1]), Flatten(), Take(np.zeros(2, np.int64)))]
        programs += [(*(Select(axis, -1) for axis in reversed(axes)), Flatten())]
        programs += [(*(Select(axis, sizes_of[axis - 1] // 2) for axis in reversed(axes)), Flatten())]
        programs += [(Slice(axes[0], 1, 3), Flatten()), (Slice(axes[-1], -2, 9), Mean(axes), Flatten())]
        programs += [(Positions(axes, mask), Flatten()) for mask in (None, "m")]
        programs += [(Positions(axes, "m"), Flatten(), Take(np.zeros(2, np.int64)))]
    if len(axes) == 1:
        programs += [(Last(axes[0], "m"), Flatten())]
    return tensor, [(*first, *program) for program in programs], masks


@pytest.mark.filterwarnings("ignore:All-NaN")
@settings(deadline=None, max_examples=120)
@given(cases(), st.booleans())
def test_every_program_of_every_layout_and_dtype_is_that_of_numpy(
    case: tuple[torch.Tensor, list[Program], dict[str, Any]], together: bool
) -> None:
    tensor, programs, masks = case
    array = to_numpy(tensor)
    before = array.copy()
    if together:
        found = reduced(programs, tensor, masks)
    else:
        found = [reduced([program], tensor, masks)[0] for program in programs]
    largest = float(np.abs(array.astype(np.float64)).max())
    for program, one in zip(programs, found, strict=True):
        agree(one, run_program(program, array, masks), largest * (10 if isinstance(program[-1], MatMul) else 1))
    np.testing.assert_array_equal(to_numpy(tensor), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("last", [False, True])
def test_a_large_tensor_that_is_taken_in_parts_gives_the_same(dtype: torch.dtype, last: bool) -> None:
    rng = np.random.default_rng(0)
    tensor = torch.from_numpy(rng.standard_normal((7, 40, 110, 110), dtype=np.float32) * 3).to(dtype)
    tensor = tensor.contiguous(memory_format=torch.channels_last) if last else tensor
    masks = {"m": rng.integers(0, 2, (7, 110, 110))}
    programs: list[Program] = [
        (Mean((2, 3)), Flatten()), (Std((2, 3)), Flatten()), (Max((2, 3), "m"), Flatten()),
        (Std((2, 3), "m"), Flatten()),
        (Flatten(), Take(np.array([0, 5, 400_000]))), (Mean((1, 2, 3)), Flatten()),
        (Positions((2,)), Mean((1, 2)), Flatten()),
    ]  # fmt: skip
    array = to_numpy(tensor)
    for program, one in zip(programs, reduced(programs, tensor, masks), strict=True):
        agree(one, run_program(program, array, masks))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0.0, 1.0, -2.0, np.nan, np.inf, -np.inf, 3e38, -3e38]), min_size=12, max_size=12))
def test_what_is_not_finite_goes_where_it_goes_in_numpy(values: list[float]) -> None:
    array = np.array(values, np.float32).reshape(2, 3, 2)
    masks = {"m": np.array([[1, 0, 1], [0, 0, 0]])}
    programs: list[Program] = [(step((1,), mask),) for step in (Mean, Max, Std) for mask in (None, "m")]
    programs += [(Last(1, "m"),), (Select(1, 0),)]
    for program, one in zip(programs, reduced(programs, torch.from_numpy(array), masks), strict=True):
        np.testing.assert_allclose(one, run_program(program, array, masks), rtol=1e-6)


def test_a_double_beyond_float32_is_infinite_before_it_is_averaged() -> None:
    array = np.array([[[1e300, -1e300]], [[1e39, 1.0]]])
    for found in reduced([(Mean((2,)),), (Max((2,)),)], torch.from_numpy(array)):
        assert not np.isfinite(found).any()
    assert np.isnan(reduced([(Mean((2,)),)], torch.from_numpy(array))[0][0, 0])


def test_no_axes_are_none_and_not_all() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    masks = {"m": np.array([1, 0, 1])}
    programs: list[Program] = [(step((), mask),) for step in (Mean, Max, Std) for mask in (None, "m")]
    for program, one in zip(programs, reduced(programs, torch.from_numpy(x), masks), strict=True):
        np.testing.assert_array_equal(one, run_program(program, x, masks))


def test_an_index_that_the_tensor_does_not_have_is_never_read() -> None:
    tensor = torch.arange(24.0)[:12].view(2, 3, 2)
    with pytest.raises(ValueError, match="out of bounds"):
        reduced([(Flatten(), Take(np.array([6])))], tensor)


def test_a_view_that_is_lazily_negated_is_read_with_its_sign() -> None:
    tensor = torch.complex(torch.ones(2, 3), torch.arange(6.0).view(2, 3)).conj().imag
    assert tensor.is_neg()
    for found in reduced([(Flatten(),), (Flatten(), Take(np.array([1, 2])))], tensor):
        np.testing.assert_array_equal(found, -np.arange(6.0).reshape(2, 3)[:, -found.shape[1] :])


# --- a step of a plugin's own ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Doubled:
    times: int = 2

    def apply(self, activation: Any, masks: Any = None) -> Any:
        assert activation.dtype == np.float32
        return activation * self.times + (0 if "shift" not in masks else masks["shift"][:, None])

    def shape(self, shape: Any) -> Any:
        return shape


class Halved(Mean):
    """A subclass of a step, which means something else."""

    def apply(self, activation: Any, masks: Any = None) -> Any:
        return super().apply(activation, masks) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_a_step_that_torch_does_not_know_runs_in_numpy_beside_the_others(dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 5))).to(dtype)
    masks = {"shift": np.arange(4.0)}
    programs: list[Program] = [(Mean((2,)),), (Mean((2,)), Doubled()), (Halved((2,)),), (Select(2, 0), Doubled(3))]
    for program, one in zip(programs, reduced(programs, tensor, masks), strict=True):
        agree(one, run_program(program, to_numpy(tensor), masks))


# --- what is computed once, and what is kept -------------------------------------------------------------------------


class Counting(torch.utils._python_dispatch.TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operators(programs: list[Program], tensor: torch.Tensor) -> list[str]:
    with Counting() as counting:
        reduced(programs, tensor)
    return counting.names


def test_equal_programs_and_equal_beginnings_are_computed_once() -> None:
    tensor = torch.ones(2, 3, 4, 4, dtype=torch.bfloat16)
    taken = np.array([0, 2])
    programs: list[Program] = [
        (Mean((2, 3)), Flatten()), (Mean((2, 3)), Flatten()), (Mean((2, 3)), Flatten(), Take(taken)),
        (Mean((2, 3)), Flatten(), Take(taken.copy())), (Std((2, 3)), Flatten()), (Mean((2, 3)),),
    ]  # fmt: skip
    names = operators(programs, tensor)
    assert names.count("mean") == 2, "one of the values, one of the squares around it"
    assert names.count("index_select") == 1
    assert names.count("_to_copy") == 1


def test_a_subset_copies_nothing_of_the_size_of_the_tensor() -> None:
    tensor = torch.zeros(2, 3, 50, 50).contiguous(memory_format=torch.channels_last)
    names = operators([(Flatten(), Take(np.array([4, 7000])))], tensor)
    assert not {"clone", "_to_copy", "copy_", "reshape"} & set(names)


@pytest.mark.parametrize(
    "program",
    [
        (Flatten(),), (Select(1, 0),), (Slice(1, 0, 1), Flatten()), (Slice(1, 0, 9), Flatten()), (Mean(()), Flatten()),
        (Positions((1,)),), (Mean((1,)),), (Flatten(), Take(np.arange(2))), (BatchFirst(0), Flatten()),
    ],
)  # fmt: skip
def test_features_share_no_memory_with_the_tensor_nor_with_each_other(program: Program) -> None:
    tensor = torch.arange(24.0).view(2, 3, 4)
    first, second = TapPrograms({0: program, 1: program})(tensor, BatchMasks({}, CPU)).values()
    kept = first.clone()
    tensor.zero_()
    second.zero_()
    assert torch.equal(first, kept)
    assert first.untyped_storage().nbytes() == 4 * first.numel()


def test_the_tensor_is_freed_as_soon_as_it_is_reduced() -> None:
    gc.disable()
    try:
        tensor = torch.randn(2, 3, 4, 4)
        programs = TapPrograms({
            0: (Mean((2, 3)),), 1: (Std((2, 3)),), 2: (Flatten(),), 3: (Flatten(), Take(np.arange(3))),
            4: (Select(3, 0), Doubled(), Flatten()),
        })  # fmt: skip
        found = programs(tensor, BatchMasks({}, CPU))
        storage = weakref.ref(tensor.untyped_storage())
        tensor_itself = weakref.ref(tensor)
        del tensor
        assert tensor_itself() is None
        assert storage() is None
        assert len(found) == 5
    finally:
        gc.enable()


def test_products_stay_in_float32_inside_autocast() -> None:
    x = np.random.default_rng(0).standard_normal((3, 40), dtype=np.float32)
    program = (Flatten(), MatMul(np.random.default_rng(1).standard_normal((40, 5)).astype(np.float32)))
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = reduced([program], torch.from_numpy(x))
    agree(found, run_program(program, x))
