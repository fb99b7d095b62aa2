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
from probekit.components import InputBinding, ModelInput, Wanted
from probekit.errors import UserError
from probekit.steps import BatchFirst, Flatten, Mean, Program, Std

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
    assert [(tap.name, tap.batch_axis, tap.shape) for tap in graph.taps] == [
        ("state", 1, (3,)), ("x", 0, (4,)), ("output", 0, (4,)),
    ]  # fmt: skip
    feed = {"state": np.zeros((3, 4), np.float32), "x": np.zeros((4, 4), np.float32)}
    wanted = [
        Wanted(graph.tap(name), (BatchFirst(axis), Flatten()), w) for name, axis, w in (("state", 1, 3), ("x", 0, 4))
    ]
    with made.open_reduced(wanted) as function:
        assert [array.shape for array in function(feed, {})] == [(4, 3), (4, 4)]


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
    told = TorchBackend(factory=f"{file}:make", device="cpu").runtime()
    assert told == {"torch": torch.__version__, "device": "cpu", "threads": torch.get_num_threads()}


# --- features --------------------------------------------------------------------------------------------------------

NAMES = ["image", "conv", "norm", "act", "drop", "fc", "output"]


def wanted(made: TorchBackend, names: list[str]) -> list[Wanted]:
    """Means over positions and, of everything, all values."""
    graph = made.graph({"image": batch(2)})
    found = []
    for tap in (graph.tap(name) for name in names):
        if len(tap.shape) == 3:
            found.append(Wanted(tap, (Mean((2, 3)), Flatten()), tap.shape[0]))
            found.append(Wanted(tap, (Std((2, 3)), Flatten()), tap.shape[0]))
        found.append(Wanted(tap, (Flatten(),), int(np.prod(tap.shape))))
    return found


def features(made: TorchBackend, asked: list[Wanted], x: Any) -> list[Any]:
    with made.open_reduced(asked) as function:
        return list(function({"image": x}, {}))


def plain_features(made: TorchBackend, asked: list[Wanted], x: Any) -> list[Any]:
    with super(TorchBackend, made).open_reduced(asked) as function:
        return list(function({"image": x}, {}))


@pytest.mark.parametrize("options", [{}, {"channels_last": True}])
def test_features_are_those_of_raw_activations_reduced_in_numpy(file: pathlib.Path, options: dict[str, Any]) -> None:
    plain = TorchBackend(factory=f"{file}:make", seed=1)
    made = plain.model_copy(update=options)
    asked = wanted(plain, NAMES)
    for got, truth in zip(features(made, asked, batch(5)), plain_features(plain, asked, batch(5)), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-5)


def test_channels_last_reaches_the_model_and_leaves_the_sizes(nets: Any) -> None:
    seen = []
    made = TorchBackend(factory=f"{nets.__name__}:make", channels_last=True, arguments={"width": 8})
    with made.open(["conv"]) as function:
        nets.BUILT[-1].norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        assert function({"image": batch(3)})["conv"].shape == (3, 8, 4, 4)
        assert nets.BUILT[-1].conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_autocast_computes_in_its_dtype_and_features_stay_float32(file: pathlib.Path, dtype: str) -> None:
    plain = TorchBackend(factory=f"{file}:make", seed=1)
    made = plain.model_copy(update={"autocast": dtype})
    assert made.graph({"image": batch(2)}).tap("conv").dtype == dtype
    asked = wanted(plain, NAMES)
    pairs = list(zip(features(made, asked, batch(5)), features(plain, asked, batch(5)), strict=True))
    for got, truth in pairs:
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, truth, rtol=0.05, atol=0.05)
    assert any((got != truth).any() for got, truth in pairs)
    for got, truth in zip(features(made, asked, batch(5)), plain_features(made, asked, batch(5)), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-6)


