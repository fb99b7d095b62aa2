"""Hooks against plain forward passes: names call by call, values before later in-place changes, nothing left behind."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from probekit.backends.torch_taps import module_of, tapped, tensors_in, to_numpy, watch
from probekit.errors import InputError

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def run(module: nn.Module, taps: list[str], **feed: Any) -> dict[str, Any]:
    with tapped(module, taps) as function:
        return dict(function(feed))


def batch(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# --- names -----------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclasses.dataclass
class Record:
    mean: torch.Tensor
    parts: list[torch.Tensor]


TREES = st.recursive(
    st.none() | st.integers() | st.integers(1, 4).map(torch.ones),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "b", "c d"]), inner, max_size=3)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=8,
)


def follow(tree: Any, path: str) -> Any:
    """Take the steps that a name's brackets tell."""
    for key in path.split("[")[1:]:
        tree = tree[key[:-1]] if isinstance(tree, dict) else tree[int(key[:-1])]
    return tree


def leaves(tree: Any) -> int:
    if isinstance(tree, torch.Tensor):
        return 1
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return sum(leaves(one) for one in inner)


@given(TREES)
def test_every_tensor_in_nested_outputs_has_a_name_that_leads_to_it(tree: Any) -> None:
    found = list(tensors_in(tree, "m"))
    assert len(found) == len(dict(found)) == leaves(tree)
    for name, tensor in found:
        assert follow(tree, name) is tensor


def test_a_dataclass_is_named_by_its_fields() -> None:
    one, two = torch.ones(1), torch.ones(2)
    assert [name for name, _ in tensors_in(Record(one, [two, one]), "m")] == ["m[mean]", "m[parts][0]", "m[parts][1]"]
    assert list(tensors_in(Record, "m")) == []


@pytest.mark.parametrize(
    ("tap", "owner"),
    [
        ("layer.0", "layer.0"), ("layer.0#1", "layer.0"), ("layer.0:in", "layer.0"), ("layer.0#2:in[mask]", "layer.0"),
        ("lstm[1][0]", "lstm"), ("x", ""), ("output", ""), ("output[logits]", ""),
    ],
)  # fmt: skip
def test_a_tap_names_its_module(tap: str, owner: str) -> None:
    assert module_of(tap, dict.fromkeys(["layer.0", "lstm"], nn.ReLU())) == owner


class Twice(nn.Module):
    """One module that is called twice, with other values in between."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.act = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.linear(self.act(self.linear(x))))


def test_each_call_of_a_module_is_a_tap_of_its_own_and_counted_anew_in_every_pass() -> None:
    module = seeded(Twice)
    taps = ["linear", "act", "linear#1", "act#1", "linear:in", "linear#1:in"]
    with tapped(module, taps) as function, torch.no_grad():
        for seed in range(3):
            x = torch.from_numpy(batch(3, 4, seed=seed))
            first = module.linear(x)
            second = module.linear(first.tanh())
            truth = {
                "linear": first, "act": first.tanh(), "linear#1": second, "act#1": second.tanh(),
                "linear:in": x, "linear#1:in": first.tanh(),
            }  # fmt: skip
            found = function({"x": x.numpy()})
            assert list(found) == taps
            for name in taps:
                np.testing.assert_array_equal(found[name], truth[name].numpy())


class Outputs(nn.Module):
    """Every sort of output a module may give."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True)
        self.dict = Give(lambda x: {"mean": x.mean(1), "deep": [x, {"abs": x.abs()}]})
        self.record = Give(lambda x: Record(x.mean(1), [x, -x]))
        self.pair = Give(lambda x: Pair(x, -x))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        out, _ = self.lstm(x)
        self.record(x)
        self.pair(x)
        return {"last": out[:, -1], "mean": self.dict(x)["mean"]}


class Give(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor | None = None) -> Any:
        return self.function(x if scale is None else x * scale)


def test_tuple_dict_dataclass_and_nested_outputs_are_tapped_by_their_names() -> None:
    module, x = seeded(Outputs), batch(3, 6, 4)
    t = torch.from_numpy(x)
    with torch.no_grad():
        out, (hidden, cell) = module.lstm(t)
    truth = {
        "lstm[0]": out, "lstm[1][0]": hidden, "lstm[1][1]": cell, "lstm:in": t,
        "dict[mean]": t.mean(1), "dict[deep][0]": t, "dict[deep][1][abs]": t.abs(),
        "record[mean]": t.mean(1), "record[parts][1]": -t, "pair[0]": t, "pair[1]": -t,
        "output[last]": out[:, -1], "output[mean]": t.mean(1), "x": t,
    }  # fmt: skip
    found = run(module, list(truth), x=x)
    for name, value in truth.items():
        np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name)


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.give = Give(lambda x: x + 1)
        self.sum = Sum()

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.sum(self.give(x, scale=scale), scale)


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


