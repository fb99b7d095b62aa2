"""Passes that give features only: where they stop, what they refuse, and what they leave behind."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from probekit.backends.torch_graph import record_graph
from probekit.backends.torch_reduced import reducing
from probekit.backends.torch_taps import tapped
from probekit.components import Tap, Wanted
from probekit.steps import BatchFirst, Flatten, Last, Mean, Positions, Program, Select, Slice, Std, Take, run_program

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]


def batch(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


def flat(name: str, *shape: int, axis: int = 0) -> Wanted:
    program: Program = (*((BatchFirst(axis),) if axis else ()), Flatten())
    return Wanted(Tap(name, "X", shape, "float32", batch_axis=axis), program, int(np.prod(shape)))


def features(module: nn.Module, wanted: list[Wanted], masks: Any = None, **feed: Any) -> list[Any]:
    with reducing(module, wanted) as function:
        return list(function(feed, masks or {}))


def hooks(module: nn.Module) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in module.modules())


# --- values ----------------------------------------------------------------------------------------------------------


class Changing(nn.Module):
    """In-place operations on what modules gave, and on views of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.gate = nn.Hardtanh(inplace=True)
        self.flat = nn.Flatten()
        self.linear = nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.relu(self.norm(self.conv(x)))
        h = self.gate(self.drop(self.conv2(skip)).add_(skip).mul_(2))
        h.view(len(h), -1)[:, ::2].sub_(1)
        y = self.linear(self.flat(h)).clamp_(min=0)
        x.zero_()
        return torch.neg(y, out=y)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 5), st.data())
def test_features_are_those_of_the_raw_values_at_that_moment_whatever_is_changed_in_place_later(
    seed: int, size: int, data: st.DataObject
) -> None:
    module = seeded(Changing)
    x = batch(size, 1, 4, 4, seed=seed)
    taps = [tap for tap in record_graph(module, {"x": batch(3, 1, 4, 4)}).taps if not tap.untappable]
    taps = data.draw(st.lists(st.sampled_from(taps), min_size=1, max_size=8))
    wanted = []
    for tap in taps:
        assert tap.shape is not None
        programs: list[tuple[Program, int]] = [
            ((Flatten(),), int(np.prod(tap.shape))),
            ((Flatten(), Take(np.array([0, 3]))), 2),
        ]
        if len(tap.shape) == 3:
            programs += [((Mean((2, 3)), Flatten()), tap.shape[0]), ((Std((2, 3)), Flatten()), tap.shape[0])]
            programs += [((Select(3, -1), Select(2, 1)), tap.shape[0])]
        wanted += [Wanted(tap, program, width) for program, width in programs]
    kept = x.copy()
    with tapped(module, [tap.name for tap in taps]) as raw:
        truth = raw({"x": x})
    for one, got in zip(wanted, features(module, wanted, x=x), strict=True):
        np.testing.assert_allclose(got, run_program(one.program, truth[one.tap.name]), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(x, kept)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x.transpose(0, 1))[0][-1]


