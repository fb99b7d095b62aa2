"""Factories, weights and programs against plain torch: nothing is fetched, nothing is unpickled but tensors."""

import gzip
import pathlib
import pickle
import socket
import sys
import textwrap
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from probekit.backends.torch_factories import build, code_of
from probekit.backends.torch_model import forward_inputs, load_program, load_weights
from probekit.backends.torch_run import call
from probekit.components import ModelInput
from probekit.errors import MachineError

Refused = Callable[[Callable[[], Any]], list[tuple[str, str]]]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any, **__: Any) -> None:
        pytest.fail("something wants the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", connect)


def write(path: pathlib.Path, code: str) -> str:
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    return str(path)


def same(module: nn.Module, other: nn.Module) -> bool:
    state, truth = module.state_dict(), other.state_dict()
    return state.keys() == truth.keys() and all(torch.equal(state[name], truth[name]) for name in truth)


# --- factories -------------------------------------------------------------------------------------------------------


def test_a_name_out_of_torchvisions_list_is_built_without_weights_from_the_seed() -> None:
    import torchvision

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        truth = torchvision.models.squeezenet1_1(num_classes=4)
    before = torch.get_rng_state()
    assert same(build("torchvision:squeezenet1_1", {"num_classes": 4}, 3), truth)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(build("torchvision:squeezenet1_1", {"num_classes": 4}, 4), truth)


def test_a_model_with_a_backbone_is_built_without_fetching_the_backbones_weights() -> None:
    module = build("torchvision:lraspp_mobilenet_v3_large", {"num_classes": 3}, 0)
    assert type(module).__name__ == "LRASPP"


def test_only_names_out_of_torchvisions_list_are_models(refused: Refused) -> None:
    what = "model.factory: torchvision has no model 'resnet5'; did you mean 'resnet50'?"
    assert refused(lambda: build("torchvision:resnet5", {}, 0)) == [("PK-M51", what)]
    ((code, _),) = refused(lambda: build("torchvision:get_model", {"name": "resnet18"}, 0))
    assert code == "PK-M51"


def test_a_library_that_is_not_installed_is_named(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    what = "model.factory: timm is not installed; type: pip install timm"
    assert refused(lambda: build("timm:resnet18", {}, 0)) == [("PK-E01", what)]
    what = "model.factory: torchvision is not installed; type: pip install 'probekit-platform[vision]'"
    assert refused(lambda: build("torchvision:resnet18", {}, 0)) == [("PK-E01", what)]
    with pytest.raises(MachineError):
        build("timm:resnet18", {}, 0)


NET = """
    from __future__ import annotations
    import dataclasses
    from torch import nn

    @dataclasses.dataclass
    class Config:
        width: int = 4

    class Net(nn.Module):
        def __init__(self, width: int = 4, bias: bool = True):
            super().__init__()
            self.linear = nn.Linear(3, Config(width).width, bias=bias)

        def forward(self, x):
            return self.linear(x)

    def make(**arguments):
        return Net(**arguments)

    def number():
        return 7

    def fail():
        raise LookupError("no config")

    value = 3
"""


def plain(width: int = 4, bias: bool = True, seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, width, bias=bias)


@pytest.mark.parametrize("name", ["make", "Net"])
def test_a_function_or_class_of_a_file_is_built_with_its_arguments(tmp_path: pathlib.Path, name: str) -> None:
    path = write(tmp_path / "net.py", NET)
    module = build(f"{path}:{name}", {"width": 6, "bias": False}, 5)
    assert same(module.linear, plain(6, bias=False, seed=5))


def test_two_files_of_one_name_stay_apart(tmp_path: pathlib.Path) -> None:
    for folder, width in (("a", 2), ("b", 5)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "net.py", f"from torch import nn\ndef make(): return nn.Linear({width}, {width})\n")
    assert build(f"{tmp_path}/a/net.py:make", {}, 0).in_features == 2
    assert build(f"{tmp_path}/b/net.py:make", {}, 0).in_features == 5
    assert build(f"{tmp_path}/a/net.py:make", {}, 0).in_features == 2


def test_a_function_of_an_importable_module_is_built(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package").mkdir()
    write(tmp_path / "own_package" / "__init__.py", "")
    write(tmp_path / "own_package" / "nets.py", NET)
    monkeypatch.syspath_prepend(tmp_path)
    assert same(build("own_package.nets:make", {"width": 2}, 1).linear, plain(2, seed=1))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mak", "'{file}' has no function 'mak'; did you mean 'make'?"),
        ("value", "'{file}' has no function 'value'; valid: Config, Net, fail, make, number"),
        ("number", "the factory 'number' gave 'int', not a torch.nn.Module"),
        ("fail", "the factory 'fail' raised LookupError: no config"),
    ],
)
def test_a_factory_that_gives_no_module_says_why(
    refused: Refused, tmp_path: pathlib.Path, name: str, what: str
) -> None:
    file = write(tmp_path / "net.py", NET)
    assert refused(lambda: build(f"{file}:{name}", {}, 0)) == [("PK-M51", f"model.factory: {what.format(file=file)}")]