def test_the_model_is_put_into_eval_mode_for_features_too_and_is_left_without_hooks(nets: Any) -> None:
    made = TorchBackend(factory=f"{nets.__name__}:make")
    asked = wanted(made, ["conv", "output"])
    with made.open_reduced(asked) as function:
        module = nets.BUILT[-1]
        before = copy.deepcopy(dict(module.named_parameters()) | dict(module.named_buffers()))
        one, two = (function({"image": batch(4)}, {}) for _ in range(2))
        assert not any(part.training for part in module.modules())
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    after = dict(module.named_parameters()) | dict(module.named_buffers())
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_hooks_change_nothing_and_precision_is_compared_where_it_is_asked(file: pathlib.Path) -> None:
    made = TorchBackend(factory=f"{file}:make", seed=1)
    asked = wanted(made, NAMES)
    assert made.compare(asked, {"image": batch(4)}, {}) == {"output_against_untapped": 0.0}
    for options, least, most in (({"channels_last": True}, 0.0, 1e-5), ({"autocast": "bfloat16"}, 1e-6, 0.1)):
        told = made.model_copy(update=options).compare(asked, {"image": batch(4)}, {})
        assert told["output_against_untapped"] == 0.0
        assert told["against_unoptimised"].keys() == set(NAMES)
        assert least <= max(told["against_unoptimised"].values()) <= most
        assert told["against_unoptimised"]["image"] == 0.0


def test_a_comparison_tells_of_a_model_that_looks_at_its_hooks(tmp_path: pathlib.Path) -> None:
    code = """
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.act = nn.Tanh()

            def forward(self, image):
                return self.act(image) * (2 if self.act._forward_hooks else 1)
    """
    (tmp_path / "looks.py").write_text(textwrap.dedent(code), encoding="utf-8")
    made = TorchBackend(factory=f"{tmp_path}/looks.py:Net")
    told = made.compare(wanted(made, ["act"]), {"image": batch(3)}, {})
    assert told == {"output_against_untapped": 1.0}