def test_a_recurrent_layers_sequences_and_states_are_read_by_their_batch_axis() -> None:
    module = seeded(Recurrent)
    x = batch(4, 7, 4)
    graph = record_graph(module, {"x": x[:3]})
    mask = np.arange(7) < np.array([7, 3, 1, 5])[:, None]
    steps: dict[str, list[tuple[Program, int]]] = {
        "lstm[0]": [((Mean((1,), "m"),), 5), ((Last(1, "m"),), 5), ((Positions((1,), "m"),), 5), ((Select(1, -1),), 5)],
        "lstm[1][0]": [((Flatten(),), 10), ((Select(1, 1),), 5)],
    }
    wanted = [
        Wanted(graph.tap(name), (BatchFirst(1), *program), width)  # type: ignore[arg-type]
        for name, programs in steps.items()
        for program, width in programs
    ]
    found = features(module, wanted, {"m": mask}, x=x)
    with tapped(module, list(steps)) as raw:
        truth = raw({"x": x})
    for one, got in zip(wanted, found, strict=True):
        np.testing.assert_allclose(
            got, run_program(one.program, truth[one.tap.name], {"m": mask}), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(found[5], found[3])
    assert found[2].shape == (16, 5)


# --- where a pass stops ----------------------------------------------------------------------------------------------


class Line(nn.Module):
    """Modules in a line, which note that they ran; then what is told."""

    def __init__(self, then: Callable[[torch.Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.ran: list[str] = []
        for name in ("a", "b", "c"):
            self.add_module(name, nn.Linear(4, 4))
            getattr(self, name).register_forward_hook(lambda *_, name=name: self.ran.append(name))
        self.then = then

    def forward(self, x: torch.Tensor) -> Any:
        x = self.b(self.a(x))
        self.then(x)
        return self.c(x)


def fails(error: BaseException) -> Callable[[Any], Any]:
    def fail(_: Any) -> None:
        raise error

    return fail


def test_the_pass_stops_after_the_last_tap_that_is_needed_in_every_batch() -> None:
    module = seeded(lambda: Line(fails(ValueError("reached"))))
    with reducing(module, [flat("b", 4), flat("x", 4), flat("a", 4)]) as function:
        for seed in range(3):
            x = batch(3, 4, seed=seed)
            b, given_, a = function({"x": x}, {})
            with torch.no_grad():
                truth = module.a(torch.from_numpy(x))
                np.testing.assert_array_equal(a, truth.numpy())
                np.testing.assert_array_equal(b, module.b(truth).numpy())
            np.testing.assert_array_equal(given_, x)
    assert module.ran == ["a", "b", "a", "b"] * 3
    assert hooks(module) == 3


def test_taps_of_inputs_alone_run_nothing_of_the_model() -> None:
    module = seeded(Line)
    x = batch(3, 4)
    np.testing.assert_array_equal(features(module, [flat("x", 4)], x=x)[0], x)
    assert module.ran == []
    assert features(module, [], x=x) == []


def test_the_models_own_output_is_a_tap_like_others_and_nothing_stops_before_it() -> None:
    module = seeded(Line)
    output, a = features(module, [flat("output", 4), flat("a", 4)], x=batch(3, 4))
    assert module.ran == ["a", "b", "c"]
    with torch.no_grad():
        np.testing.assert_array_equal(output, module(torch.from_numpy(batch(3, 4))).numpy())
    assert a.shape == (3, 4)


@pytest.mark.parametrize("caught", [Exception, BaseException])
@pytest.mark.parametrize("again", [False, True])
def test_a_model_that_catches_what_its_modules_raise_gives_the_features_all_the_same(
    caught: type[BaseException], again: bool
) -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return self.a(x)
            except caught as error:
                if again:
                    raise RuntimeError("no luck") from error
                return self.a(x) * 0

    module = seeded(Careful)
    (found,) = features(module, [flat("a", 4)], x=batch(3, 4))
    with torch.no_grad():
        np.testing.assert_array_equal(found, module.a(torch.from_numpy(batch(3, 4))).numpy())
    assert hooks(module) == 0


def test_the_second_call_of_a_module_is_waited_for() -> None:
    module = seeded(lambda: nn.Sequential(shared := nn.Linear(4, 4), nn.Tanh(), shared, nn.Tanh()))
    found = features(module, [flat("0#1", 4), flat("0", 4)], input=batch(3, 4))
    with torch.no_grad():
        first = module[0](torch.from_numpy(batch(3, 4)))
        np.testing.assert_array_equal(found[1], first.numpy())
        np.testing.assert_array_equal(found[0], module[0](first.tanh()).numpy())


# --- nothing is held -------------------------------------------------------------------------------------------------


def test_a_raw_activation_is_freed_before_the_next_module_runs() -> None:
    kept: list[Any] = []
    alive: list[list[bool]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for step in self.steps:
                x = step(x)
                kept.append(weakref.ref(x.untyped_storage()))
                alive.append([one() is not None for one in kept])
            return x

    gc.disable()
    try:
        module = seeded(Watched)
        wanted = []
        for name in (*(f"steps.{i}" for i in range(4)), "output"):
            tap = Tap(name, "Conv2d", (1, 6, 6), "float32", "NCHW")
            wanted += [Wanted(tap, (Mean((2, 3)),), 1), Wanted(tap, (Std((2, 3)),), 1), Wanted(tap, (Flatten(),), 36)]
        found = features(module, wanted, x=batch(2, 1, 6, 6))
        assert len(found) == 15
        assert alive == [[False] * i + [True] for i in range(4)]
        assert kept[-1]() is None
    finally:
        gc.enable()


# --- what is refused -------------------------------------------------------------------------------------------------


class Sometimes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(x) if x.sum() > 0 else x


def test_a_tap_that_a_later_pass_does_not_reach_is_refused_and_the_next_pass_is_well(refused: Refused) -> None:
    with reducing(Sometimes(), [flat("branch", 3)]) as function:
        ones = np.ones((2, 3), np.float32)
        (first,) = function({"x": ones}, {})
        what = "taps: the model did not reach 'branch' for this input; tap what every input reaches"
        assert refused(lambda: function({"x": -ones}, {})) == [("PK-M26", what)]
        np.testing.assert_array_equal(function({"x": ones}, {})[0], first)


IMAGE = Tap("output", "Tanh", (3, 4, 6), "float32", "NCHW")
UNKNOWN = Tap("output", "Tanh", (3, None, None), "float32", "NCHW")


@pytest.mark.parametrize(
    ("tap", "program", "width", "shape", "accepted"),
    [
        (IMAGE, (Mean((2, 3)), Flatten()), 3, (3, 9, 2), True),
        (UNKNOWN, (Mean((2, 3)), Flatten()), 3, (3, 9, 2), True),
        (IMAGE, (Mean((2, 3)), Flatten()), 3, (5, 4, 6), False),
        (IMAGE, (Mean((2,)), Flatten()), 18, (3, 9, 6), True),
        (IMAGE, (Mean((2,)), Flatten()), 18, (3, 4, 7), False),
        (IMAGE, (Flatten(),), 72, (3, 6, 4), False),
        (IMAGE, (Flatten(), Take(np.arange(5))), 5, (3, 6, 4), False),
        (IMAGE, (Flatten(), Take(np.arange(5))), 5, (3, 4, 7), False),
        (IMAGE, (Select(3, 5), Select(2, -1)), 3, (3, 5, 6), True),
        (IMAGE, (Select(3, 5), Select(2, -1)), 3, (3, 5, 5), False),
        (IMAGE, (Slice(3, 0, 5), Mean((2, 3))), 3, (3, 5, 7), True),
        (IMAGE, (Slice(3, 0, 5), Mean((2,)), Flatten()), 15, (3, 4, 3), False),
        (IMAGE, (Positions((2, 3)),), 3, (3, 5, 7), True),
        (IMAGE, (Mean((2, 3)), Flatten()), 3, (3, 4), False),
        (IMAGE, (Mean((2, 3)), Flatten()), 3, (3,), False),
        (IMAGE, (), 3, (3,), False),
        (Tap("output", "Tanh", None, "float32"), (Flatten(),), 72, (3, 4, 6), True),
        (Tap("output", "Tanh", None, "float32"), (Flatten(),), 72, (3, 4, 5), False),
    ],
)  # fmt: skip
def test_a_size_may_change_where_the_program_removes_the_axis(
    refused: Refused, tap: Tap, program: Program, width: int, shape: tuple[int, ...], accepted: bool
) -> None:
    x = batch(2, *shape)
    wanted = [Wanted(tap, program, width)]
    if accepted:
        np.testing.assert_allclose(
            features(nn.Identity(), wanted, input=x)[0], run_program(program, x), rtol=1e-5, atol=1e-6
        )
        return
    what = f"tap 'output' changes its size: {tap.shape} in the first rows, {shape} later"
    what += "; give the dataset inputs of one size"
    assert refused(lambda: features(nn.Identity(), wanted, input=x)) == [("PK-M20", what)]


def test_a_tap_that_loses_its_batch_axis_is_refused(refused: Refused) -> None:
    class Joins(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(0, keepdim=True)

    what = "tap 'output' has shape (1, 4) for a batch of 3: it has no batch axis; leave it out"
    assert refused(lambda: features(Joins(), [flat("output", 4)], x=batch(3, 4))) == [("PK-M28", what)]
    with reducing(Joins(), [flat("output", 4)], constant=["x"]) as function:
        assert function({"x": batch(3, 4)}, {})[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("error", "text"), [(ValueError("too small\nsecond line"), "too small"), (KeyError("weights"), "'weights'")]
)
def test_a_fault_of_the_model_before_the_last_tap_is_told(refused: Refused, error: Exception, text: str) -> None:
    module = seeded(lambda: Line(fails(error)))
    what = f"model: the model refuses its inputs (x (2, 4) float32): {text}"
    assert refused(lambda: features(module, [flat("a", 4), flat("c", 4)], x=batch(2, 4))) == [("PK-M23", what)]
    assert hooks(module) == 3
    assert torch.is_grad_enabled()


def test_memory_that_is_too_small_is_told_as_such(refused: Refused) -> None:
    module = Line(fails(torch.OutOfMemoryError("CUDA out of memory")))
    what = "model: the model does not fit in memory: CUDA out of memory; set a smaller model.batch_size"
    assert refused(lambda: features(module, [flat("c", 4)], x=batch(2, 4))) == [("PK-R03", what)]


class OwnError(Exception):
    pass


class Breaks:
    """A plugin's step with a fault."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def apply(self, activation: Any, masks: Any = None) -> Any:
        raise self.error

    def shape(self, shape: Any) -> Any:
        return shape


@pytest.mark.parametrize("error", [OwnError("mine"), KeyboardInterrupt()])
def test_a_fault_of_a_plugins_step_is_its_own_and_not_the_models(error: BaseException) -> None:
    module = seeded(Line)
    with pytest.raises(type(error)) as caught:
        features(module, [Wanted(flat("a", 4).tap, (Breaks(error),), 4)], x=batch(2, 4))
    assert caught.value is error
    assert module.ran == ["a"]
    assert hooks(module) == 3


def test_an_interrupt_in_the_model_passes_and_the_next_pass_is_well() -> None:
    module = seeded(lambda: Line(fails(KeyboardInterrupt())))
    with reducing(module, [flat("a", 4), flat("c", 4)]) as function:
        with pytest.raises(KeyboardInterrupt):
            function({"x": batch(2, 4)}, {})
        module.then = lambda x: x
        assert [array.shape for array in function({"x": batch(3, 4)}, {})] == [(3, 4), (3, 4)]
    assert hooks(module) == 3
    assert torch.is_grad_enabled()


def test_parameters_buffers_and_modes_stay_as_they_were_after_an_early_stop() -> None:
    module = seeded(Changing)
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    before = {name: tensor.detach().numpy().tobytes() for name, tensor in state.items()}
    features(module, [flat("conv", 4, 4, 4)], x=batch(4, 1, 4, 4))
    assert {name: tensor.detach().numpy().tobytes() for name, tensor in state.items()} == before
    assert not any(one.training for one in module.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert torch.is_grad_enabled()
    assert hooks(module) == 0


def test_a_model_that_takes_gradients_of_its_own_is_tapped() -> None:
    class Force(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy = nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                x = x.clone().requires_grad_()
                return torch.autograd.grad(self.energy(x).sum(), x)[0]

    x = batch(3, 4)
    energy, force = features(Force(), [flat("energy", 4), flat("output", 4)], x=x)
    np.testing.assert_allclose(energy, np.tanh(x), rtol=1e-5)
    np.testing.assert_allclose(force, 1 - np.tanh(x) ** 2, rtol=1e-4, atol=1e-6)