def test_wrong_arguments_are_told(refused: Refused, tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "net.py", NET)
    ((code, text),) = refused(lambda: build(f"{file}:Net", {"depth": 2}, 0))
    assert (code, text) == (
        "PK-M51",
        "model.factory: the factory 'Net' raised TypeError: Net.__init__() got an unexpected keyword argument 'depth'",
    )


def test_code_that_cannot_be_imported_says_why(refused: Refused, tmp_path: pathlib.Path) -> None:
    write(tmp_path / "network.py", "")
    absent = f"'{tmp_path}/netwrk.py' cannot be imported: FileNotFoundError: no such file; did you mean 'network.py'?"
    assert refused(lambda: build(f"{tmp_path}/netwrk.py:make", {}, 0)) == [("PK-M51", f"model.factory: {absent}")]
    what = "model.factory: 'no_such_package' cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"
    assert refused(lambda: build("no_such_package:make", {}, 0)) == [("PK-M51", what)]
    broken = write(tmp_path / "broken.py", "raise OSError('no disk')\n")
    what = f"model.factory: '{broken}' cannot be imported: OSError: no disk"
    loaded = set(sys.modules)
    assert refused(lambda: build(f"{broken}:make", {}, 0)) == [("PK-M51", what)]
    assert not [name for name in set(sys.modules) - loaded if "broken" in name]


def test_the_code_of_a_factory_is_its_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "own_nets_2.py", NET)
    monkeypatch.syspath_prepend(tmp_path)
    source = (tmp_path / "own_nets_2.py").read_bytes()
    assert code_of(f"{file}:make") == code_of("own_nets_2:make") == source
    assert code_of("torchvision:resnet18") == b""


# --- weights ---------------------------------------------------------------------------------------------------------


def net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def other_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 7
        for name, tensor in net().state_dict().items()
    }


def save(state: Any, path: pathlib.Path, *, old: bool = False) -> None:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not old)


@pytest.mark.parametrize(("name", "old"), [("w.safetensors", False), ("w.pt", False), ("w.pth", True)])
def test_a_state_dict_is_loaded_bit_for_bit(tmp_path: pathlib.Path, name: str, old: bool) -> None:
    module, state = net(), other_state()
    save(state, tmp_path / name, old=old)
    load_weights(module, tmp_path / name)
    loaded = module.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_all_that_does_not_fit_is_told_at_once_and_nothing_is_loaded(
    refused: Refused, tmp_path: pathlib.Path, name: str
) -> None:
    module, state = net(), other_state()
    del state["0.bias"], state["2.bias"]
    state["2.weight"] = torch.ones(2, 5)
    state |= {f"head.{i}": torch.ones(1) for i in range(7)}
    save(state, tmp_path / name)
    extra = "'head.0', 'head.1', 'head.2', 'head.3', 'head.4' and 2 more"
    assert refused(lambda: load_weights(module, tmp_path / name)) == [
        ("PK-M45", f"model.weights: 2 missing keys in '{name}': '0.bias', '2.bias'"),
        ("PK-M45", f"model.weights: 7 unexpected keys in '{name}': {extra}"),
        ("PK-M46", f"model.weights: '2.weight' is (2, 5) in '{name}', (2, 4) in the model"),
    ]
    assert same(module, net())


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (MARK,)


MARK = pathlib.Path()
HINT = "save it as .safetensors: safetensors.torch.save_file(model.state_dict(), FILE)"