def test_a_fault_while_comparing_is_the_one_of_the_pass(file: pathlib.Path, refused: Refused) -> None:
    made = TorchBackend(factory=f"{file}:make")
    program: Program = (Mean((2, 3)), Flatten())
    wrong = Wanted(made.graph({"image": batch(2)}).tap("conv"), program, 9)
    ((code, _),) = refused(lambda: made.compare([wrong], {"image": batch(3)}, {}))
    assert code == "PK-M20"


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_here_is_refused(file: pathlib.Path, refused: Refused) -> None:
    assert TorchBackend(factory=f"{file}:make").runtime()["device"] == "cpu"
    for device in ("cuda", "mps"):
        made = TorchBackend(factory=f"{file}:make", device=device)
        what = f"model.device: the device {device!r} is not available here; available: cpu"
        for refusing in (made.runtime, lambda made=made: made.graph({"image": batch(2)})):
            assert refused(refusing) == [("PK-E02", what)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_features_of_the_cpu(file: pathlib.Path) -> None:
    made = TorchBackend(factory=f"{file}:make", device="cuda", seed=1)
    plain = made.model_copy(update={"device": "cpu"})
    asked = wanted(plain, NAMES)
    before = torch.backends.cudnn.allow_tf32
    for got, truth in zip(features(made, asked, batch(5)), features(plain, asked, batch(5)), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-4, atol=1e-4)
    assert torch.backends.cudnn.allow_tf32 == before
    with made.open_reduced(asked) as function:
        first = [array.copy() for array in function({"image": batch(5)}, {})]
        kept = function({"image": batch(5)}, {})
        function({"image": batch(5, 1)}, {})
    assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_the_same_model_with_other_weights(nets: Any, tmp_path: pathlib.Path) -> None:
    made = TorchBackend(factory=f"{nets.__name__}:make", arguments={"width": 3}, batch_size=7)
    trained = nets.Net(width=3)
    save_file(trained.state_dict(), tmp_path / "step_1.safetensors")
    later = made.with_checkpoint(str(tmp_path / "step_1.safetensors"))
    assert later == made.model_copy(update={"weights": str(tmp_path / "step_1.safetensors")})
    assert later.identity() == made.identity()
    assert later.fingerprint() != made.fingerprint()
    with torch.no_grad():
        truth = trained.eval()(torch.from_numpy(batch(3))).numpy()
    np.testing.assert_array_equal(run(later, ["output"], image=batch(3))["output"], truth)


def test_a_checkpoint_is_checked_like_weights(file: pathlib.Path, tmp_path: pathlib.Path) -> None:
    torch.save({"fc.bias": torch.zeros(5)}, tmp_path / "w.pt")
    made = TorchBackend(factory=f"{file}:make").with_checkpoint(str(tmp_path / "w.pt"))
    with pytest.raises(UserError) as caught:
        made.fingerprint()
    assert {problem.code for problem in caught.value.problems} == {"PK-M45", "PK-M46"}


def test_a_program_has_no_checkpoints(refused: Refused) -> None:
    what = "model.checkpoints: a program holds its own weights and takes no checkpoints, got 'w.pt'; "
    what += "name several models: models: {NAME: ...}"
    assert refused(lambda: TorchBackend(program="p.pt2").with_checkpoint("w.pt")) == [("PK-M55", what)]


# --- identity --------------------------------------------------------------------------------------------------------


def test_only_what_the_fingerprint_does_not_tell_enters_the_identity() -> None:
    made = TorchBackend(factory="torchvision:resnet18")
    same = TorchBackend(
        factory="torchvision:resnet50", arguments={"num_classes": 3}, weights="w.pt", seed=4, device="cpu",
        channels_last=True, batch_size=3,
    )  # fmt: skip
    assert same.identity() == TorchBackend(program="p.pt2").identity() == made.identity()
    assert made.identity() != TorchBackend(factory="torchvision:resnet18", autocast="bfloat16").identity()


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


def test_the_fingerprint_tells_arguments_and_attributes_that_no_description_shows(tmp_path: pathlib.Path) -> None:
    code = """
        import numpy as np
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self, gain=1.0, other=None):
                super().__init__()
                self.gain = {gain}
                self.mixing = torch.randn(3)
                self.table = np.array([0, {number}])

            def forward(self, x):
                return x * self.gain @ self.mixing
    """
    made = []
    for i, (gain, number) in enumerate([("gain", 1), ("gain", 1), ("gain", 2)]):
        path = tmp_path / f"net{i}.py"
        path.write_text(textwrap.dedent(code).format(gain=gain, number=number), encoding="utf-8")
        made.append(TorchBackend(factory=f"{path}:Net"))
    first = made[0].fingerprint()
    assert made[1].fingerprint() == first == made[0].fingerprint()
    others = [
        made[2], made[0].model_copy(update={"seed": 1}), made[0].model_copy(update={"arguments": {"gain": 2.0}}),
        made[0].model_copy(update={"arguments": {"other": "x"}}),
    ]  # fmt: skip
    assert len({first, *(one.fingerprint() for one in others)}) == 5


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


def test_a_program_gives_features_and_stops_early(programs: dict[str, Any]) -> None:
    made = TorchBackend(program=str(programs["folder"] / "relu.pt2"))
    tap = made.graph({"input": batch(2)}).tap("0")
    with made.open_reduced([Wanted(tap, (Mean((2, 3)), Flatten()), 3)]) as function:
        (found,) = function({"input": batch(5)}, {})
    np.testing.assert_allclose(found, run(made, ["0"], input=batch(5))["0"].mean((2, 3)), rtol=1e-5, atol=1e-6)


def test_a_program_for_one_example_tells_its_batch_size(programs: dict[str, Any]) -> None:
    made = TorchBackend(program=str(programs["folder"] / "one.pt2"))
    assert made.signature() == (ModelInput("input", (1, *SHAPE), "float32"),)
    assert run(made, ["2"], input=batch(1))["2"].shape == (1, 2)
