"""A torch model with random weights, against modules that are made and reset by hand."""

import pickle
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from probekit.backends.onnx import OnnxBackend
from probekit.backends.torch import TorchBackend
from probekit.backends.torch_factories import build_random
from probekit.components import ModelOutput
from probekit.errors import InputError

NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.norm = nn.BatchNorm2d(3)
            self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
            self.last = nn.Linear(3, 2)
            nn.init.zeros_(self.last.weight)

        def forward(self, image):
            rows = self.norm(self.conv(image)).flatten(2).transpose(1, 2)
            return self.last(self.attention(rows, rows, rows)[0].mean(1))

    def make():
        return Net()

    def loaded():
        net = Net()
        generator = torch.Generator().manual_seed(99)
        for tensor in [*net.parameters(), *net.buffers()]:
            if tensor.is_floating_point():
                tensor.data = torch.rand(tensor.shape, generator=generator)
        return net

    class Table(nn.Module):
        def __init__(self, trained):
            super().__init__()
            self.table = nn.Parameter(torch.arange(3.0), requires_grad=trained)
            self.last = nn.Linear(3, 2)

        def forward(self, image):
            return self.last(image + self.table)

    def trained_table():
        return Table(True)

    def fixed_table():
        return Table(False)
"""
IMAGE = np.random.default_rng(0).standard_normal((5, 1, 4, 4), dtype=np.float32)


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the nets, importable by its name."""
    import importlib

    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(NET), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


def by_hand(make: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    return make().eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def outputs(backend: Any, taps: list[str]) -> dict[str, Any]:
    with backend.open(taps) as run:
        return dict(run({"image": IMAGE}))


def test_features_are_those_of_a_module_made_by_hand_under_the_same_seed(nets: Any, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_file(by_hand(nets.loaded, 0).state_dict(), weights)
    model = TorchBackend(factory=f"{nets.__name__}:make", weights=str(weights))
    for seed in (0, 7):
        hand = by_hand(nets.make, seed)
        with torch.no_grad():
            conv = hand.conv(torch.from_numpy(IMAGE))
            wanted = {"conv": conv.numpy(), "norm": hand.norm(conv).numpy()}
        found = outputs(model.with_random_weights(seed), ["conv", "norm"])
        for tap, array in wanted.items():
            np.testing.assert_array_equal(found[tap], array)
    assert not np.array_equal(outputs(model, ["conv"])["conv"], wanted["conv"])


def test_a_factory_that_loads_weights_is_reset_module_by_module(nets: Any) -> None:
    made: Any = build_random(f"{nets.__name__}:loaded", {}, 3)
    hand = nets.loaded()
    torch.manual_seed(3)
    for module in hand.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        elif isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()
    assert same(made, hand)
    assert torch.equal(made.norm.running_mean, torch.zeros(3))
    trained = nets.loaded().state_dict()
    drawn = ("weight", "in_proj_weight")
    assert not any(
        torch.equal(value, trained[name]) for name, value in made.state_dict().items() if name.endswith(drawn)
    )


def test_what_the_factory_sets_to_a_constant_stays(nets: Any) -> None:
    made: Any = build_random(f"{nets.__name__}:make", {}, 5)
    assert same(made, by_hand(nets.make, 5))
    assert not made.last.weight.any()


def test_a_parameter_that_was_trained_and_cannot_be_drawn_is_refused(nets: Any) -> None:
    with pytest.raises(InputError) as caught:
        build_random(f"{nets.__name__}:trained_table", {}, 0)
    (problem,) = caught.value.problems
    assert (problem.code, problem.field) == ("PK-M58", "model.factory")
    assert problem.what.endswith("and nothing resets them: 'table'")
    kept: Any = build_random(f"{nets.__name__}:fixed_table", {}, 0)
    assert kept.table.tolist() == [0, 1, 2]


def test_the_process_draws_as_before(nets: Any) -> None:
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    build_random(f"{nets.__name__}:loaded", {}, 0)
    assert torch.equal(torch.rand(3), wanted)


def test_each_seed_has_a_fingerprint_of_its_own_in_every_process(nets: Any, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_file(by_hand(nets.loaded, 0).state_dict(), weights)
    model = TorchBackend(
        factory=f"{nets.__name__}:loaded", weights=str(weights), checkpoints={"a": str(weights)},
        output=ModelOutput(factor="d"),
    )  # fmt: skip
    twin = model.with_random_weights(1)
    prints = [one.fingerprint() for one in (model, twin, model.with_random_weights(2))]
    assert len(set(prints)) == 3
    assert pickle.loads(pickle.dumps(twin)).fingerprint() == prints[1]
    assert model.with_random_weights(1).fingerprint() == prints[1]
    assert (twin.seed, twin.weights, twin.checkpoints, twin.output) == (1, None, None, None)
    assert model.fingerprint() == prints[0]
    taps = [tap.name for tap in twin.graph({"image": IMAGE}).taps]
    assert taps == [tap.name for tap in model.graph({"image": IMAGE}).taps]


@pytest.mark.parametrize("model", [OnnxBackend(path="a.onnx"), TorchBackend(program="a.pt2")], ids=["onnx", "program"])
def test_a_model_that_only_holds_its_weights_has_none(model: Any) -> None:
    with pytest.raises(InputError) as caught:
        model.with_random_weights(0)
    (problem,) = caught.value.problems
    assert problem.code == "PK-M57"
    assert "random" in problem.what
    assert "random_weights" in problem.hint