def test_what_a_module_takes_is_named_by_position_and_keyword() -> None:
    x, scale = batch(3, 4), batch(3, 4, seed=1)
    truth = {
        "give:in[0]": x, "give:in[scale]": scale, "sum:in[0]": x * scale + 1, "sum:in[1]": scale, "scale": scale,
        "output": x * scale + 1 + scale,
    }  # fmt: skip
    found = run(Keywords(), list(truth), x=x, scale=scale)
    for name, value in truth.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


class SameNames(nn.Module):
    """Its submodules have the names of its input and of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Tanh()
        self.output = nn.Sigmoid()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return -self.output(self.features(features))


def test_a_submodule_keeps_its_name_beside_an_input_and_output_of_that_name() -> None:
    x = batch(3, 4)
    t = torch.from_numpy(x)
    truth = {
        ":in[features]": t, "features": t.tanh(), "output": t.tanh().sigmoid(), ":out": -t.tanh().sigmoid(),
    }  # fmt: skip
    found = run(SameNames(), list(truth), features=x)
    for name, value in truth.items():
        np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name)


# --- values are copies -----------------------------------------------------------------------------------------------


class Changing(nn.Module):
    """The same sums with and without in-place operations on what modules gave and on views of it."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=inplace)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5, inplace=inplace)
        self.gate = nn.Hardtanh(inplace=inplace)
        self.flat = nn.Flatten()
        self.linear = nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.relu(self.norm(self.conv(x)))
        h = self.drop(self.conv2(skip))
        if self.inplace:
            h.add_(skip).mul_(2)
            h = self.gate(h)
            view = h.view(len(h), -1)[:, ::2]
            view.sub_(1)
            y = self.linear(self.flat(h))
            y.clamp_(min=0)
            torch.neg(y, out=y)
            return y
        h = self.gate((h + skip) * 2)
        flat = h.reshape(len(h), -1)
        even = torch.arange(64) % 2 == 0
        h = torch.where(even, flat - 1, flat).view_as(h)
        return -self.linear(self.flat(h)).clamp(min=0)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_values_are_those_of_a_copy_of_the_net_without_in_place_operations(seed: int, size: int) -> None:
    changing, plain = seeded(lambda: Changing(inplace=True)), seeded(lambda: Changing(inplace=False))
    plain.load_state_dict(changing.state_dict())
    names = ["conv", "norm", "relu", "conv2", "drop", "gate", "flat", "linear"]
    taps = ["x", *names, *(f"{name}:in" for name in names), "output"]
    x = batch(size, 1, 4, 4, seed=seed)
    found, truth = run(changing, taps, x=x), run(plain, taps, x=x)
    for name in taps:
        np.testing.assert_array_equal(found[name], truth[name], err_msg=name)