@pytest.fixture
def mark(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(sys.modules[__name__], "MARK", tmp_path / "mark")
    return tmp_path / "mark"


@pytest.mark.parametrize("old", [False, True])
def test_code_in_a_checkpoint_does_not_run_and_its_class_is_named(
    refused: Refused, tmp_path: pathlib.Path, mark: pathlib.Path, old: bool
) -> None:
    path = tmp_path / "evil.pt"
    save({"0.weight": torch.ones(1), "x": Runs()}, path, old=old)
    torch.load(path, weights_only=False)
    assert mark.exists(), "the trap works"
    mark.unlink()
    ((code, text),) = refused(lambda: load_weights(net(), path))
    assert not mark.exists()
    assert code == "PK-M44"
    assert text.startswith("model.weights: 'evil.pt' holds pickled objects of ")
    assert text.endswith(f", which are not loaded: they could run code; {HINT}")
    assert "Path" in text or "getattr" in text


def test_a_whole_pickled_module_is_refused_by_its_class(refused: Refused, tmp_path: pathlib.Path) -> None:
    torch.save(net(), tmp_path / "module.pt")
    what = "'module.pt' holds pickled objects of torch.nn.modules.container.Sequential, which are not loaded: "
    what += f"they could run code; {HINT}"
    assert refused(lambda: load_weights(net(), tmp_path / "module.pt")) == [("PK-M44", f"model.weights: {what}")]


def test_a_plain_pickle_is_refused_without_running(
    refused: Refused, tmp_path: pathlib.Path, mark: pathlib.Path
) -> None:
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Runs(), protocol=2))
    ((code, _),) = refused(lambda: load_weights(net(), tmp_path / "plain.pt"))
    assert code == "PK-M44"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "code", "what"),
    [
        (b"", "PK-M05", "'{path}' is empty; export or copy it again"),
        (b"<!doctype html>", "PK-M03", "'{path}' is an HTML page; download it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "PK-M04",
            "'{path}' is a Git LFS pointer; type: git lfs pull",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(
    refused: Refused, tmp_path: pathlib.Path, suffix: str, content: bytes, code: str, what: str
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert refused(lambda: load_weights(net(), path)) == [(code, f"model.weights: {what.format(path=path)}")]


@pytest.mark.parametrize("state", [{"state_dict": {"0.weight": torch.ones(1)}}, [torch.ones(1)], {1: torch.ones(1)}, 7])
def test_a_checkpoint_that_is_no_state_dict_is_refused(refused: Refused, tmp_path: pathlib.Path, state: Any) -> None:
    torch.save(state, tmp_path / "w.pt")
    what = f"model.weights: 'w.pt' holds no state dict (names to tensors); {HINT}"
    assert refused(lambda: load_weights(net(), tmp_path / "w.pt")) == [("PK-M44", what)]


def test_absent_weights_are_answered_with_the_nearest(refused: Refused, tmp_path: pathlib.Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"x")
    what = f"model.weights: no file '{tmp_path}/bets.pt'; did you mean 'best.pt'?"
    assert refused(lambda: load_weights(net(), tmp_path / "bets.pt")) == [("PK-M01", what)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("saved")
    for name, old in (("w.pt", False), ("w.pth", True), ("w.safetensors", False)):
        save(other_state(), folder / name, old=old)
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns of a strange pickle protocol before it refuses it
@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["w.pt", "w.pth", "w.safetensors"]), st.data())
def test_a_checkpoint_that_is_cut_off_is_refused(
    refused: Refused, saved: pathlib.Path, name: str, data: st.DataObject
) -> None:
    content = (saved / name).read_bytes()
    path = saved / f"cut-{name}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content) - 1))])
    module = net()
    problems = refused(lambda: load_weights(module, path))
    assert {code for code, _ in problems} <= {"PK-M02", "PK-M44", "PK-M45"}
    assert all(text.startswith("model.weights: ") and "\n" not in text and "\x1b" not in text for _, text in problems)
    assert same(module, net())


@pytest.mark.filterwarnings("ignore::UserWarning")  # as above
@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["w.pt", "w.safetensors"]), st.binary(min_size=1, max_size=300))
def test_noise_is_refused_as_weights(refused: Refused, saved: pathlib.Path, name: str, content: bytes) -> None:
    path = saved / f"noise-{name}"
    path.write_bytes(content)
    ((code, text),) = refused(lambda: load_weights(net(), path))
    assert code in {"PK-M02", "PK-M03", "PK-M04", "PK-M44"}
    assert text.startswith("model.weights: ")


@pytest.mark.parametrize("name", ["inner.zip", "archive/data.pt", "archive/data/inner.zip", "x.gz"])
def test_an_archive_inside_a_checkpoint_is_refused_before_anything_is_unpacked(
    refused: Refused, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    inner = gzip.compress(b"x") if name.endswith("gz") else b"PK\x03\x04 and so on"
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("archive/version", "3")
        archive.writestr(name, inner)
    what = f"model.weights: 'w.pt' holds another archive, {name!r}; it is not unpacked; {HINT}"
    assert refused(lambda: load_weights(net(), tmp_path / "w.pt")) == [("PK-M49", what)]


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused_before_it_is_unpacked(
    refused: Refused, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(4_000_000))
    what = f"'w.pt' declares 4000000 bytes in a file of {path.stat().st_size}; it is not unpacked; {HINT}"
    assert refused(lambda: load_weights(net(), path)) == [("PK-M49", f"model.weights: {what}")]


def test_tensors_whose_bytes_look_like_an_archive_are_tensors(tmp_path: pathlib.Path) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(4000, dtype=torch.uint8))

    state = {"table": torch.tensor([*b"PK\x03\x04", *bytes(3996)], dtype=torch.uint8)}
    torch.save(state, tmp_path / "w.pt")
    module = Table()
    load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module.table, state["table"])


