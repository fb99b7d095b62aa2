"""The torch backend as a spec uses it, against plain forward passes of the same module."""

import copy
import pathlib
import pickle
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from probekit.backends.torch import TorchBackend
from probekit.components import InputBinding, ModelInput

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]

NET = """
    import torch
    from torch import nn

    BUILT = []

    class Net(nn.Module):
        def __init__(self, width: int = 4, act: str = "ReLU", drop: float = 0.5):
            super().__init__()
            self.conv = nn.Conv2d(1, width, 3, padding=1)
            self.norm = nn.BatchNorm2d(width)
            self.act = getattr(nn, act)(inplace=True)
            self.drop = nn.Dropout(drop)
            self.fc = nn.Linear(width * 16, 2)
            self.register_buffer("shift", torch.arange(2.0), persistent=False)

        def forward(self, image, gain=None):
            h = self.drop(self.act(self.norm(self.conv(image))))
            y = self.fc(h.flatten(1)) + self.shift
            return y if gain is None else y * gain[:, None]

    def make(**arguments):
        BUILT.append(Net(**arguments).train())
        return BUILT[-1]
"""
SHAPE = (1, 4, 4)


def batch(size: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((size, *SHAPE), dtype=np.float32)


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(NET), encoding="utf-8")
    return path


@pytest.fixture
def nets(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An importable module that keeps what it builds."""
    import importlib

    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(NET), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


def run(made: TorchBackend, taps: list[str], **feed: Any) -> dict[str, Any]:
    with made.open(taps) as function:
        return dict(function(feed))


def faults(**fields: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(ValidationError) as caught:
        TorchBackend(**fields)
    return [(one["type"], one["ctx"]["what"], one["ctx"]["hint"]) for one in caught.value.errors()]


# --- what a spec may say ---------------------------------------------------------------------------------------------


def test_exactly_one_of_factory_and_program_is_given() -> None:
    assert faults() == [("PK-Y29", "needs either 'factory' or 'program'", "")]
    assert faults(factory="torchvision:resnet18", program="p.pt2") == faults()


@pytest.mark.parametrize("more", [{"weights": "w.pt"}, {"arguments": {"width": 2}}])
def test_a_program_takes_neither_weights_nor_arguments(more: dict[str, Any]) -> None:
    assert faults(program="p.pt2", **more) == [("PK-Y29", "a program holds its own weights and takes no arguments", "")]


@pytest.mark.parametrize("factory", ["resnet18", ":make", "net.py:", ""])
def test_a_factory_is_a_source_and_a_name(factory: str) -> None:
    hint = "write torchvision:resnet50, package.module:function or ./file.py:function"
    assert faults(factory=factory) == [("PK-Y04", f"{factory!r} names no factory", hint)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"weights": "DEFAULT"}, {"pretrained": True}, {"weights_backbone": "DEFAULT"}, {"pretrained_backbone": True},
        {"weights": ""}, {"checkpoint_path": "w.pt"},
    ],
)  # fmt: skip
def test_arguments_that_would_fetch_weights_are_refused(arguments: dict[str, Any]) -> None:
    what = "pretrained weights would be downloaded; probekit uses no network"
    refusal = [("PK-Y29", what, "give the file as weights: FILE.safetensors")]
    assert faults(factory="torchvision:fcn_resnet50", arguments=arguments) == refusal


def test_arguments_that_fetch_nothing_are_taken() -> None:
    made = TorchBackend(
        factory="torchvision:squeezenet1_1", arguments={"weights": None, "pretrained": False, "num_classes": 3}
    )
    graph = made.graph({"x": np.zeros((2, 3, 32, 32), np.float32)})
    assert graph.tap("output").shape == (3,)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"factory": "torchvision:resnet18"}, None),
        ({"factory": "timm:resnet18"}, None),
        ({"factory": "package.module:make"}, "package.module:make"),
        ({"factory": "torchvision.models:resnet18"}, "torchvision.models:resnet18"),
        ({"factory": "torchvision:models:resnet18"}, "torchvision:models:resnet18"),
        ({"factory": "timm:evil:make"}, "timm:evil:make"),
        ({"factory": "/nets/net.py:make"}, "/nets/net.py:make"),
        ({"program": "/nets/net.pt2"}, "/nets/net.pt2"),
    ],
)
def test_all_but_names_out_of_a_librarys_list_is_code_to_trust(fields: dict[str, Any], code: str | None) -> None:
    assert TorchBackend(**fields).code_to_trust() == code


def test_the_path_of_a_file_starts_from_the_current_folder_without_a_spec(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert TorchBackend(factory="./net.py:make").factory == f"{file}:make"


def test_nothing_is_imported_before_the_model_is_needed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "net.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    made = TorchBackend(factory=f"{tmp_path}/net.py:make")
    assert made.code_to_trust() == f"{tmp_path}/net.py:make"
    with pytest.raises(SystemExit, match="imported"):
        made.signature()


# --- values ----------------------------------------------------------------------------------------------------------


def test_the_signature_is_what_forward_needs_and_what_the_spec_binds(file: pathlib.Path) -> None:
    made = TorchBackend(factory=f"{file}:make")
    assert made.signature() == (ModelInput("image", None, None),)
    bound = TorchBackend(factory=f"{file}:make", inputs={"gain": InputBinding(column="gain")})
    assert bound.signature() == (ModelInput("image", None, None), ModelInput("gain", None, None))


def test_a_graph_needs_an_example(refused: Refused, file: pathlib.Path) -> None:
    what = "a torch model has to be run once to know its tensors; name a spec"
    assert refused(TorchBackend(factory=f"{file}:make").graph) == [("PK-M22", what)]


def test_dropout_and_batch_norm_run_in_eval_mode_as_in_a_plain_pass(nets: Any) -> None:
    made = TorchBackend(factory=f"{nets.__name__}:make", seed=3)
    x = batch(5)
    found = run(made, ["conv", "norm", "act", "drop", "output"], image=x)
    module = nets.BUILT[-1]
    with torch.no_grad():
        conv = module.conv(torch.from_numpy(x))
        norm = nn.functional.batch_norm(
            conv, module.norm.running_mean, module.norm.running_var, module.norm.weight, module.norm.bias
        )
        act = norm.clamp(min=0)
        truth = {"conv": conv, "norm": norm, "act": act, "drop": act}
        truth["output"] = module.fc(act.flatten(1)) + torch.arange(2.0)
    for name, value in truth.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-6, atol=1e-6, err_msg=name)


def test_nothing_of_the_model_changes_while_it_is_tapped(nets: Any) -> None:
    made = TorchBackend(factory=f"{nets.__name__}:make")
    with made.open(["conv", "norm", "output"]) as function:
        module = nets.BUILT[-1]
        before = copy.deepcopy(dict(module.named_parameters()) | dict(module.named_buffers()))
        assert not any(one.training for one in module.modules())
        for seed in range(3):
            function({"image": batch(4, seed)})
    after = dict(module.named_parameters()) | dict(module.named_buffers())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())


def test_an_optional_input_is_fed_when_the_spec_binds_it(file: pathlib.Path) -> None:
    made = TorchBackend(factory=f"{file}:make", inputs={"gain": InputBinding(column="gain")})
    x, gain = batch(4), np.arange(4, dtype=np.float32)
    found = run(made, ["gain", "output"], image=x, gain=gain)
    base = run(made, ["output"], image=x)["output"]
    np.testing.assert_array_equal(found["gain"], gain)
    np.testing.assert_array_equal(found["output"], base * gain[:, None])


def test_the_graph_knows_the_constant_inputs_of_the_spec(tmp_path: pathlib.Path) -> None:
    code = """
        from torch import nn

        class Net(nn.Module):
            def forward(self, state, x):
                return x + state.sum()
    """
    (tmp_path / "stateful.py").write_text(textwrap.dedent(code), encoding="utf-8")
    made = TorchBackend(factory=f"{tmp_path}/stateful.py:Net", inputs={"state": InputBinding(zeros=[3, "N"])})
    graph = made.graph({"state": np.zeros((3, 2), np.float32), "x": np.zeros((2, 4), np.float32)})
    assert [(tap.name, tap.untappable) for tap in graph.taps] == [
        ("state", "no batch axis: its first axis is 3 for a batch of 2"), ("x", ""), ("output", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_from_a_file_are_those_that_run(nets: Any, tmp_path: pathlib.Path, suffix: str) -> None:
    trained = nets.Net()
    trained.norm.running_mean.uniform_()
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save(trained.state_dict(), path)
    else:
        save_file(trained.state_dict(), path)
    found = run(TorchBackend(factory=f"{nets.__name__}:make", weights=str(path)), ["output"], image=batch(3))
    with torch.no_grad():
        np.testing.assert_array_equal(found["output"], trained.eval()(torch.from_numpy(batch(3))).numpy())


def test_the_component_pickles_and_gives_the_same_values(file: pathlib.Path) -> None:
    made = TorchBackend(factory=f"{file}:make", arguments={"width": 3}, seed=2, batch_size=9)
    twin = pickle.loads(pickle.dumps(made))
    assert twin == made
    assert twin.fingerprint() == made.fingerprint()
    example = {"image": batch(2)}
    assert twin.graph(example) == made.graph(example)
    x = batch(4)
    for name, array in run(made, ["conv", "output"], image=x).items():
        np.testing.assert_array_equal(run(twin, ["conv", "output"], image=x)[name], array)


def test_what_runs_is_told(file: pathlib.Path) -> None:
    told = TorchBackend(factory=f"{file}:make").runtime()
    assert told == {"torch": torch.__version__, "device": "cpu", "threads": torch.get_num_threads()}


# --- fingerprint -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_code_weights_and_buffers_alone(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    first = TorchBackend(factory=f"{file}:make").fingerprint()
    assert TorchBackend(factory=f"{file}:make", batch_size=3).fingerprint() == first
    other = tmp_path / "elsewhere" / "renamed.py"
    other.parent.mkdir()
    other.write_bytes(file.read_bytes())
    assert TorchBackend(factory=f"{other}:make").fingerprint() == first
    changed = {
        "seed": TorchBackend(factory=f"{file}:make", seed=1),
        "module": TorchBackend(factory=f"{file}:make", arguments={"act": "ReLU6"}),
        "option": TorchBackend(factory=f"{file}:make", arguments={"drop": 0.1}),
    }
    for code in ("self.shift * 2", "-self.shift"):
        path = tmp_path / f"code{len(changed)}.py"
        path.write_text(file.read_text().replace("+ self.shift", f"+ {code}"), encoding="utf-8")
        changed[code] = TorchBackend(factory=f"{path}:make")
    assert len({first, *(made.fingerprint() for made in changed.values())}) == len(changed) + 1


def test_the_fingerprint_changes_with_one_weight_and_with_a_buffer_that_no_file_holds(nets: Any) -> None:
    made = TorchBackend(factory=f"{nets.__name__}:make")
    first = made.fingerprint()
    plain = nets.make

    def changed(change: Callable[[nn.Module], None]) -> str:
        def make(**arguments: Any) -> nn.Module:
            module = plain(**arguments)
            with torch.no_grad():
                change(module)
            return module

        nets.make = make
        return made.fingerprint()

    assert changed(lambda _: None) == first
    assert changed(lambda module: module.fc.weight[1, 7].add_(1e-6)) != first
    assert changed(lambda module: module.shift.add_(1)) != first
    assert changed(lambda module: module.norm.num_batches_tracked.add_(1)) != first


# --- programs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        ).eval()
    sizes = ({0: torch.export.Dim("batch")},)
    folder = tmp_path_factory.mktemp("programs")
    for name, act in (("relu", nn.ReLU(inplace=True)), ("tanh", nn.Tanh())):
        module[1] = act
        program = torch.export.export(module, (torch.zeros(2, *SHAPE),), dynamic_shapes=sizes)
        torch.export.save(program, folder / f"{name}.pt2")
    torch.export.save(torch.export.export(module, (torch.zeros(1, *SHAPE),)), folder / "one.pt2")
    module[1] = nn.ReLU(inplace=True)
    return {"folder": folder, "module": module}


def test_the_modules_of_a_program_are_tapped_by_their_names(programs: dict[str, Any]) -> None:
    made = TorchBackend(program=str(programs["folder"] / "relu.pt2"))
    assert made.signature() == (ModelInput("input", (None, *SHAPE), "float32"),)
    graph = made.graph({"input": batch(2)})
    assert [(tap.name, tap.op, tap.shape, tap.layout) for tap in graph.taps if ":in" not in tap.name] == [
        ("input", "Input", SHAPE, "NCHW"),
        ("0", "Conv2d", (3, 2, 2), "NCHW"),
        ("1", "ReLU", (3, 2, 2), "NCHW"),
        ("2.0", "Flatten", (12,), "NC"),
        ("2.1", "Linear", (2,), "NC"),
        ("2", "Sequential", (2,), "NC"),
        ("output", "Sequential", (2,), "NC"),
    ]
    x = batch(5)
    found = run(made, ["0", "1", "2.1", "output"], input=x)
    module = programs["module"]
    with torch.no_grad():
        conv = module[0](torch.from_numpy(x))
        truth = {"0": conv, "1": conv.clamp(min=0), "2.1": module[2](conv.clamp(min=0))}
    truth["output"] = truth["2.1"]
    for name, value in truth.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_fingerprint_of_a_program_is_that_of_its_file(programs: dict[str, Any], tmp_path: pathlib.Path) -> None:
    folder = programs["folder"]
    relu, tanh = (TorchBackend(program=str(folder / f"{name}.pt2")).fingerprint() for name in ("relu", "tanh"))
    assert relu != tanh
    (tmp_path / "copy.pt2").write_bytes((folder / "relu.pt2").read_bytes())
    assert TorchBackend(program=str(tmp_path / "copy.pt2"), batch_size=2).fingerprint() == relu


def test_a_program_for_one_example_tells_its_batch_size(programs: dict[str, Any]) -> None:
    made = TorchBackend(program=str(programs["folder"] / "one.pt2"))
    assert made.signature() == (ModelInput("input", (1, *SHAPE), "float32"),)
    assert run(made, ["2"], input=batch(1))["2"].shape == (1, 2)