class Rewrites(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(0)


def test_a_model_that_rewrites_its_input_changes_neither_the_tap_nor_the_callers_array() -> None:
    x = batch(3, 4)
    kept = x.copy()
    found = run(Rewrites(), ["x", "output"], x=x)
    np.testing.assert_array_equal(found["x"], kept)
    np.testing.assert_array_equal(found["output"], 0 * kept)
    np.testing.assert_array_equal(x, kept)


def test_an_array_that_may_not_be_written_is_fed_without_a_warning() -> None:
    x = batch(3, 4)
    truth = torch.from_numpy(x.copy()).tanh().numpy()
    x.flags.writeable = False
    np.testing.assert_array_equal(run(nn.Tanh(), ["output"], input=x)["output"], truth)


class Remembers(nn.Module):
    """Adds what it saw before, in a buffer that it changes in place and gives."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))
        self.memory = Give(lambda x: self.seen.add_(x.sum(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.memory(x)


def test_state_that_a_model_keeps_from_pass_to_pass_is_that_of_plain_passes_and_earlier_values_stay() -> None:
    module, plain = Remembers(), Remembers()
    inputs = [batch(3, 4, seed=seed) for seed in range(3)]
    with tapped(module, ["memory", "output"]) as function:
        found = [function({"x": x}) for x in inputs]
    truth = []
    for x in inputs:
        output = plain(torch.from_numpy(x.copy()))
        truth.append((plain.seen.clone().numpy(), output.numpy()))
    for got, (memory, output) in zip(found, truth, strict=True):
        np.testing.assert_array_equal(got["memory"], memory)
        np.testing.assert_array_equal(got["output"], output)


class Sometimes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(x) if x.sum() > 0 else x


def test_a_tap_that_a_later_pass_does_not_reach_is_refused_and_never_the_earlier_value(refused: Refused) -> None:
    with tapped(Sometimes(), ["branch", "output"]) as function:
        function({"x": np.ones((2, 3), np.float32)})
        what = "taps: the model did not reach 'branch' for this input; tap what every input reaches"
        assert refused(lambda: function({"x": -np.ones((2, 3), np.float32)})) == [("PK-M26", what)]


DTYPES = [
    (torch.float32, "float32"), (torch.float64, "float64"), (torch.float16, "float16"), (torch.bfloat16, "float32"),
    (torch.float8_e4m3fn, "float32"), (torch.float8_e5m2, "float32"), (torch.int64, "int64"), (torch.int8, "int8"),
    (torch.uint8, "uint8"), (torch.bool, "bool"),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "name"), DTYPES)
def test_values_keep_their_dtype_and_become_float32_where_numpy_lacks_it(dtype: torch.dtype, name: str) -> None:
    tensor = torch.tensor([0.0, 1.0, 0.5]).to(dtype)
    array = to_numpy(tensor)
    assert array.dtype == name
    np.testing.assert_array_equal(array, tensor.float().numpy().astype(name))
    tensor.zero_()
    assert array[1] == 1


# --- nothing is left behind ------------------------------------------------------------------------------------------


def hooks(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(one, kind)) for one in module.modules() for kind in kinds)


def bits(module: nn.Module) -> dict[str, bytes]:
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach().numpy().tobytes() for name, tensor in state.items()}


def test_parameters_buffers_gradients_and_modes_stay_as_they_were() -> None:
    module = seeded(lambda: Changing(inplace=True))
    module.norm.running_mean.uniform_()
    before, flags = bits(module), [one.training for one in module.modules()]
    found = run(module, ["conv", "norm", "output"], x=batch(4, 1, 4, 4))
    assert set(found) == {"conv", "norm", "output"}
    assert bits(module) == before
    assert [one.training for one in module.modules()] == flags
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert torch.is_grad_enabled()
    assert hooks(module) == 0


class Fails(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.linear(x)
        raise self.error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("too small\nsecond line"), "too small"),
        (KeyError("weights"), "'weights'"),
        (AssertionError(), "AssertionError"),
        (RuntimeError(), "RuntimeError"),
        (AttributeError("no such part"), "no such part"),
    ],
)
def test_hooks_are_gone_after_the_model_fails_and_its_fault_is_told(
    refused: Refused, error: Exception, text: str
) -> None:
    module = Fails(error)
    what = f"model: the model refuses its inputs (x (2, 4) float32): {text}"
    assert refused(lambda: run(module, ["linear"], x=batch(2, 4))) == [("PK-M23", what)]
    assert hooks(module) == 0
    assert torch.is_grad_enabled()


def test_hooks_are_gone_after_an_interrupt_and_after_an_error_of_the_caller() -> None:
    module = Fails(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(module, ["linear"], x=batch(2, 4))
    assert hooks(module) == 0

    def interrupted() -> None:
        with tapped(module, ["linear"]):
            assert hooks(module) > 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert hooks(module) == 0


def test_hooks_are_gone_when_one_of_the_names_is_none_of_the_models() -> None:
    module = seeded(Twice)
    with pytest.raises(KeyError), watch(module, ["linear", "nothing"], lambda *_: None):
        pass
    assert hooks(module) == 0


def test_hooks_of_the_users_own_stay_and_are_seen() -> None:
    module = seeded(Twice)
    module.linear.register_forward_hook(lambda _module, _args, output: output + 100)
    found = run(module, ["linear"], x=batch(2, 4))
    assert found["linear"].min() > 50
    assert hooks(module) == 1


def test_text_is_refused_as_an_input(refused: Refused) -> None:
    ((code, text),) = refused(lambda: run(nn.Tanh(), ["output"], input=np.array(["a", "b"])))
    assert code == "PK-M23"
    assert text.startswith("model: the model refuses its inputs (input (2,) <U1): can't convert np.ndarray of type")


class PositionalOnly(nn.Module):
    def forward(self, x: torch.Tensor, /, shift: torch.Tensor) -> torch.Tensor:
        return x + shift


def test_positional_only_inputs_are_fed_by_position() -> None:
    x, shift = batch(2, 4), batch(2, 4, seed=1)
    found = run(PositionalOnly(), ["x", "shift", "output"], x=x, shift=shift)
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["output"], x + shift)


def test_gradients_are_off_during_the_pass_and_values_hold_no_graph() -> None:
    states = []
    module = Give(lambda x: states.append(torch.is_grad_enabled()) or x)
    with tapped(module, ["output"]) as function:
        assert torch.is_grad_enabled()
        assert isinstance(function({"x": batch(2, 4)})["output"], np.ndarray)
    assert states == [False]


def test_the_error_carries_its_cause() -> None:
    cause = ValueError("why")
    with pytest.raises(InputError) as caught:
        run(Fails(cause), ["linear"], x=batch(2, 4))
    assert caught.value.__cause__ is cause