# --- programs --------------------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(12, 2)

    def forward(self, image: torch.Tensor, scale: torch.Tensor, *, shift: torch.Tensor) -> torch.Tensor:
        h = self.relu(self.relu(self.conv(image)) * scale[:, None, None, None])
        return self.fc(h.flatten(1)) + shift


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, pathlib.Path, pathlib.Path]:
    """A module, its program for any batch, and its program for a batch of one."""
    folder = tmp_path_factory.mktemp("programs")
    module = TwoInputs().eval()
    args, kwargs = (torch.zeros(2, 1, 2, 2), torch.ones(2)), {"shift": torch.zeros(2, 2)}
    batch = torch.export.Dim("batch")
    shapes = {"image": {0: batch}, "scale": {0: batch}, "shift": {0: batch}}
    torch.export.save(torch.export.export(module, args, kwargs, dynamic_shapes=shapes), folder / "any.pt2")
    one = torch.export.export(module, tuple(a[:1] for a in args), {"shift": kwargs["shift"][:1]})
    torch.export.save(one, folder / "one.pt2")
    return module, folder / "any.pt2", folder / "one.pt2"


def test_a_program_tells_its_inputs_and_gives_the_modules_own_values(
    program: tuple[nn.Module, pathlib.Path, pathlib.Path],
) -> None:
    module, path, _ = program
    loaded, inputs = load_program(path)
    assert inputs == (
        ModelInput("image", (None, 1, 2, 2), "float32"), ModelInput("scale", (None,), "float32"),
        ModelInput("shift", (None, 2), "float32"),
    )  # fmt: skip
    assert forward_inputs(loaded) == ["image", "scale", "shift"]
    rng = np.random.default_rng(0)
    feed = {"shift": rng.random((5, 2)), "image": rng.random((5, 1, 2, 2)), "scale": rng.random(5)}
    feed = {name: array.astype(np.float32) for name, array in feed.items()}
    with torch.no_grad():
        truth = module(**{name: torch.from_numpy(array) for name, array in feed.items()})
    assert torch.allclose(call(loaded, feed), truth, atol=1e-6)


def test_a_program_for_one_example_says_so(program: tuple[nn.Module, pathlib.Path, pathlib.Path]) -> None:
    _, _, path = program
    assert [one.shape for one in load_program(path)[1]] == [(1, 1, 2, 2), (1,), (1, 2)]


def test_a_file_that_is_no_program_is_refused(refused: Refused, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.pt2"
    path.write_bytes(b"nothing")
    what = f"model.program: '{path}' is no torch.export program: it is not a zip file"
    assert refused(lambda: load_program(path)) == [("PK-M02", what)]
    path.write_bytes(b"")
    assert refused(lambda: load_program(path))[0][0] == "PK-M05"
    what = f"model.program: no file '{tmp_path}/q.pt2'; did you mean 'p.pt2'?"
    assert refused(lambda: load_program(tmp_path / "q.pt2")) == [("PK-M01", what)]


# --- inputs ----------------------------------------------------------------------------------------------------------


class Signature(nn.Module):
    def forward(self, a: Any, /, b: Any, c: Any = None, *rest: Any, d: Any, e: Any = 1, **more: Any) -> Any:
        return a + b + d + e


def test_forward_needs_what_has_no_default_and_takes_what_is_bound() -> None:
    assert forward_inputs(Signature()) == ["a", "b", "d"]
    assert forward_inputs(Signature(), ["e", "zzz"]) == ["a", "b", "d", "e"]
    assert forward_inputs(nn.Sequential(nn.ReLU())) == ["input"]


def test_inputs_of_any_dtype_are_fed_by_name() -> None:
    feed = {name: np.full((2, 3), i, dtype) for i, (name, dtype) in enumerate(
        [("a", np.int64), ("b", np.float64), ("d", np.int32), ("e", np.uint8)]
    )}  # fmt: skip
    assert torch.equal(call(Signature(), feed), torch.full((2, 3), 6.0, dtype=torch.float64))


def test_inputs_that_the_model_refuses_are_told_with_their_shapes(refused: Refused) -> None:
    feed = {"input": np.ones((2, 5), np.float32)}
    ((code, text),) = refused(lambda: call(nn.Sequential(nn.Linear(3, 4)), feed))
    assert code == "PK-M23"
    assert text == (
        "model: the model refuses its inputs (input (2, 5) float32): mat1 and mat2 shapes cannot be multiplied "
        "(2x5 and 3x4)"
    )
