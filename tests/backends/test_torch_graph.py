"""What one run tells of an eager model: order, shapes, edges, layouts, and why the rest cannot be tapped."""

import types
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from probekit.backends.torch_graph import record_graph
from probekit.backends.torch_taps import tapped
from probekit.components import Graph, Tap
from probekit.errors import InputError

NEVER = "its forward is never called for this input"


def batch(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def record(module: nn.Module, **feed: Any) -> Graph:
    return record_graph(module.eval(), feed)


def tap(graph: Graph, name: str) -> Tap:
    found = graph.tap(name)
    assert found is not None, f"no tap {name!r} in {[one.name for one in graph.taps]}"
    return found


def sequence(function: Any, **modules: nn.Module) -> nn.Module:
    """Return a module with those submodules whose forward is ``function(submodules, x)``."""

    class Made(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return function(types.SimpleNamespace(**self._modules), x)

    made = Made()
    for name, module in modules.items():
        made.add_module(name, module)
    return made


# --- order, shapes, edges --------------------------------------------------------------------------------------------


def residual() -> nn.Module:
    return sequence(
        lambda m, x: m.head(m.act(m.stem(x)) + m.stem(x)), stem=nn.Linear(4, 6), act=nn.Tanh(), head=nn.Linear(6, 2)
    )


def test_taps_stand_in_execution_order_with_shapes_dtypes_and_depths() -> None:
    graph = record(residual(), x=batch(2, 4))
    expected = [
        ("x", "Input", (4,)), ("stem:in", "Linear", (4,)), ("stem", "Linear", (6,)), ("act:in", "Tanh", (6,)),
        ("act", "Tanh", (6,)), ("stem#1:in", "Linear", (4,)), ("stem#1", "Linear", (6,)), ("head:in", "Linear", (6,)),
        ("head", "Linear", (2,)), ("output", "Made", (2,)),
    ]  # fmt: skip
    assert graph.taps == tuple(
        Tap(name, op, shape, "float32", "NC", depth) for depth, (name, op, shape) in enumerate(expected)
    )
    assert graph.outputs == ("output",)


def test_a_residual_skip_is_an_edge_past_the_branch() -> None:
    skip = sequence(
        lambda m, x: m.head(m.act(h := m.stem(x)) + h), stem=nn.Linear(4, 6), act=nn.Tanh(), head=nn.Linear(6, 2)
    )
    graph = record(skip, x=batch(2, 4))
    assert graph.contract(["x", "stem", "act", "head:in", "head"]) == [
        ("x", "stem"), ("stem", "act"), ("act", "head:in"), ("stem", "head:in"), ("head:in", "head"),
    ]  # fmt: skip


def test_an_in_place_operation_keeps_the_edges() -> None:
    net = sequence(lambda m, x: m.relu(m.a(x)).add_(m.b(x)), a=nn.Linear(4, 4), relu=nn.ReLU(True), b=nn.Linear(4, 4))
    graph = record(net, x=batch(2, 4))
    assert graph.contract(["x", "a", "relu", "b", "output"]) == [
        ("x", "a"), ("a", "relu"), ("x", "b"), ("b", "output"), ("relu", "output"),
    ]  # fmt: skip


def test_tensors_that_do_not_meet_have_no_edge() -> None:
    net = sequence(lambda m, x: (m.a(x[:, :2]), m.b(torch.ones(len(x), 2))), a=nn.Linear(2, 2), b=nn.Linear(2, 2))
    graph = record(net, x=batch(3, 4))
    assert ("x", "a:in") in graph.edges
    assert not [edge for edge in graph.edges if edge[1] == "b:in"]
    assert graph.outputs == ("output[0]", "output[1]")


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_the_edges_of_a_random_net_are_those_of_its_sums(wiring: list[tuple[int, int]]) -> None:
    """Layer i takes the sum of two earlier values; the truth is the wiring itself."""
    truth = {(f"v{source % (i + 1)}", f"v{i + 1}") for i, pair in enumerate(wiring) for source in pair}

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        values = [m.v0(x)]
        for i, (a, b) in enumerate(wiring):
            values.append(getattr(m, f"v{i + 1}")(values[a % (i + 1)] + values[b % (i + 1)]))
        return values[-1]

    names = [f"v{i}" for i in range(len(wiring) + 1)]
    graph = record(sequence(forward, **{name: nn.Tanh() for name in names}), x=batch(2, 3))
    assert set(graph.contract(names)) == truth


def test_the_shape_is_that_of_the_moment_and_not_of_a_later_in_place_change() -> None:
    net = sequence(lambda m, x: m.tanh(x).t_(), tanh=nn.Tanh())
    graph = record(net, x=batch(2, 5))
    assert tap(graph, "tanh") == Tap("tanh", "Tanh", (5,), "float32", "NC", 2)
    assert tap(graph, "output") == Tap("output", "Made", (5,), "float32", "", 3, batch_axis=1)


def test_a_shared_module_is_listed_once_under_its_first_name_with_every_call() -> None:
    shared = nn.Tanh()
    graph = record(sequence(lambda m, x: m.b(m.a(x)), a=shared, b=shared), x=batch(2, 3))
    assert [one.name for one in graph.taps] == ["x", "a:in", "a", "a#1:in", "a#1", "output"]


def test_an_input_and_an_output_that_share_a_submodules_name_are_told_apart() -> None:
    net = sequence(lambda m, x: -m.output(m.x(x)), x=nn.Tanh(), output=nn.Sigmoid())
    graph = record(net, x=batch(2, 3))
    assert [(one.name, one.op) for one in graph.taps] == [
        (":in[x]", "Input"), ("x:in", "Tanh"), ("x", "Tanh"), ("output:in", "Sigmoid"), ("output", "Sigmoid"),
        (":out", "Made"),
    ]  # fmt: skip
    assert graph.outputs == (":out",)


# --- what cannot be tapped -------------------------------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loose = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([nn.Tanh()])
        for name in ("scalar", "turned", "constant", "complex", "sparse", "text", "brain", "integer", "truth"):
            self.add_module(name, Give())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.scalar(x.mean())
        self.turned(x.t())
        self.constant(torch.ones(7, 4))
        self.complex(torch.complex(x, x))
        self.sparse(x.to_sparse())
        self.text("words")
        self.brain(x.bfloat16())
        self.integer(x.long())
        self.truth(x > 0)
        return self.blocks[0](x)


class Give(nn.Module):
    def forward(self, value: Any) -> Any:
        return value


def test_whatever_has_no_batch_of_numbers_says_why_it_cannot_be_tapped() -> None:
    graph = record(Odd(), x=batch(2, 4))
    assert {one.name: one.untappable for one in graph.taps if ":in" not in one.name} == {
        "x": "",
        "scalar": "a scalar: it has no batch axis",
        "turned": "",
        "constant": "no batch axis: its shape is (7, 4) for a batch of 2",
        "complex": "complex64 values; tap the tensor after its conversion to real numbers",
        "sparse": "a sparse tensor; tap it after its conversion to a dense one",
        "brain": "",
        "integer": "",
        "truth": "",
        "blocks.0": "",
        "output": "",
        "loose": NEVER,
        "blocks": NEVER,
        "text": "it gives no tensor",
    }
    assert [tap(graph, name).dtype for name in ("brain", "integer", "truth")] == ["bfloat16", "int64", "bool"]


def test_what_can_be_tapped_is_read_and_follows_the_batch() -> None:
    module = Odd().eval()
    axes = {one.name: one.batch_axis for one in record(module, x=batch(2, 4)).taps if not one.untappable}
    assert {name for name, axis in axes.items() if axis} == {"turned:in", "turned"}
    with tapped(module, list(axes)) as function:
        for size in (2, 5):
            found = function({"x": batch(size, 4)})
            assert {name: array.shape[axes[name]] for name, array in found.items()} == dict.fromkeys(axes, size)


def test_the_batch_is_that_of_an_input_that_is_not_constant() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Tanh()

        def forward(self, state: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return self.act(x) + state.sum()

    feed = {"state": np.zeros((5, 2, 8), np.float32), "x": batch(3, 4)}
    graph = record_graph(Stateful().eval(), feed, constant=["state"])
    assert (tap(graph, "x").untappable, tap(graph, "act").untappable, tap(graph, "output").untappable) == ("", "", "")
    assert tap(graph, "state").untappable == "no batch axis: its shape is (5, 2, 8) for a batch of 3"
    states = {"state": np.zeros((5, 3, 8), np.float32), "x": batch(3, 4)}
    state = tap(record_graph(Stateful().eval(), states, constant=["state"]), "state")
    assert (state.shape, state.batch_axis, state.layout, state.untappable) == ((5, 8), 1, "", "")


def test_hooks_are_gone_afterwards_and_after_a_failure() -> None:
    def hooks(module: nn.Module) -> int:
        return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in module.modules())

    module = residual()
    record(module, x=batch(2, 4))
    assert hooks(module) == 0
    with pytest.raises(InputError):
        record(module, x=batch(2, 5))
    assert hooks(module) == 0


# --- layouts ---------------------------------------------------------------------------------------------------------


def layouts(module: nn.Module, x: Any) -> dict[str, str]:
    return {one.name: one.layout for one in record(module, x=x).taps if ":in" not in one.name}


def test_convolutions_poolings_norms_and_elementwise_operators_are_nchw() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.GroupNorm(2, 4), nn.GELU(),
        nn.Dropout(0.5), nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    found = layouts(net, batch(2, 3, 8, 8))
    assert found == {
        "input": "NCHW", **{str(i): "NCHW" for i in range(11)}, "11": "NC", "12": "NC", "output": "NC",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("conv", "shape", "layout"),
    [
        (nn.Conv1d(3, 4, 1), (2, 3, 8), "NCT"),
        (nn.Conv3d(3, 4, 1), (2, 3, 2, 2, 2), "NCDHW"),
        (nn.ConvTranspose2d(3, 4, 1), (2, 3, 4, 4), "NCHW"),
        (nn.BatchNorm1d(3), (2, 3, 8), "NCT"),
    ],
)
def test_an_operator_with_channels_first_tells_the_layout_by_its_rank(
    conv: nn.Module, shape: tuple[int, ...], layout: str
) -> None:
    assert set(layouts(nn.Sequential(conv, nn.ReLU()), batch(*shape)).values()) == {layout}


@settings(deadline=None, max_examples=20)
@given(st.permutations([1, 2, 3]), st.booleans())
def test_a_permutation_moves_the_letters_as_it_moves_the_axes(rest: list[int], inverse: bool) -> None:
    order = [0, *rest]
    net = sequence(
        lambda m, x: m.act(m.conv(x).permute(order if not inverse else [axis - 4 for axis in order])),
        conv=nn.Conv2d(3, 4, 1), act=nn.Tanh(),
    )  # fmt: skip
    truth = "".join(np.array(list("NCHW"))[order])
    found = layouts(net, batch(2, 3, 4, 4))["act"]
    assert found == (truth if truth in {"NCHW", "NHWC"} else "")


def test_an_nhwc_net_is_nhwc_between_its_permutations() -> None:
    net = sequence(
        lambda m, x: m.act(m.conv(x.permute(0, 3, 1, 2)).transpose(1, 3).transpose(1, 2)),
        conv=nn.Conv2d(3, 4, 1), act=nn.Tanh(),
    )  # fmt: skip
    found = layouts(net, batch(2, 8, 8, 3))
    assert (found["conv"], found["act"], found["output"]) == ("NCHW", "NHWC", "NHWC")


def test_a_layer_norm_over_the_last_of_three_axes_and_an_embedding_are_ntc() -> None:
    net = sequence(
        lambda m, x: m.act(m.norm(m.embed(x))), embed=nn.Embedding(9, 4), norm=nn.LayerNorm(4), act=nn.GELU()
    )
    graph = record(net, x=np.random.default_rng(0).integers(0, 9, (2, 6)))
    assert {name: tap(graph, name).layout for name in ("embed", "norm", "act")} == dict.fromkeys(
        ["embed", "norm", "act"], "NTC"
    )
    assert layouts(nn.Sequential(nn.LayerNorm(4)), batch(2, 6, 4)) == {"input": "", "0": "NTC", "output": "NTC"}
    assert layouts(nn.Sequential(nn.LayerNorm((6, 4))), batch(2, 6, 4))["0"] == ""


@pytest.mark.parametrize("layers", [3, 2])
def test_a_batch_first_lstm_is_ntc_and_its_states_have_the_batch_second_even_with_as_many_layers(layers: int) -> None:
    net = sequence(lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(4, 5, num_layers=layers, batch_first=True))
    graph = record(net, x=batch(2, 6, 4))
    for name in ("lstm:in", "lstm[0]"):
        assert (tap(graph, name).layout, tap(graph, name).batch_axis) == ("NTC", 0)
    for state in ("lstm[1][0]", "lstm[1][1]"):
        one = tap(graph, state)
        assert (one.shape, one.batch_axis, one.layout, one.untappable) == ((layers, 5), 1, "", "")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("time", [2, 6])
def test_a_recurrent_layer_with_time_first_has_the_batch_second_even_when_time_and_batch_are_equal(
    kind: type[nn.RNNBase], time: int
) -> None:
    net = sequence(lambda m, x: m.act(m.rnn(x.transpose(0, 1))[0]).transpose(0, 1), rnn=kind(4, 5), act=nn.Tanh())
    graph = record(net, x=batch(2, time, 4))
    for name, width in (("rnn:in", 4), ("rnn[0]", 5), ("act", 5)):
        one = tap(graph, name)
        assert (one.layout, one.batch_axis, one.shape, one.untappable) == ("TNC", 1, (time, width), "")
    states = [one for one in graph.taps if one.name.startswith("rnn[1]")]
    assert {(one.shape, one.batch_axis, one.layout) for one in states} == {((1, 5), 1, "")}
    assert (tap(graph, "output").batch_axis, tap(graph, "output").untappable) == (0, "")


def test_a_recurrent_root_names_its_sequences_and_states_alike() -> None:
    graph = record(nn.LSTM(4, 5), input=batch(2, 2, 4))
    assert [(one.name, one.layout, one.batch_axis) for one in graph.taps] == [
        ("input", "TNC", 1), ("output[0]", "TNC", 1), ("output[1][0]", "", 1), ("output[1][1]", "", 1),
    ]  # fmt: skip


def test_an_axis_of_the_batchs_size_is_chance_where_the_layout_tells_the_batch_axis() -> None:
    """Frames of two clips in a row: 6 images, as many channels as clips."""
    net = sequence(lambda m, x: m.conv(x.flatten(0, 1)), conv=nn.Conv2d(3, 2, 1))
    graph = record(net, x=batch(2, 3, 3, 5, 5))
    assert tap(graph, "conv").layout == "NCHW"
    assert tap(graph, "conv").untappable == "no batch axis: its shape is (6, 2, 5, 5) for a batch of 2"


def test_a_layout_that_nothing_tells_is_empty() -> None:
    found = layouts(nn.Sequential(nn.Tanh(), nn.Linear(4, 5)), batch(2, 6, 4))
    assert found == {"input": "", "0": "", "1": "", "output": ""}
