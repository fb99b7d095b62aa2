"""The ``torch`` backend: a PyTorch module, tapped by hooks while it runs in eval mode without gradients."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, model_validator

from probekit.components import Array, Backend, Feed, Graph, ModelInput, ReducedFunction, TapFunction, Wanted
from probekit.errors import InputError, Problem
from probekit.hookspecs import hookimpl
from probekit.sections import SpecPath, fault, resolve_path, runtime_option, told_by_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from probekit.backends.torch_run import Place
    from probekit.steps import Masks

NAMED = ("torchvision", "timm")
"""Libraries whose models may be named without trusting code: names out of their own lists only."""
_WEIGHTS = ("weights", "pretrained", "weights_backbone", "pretrained_backbone", "checkpoint_path", "pretrained_cfg")
"""Arguments that would make a library fetch or read weights by itself."""


def _resolve_factory(text: str, info: ValidationInfo) -> str:
    source, colon, name = text.rpartition(":")
    if not colon or not source or not name:
        what = f"{text!r} names no factory"
        raise fault("PK-Y04", what, "write torchvision:resnet50, package.module:function or ./file.py:function")
    return f"{resolve_path(source, info)}:{name}" if source.endswith(".py") else text


class TorchBackend(Backend):
    """A PyTorch module that a factory makes, or a ``torch.export`` program."""

    kind: Literal["torch"] = "torch"
    factory: Annotated[str, AfterValidator(_resolve_factory)] | None = told_by_fingerprint(
        None,
        "torchvision:NAME or timm:NAME out of the library's own list; with --trust-code also "
        "package.module:function and ./file.py:function (relative to the spec)",
    )
    arguments: dict[str, str | int | float | bool | None] = told_by_fingerprint({}, "keyword arguments of the factory")
    weights: SpecPath | None = told_by_fingerprint(
        None, "a state dict, .safetensors or .pt (read without unpickling code)"
    )
    program: SpecPath | None = told_by_fingerprint(
        None, "instead of a factory: a .pt2 file of torch.export (trusted only)"
    )
    seed: int = told_by_fingerprint(0, "of the weights that the factory draws at random", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime_option(
        "auto", "what the model runs on; 'auto': a CUDA GPU, an Apple GPU, the CPU, the first that is there"
    )
    channels_last: bool = runtime_option(
        False, "store images with their channels last, which some machines compute faster; values differ by rounding"
    )
    autocast: Literal["bfloat16", "float16"] | None = Field(
        None, description="compute in this dtype where torch's autocast finds it safe; faster, and other values"
    )
    _random: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _one_source(self) -> TorchBackend:
        if (self.factory is None) == (self.program is None):
            raise fault("PK-Y29", "needs either 'factory' or 'program'")
        if self.program is not None and (self.weights is not None or self.arguments):
            raise fault("PK-Y29", "a program holds its own weights and takes no arguments")
        named = self.code_to_trust() is None
        if any(self.arguments.get(name) not in (None, False) for name in (_WEIGHTS if named else _WEIGHTS[:2])):
            hint = "give the file as weights: FILE.safetensors"
            raise fault("PK-Y29", "pretrained weights would be downloaded; probekit uses no network", hint)
        return self

    def code_to_trust(self) -> str | None:
        """Return the factory or program, None for a model out of a library's list."""
        if self.program is not None:
            return self.program
        assert self.factory is not None  # noqa: S101 - one of the two is given
        return None if self.factory.rpartition(":")[0] in NAMED else self.factory

    def signature(self) -> tuple[ModelInput, ...]:
        """Return what ``forward`` must be given and what else the spec binds; only a program knows shapes."""
        from probekit.backends.torch_model import forward_inputs, load_program

        if self.program is not None:
            return load_program(Path(self.program))[1]
        return tuple(ModelInput(name, None, None) for name in forward_inputs(self._build(), self.inputs))

    def graph(self, example: Feed | None = None) -> Graph:
        """Run the example once and return what every module took and gave, in execution order."""
        from probekit.backends.torch_graph import record_graph

        if example is None:
            raise InputError(Problem("PK-M22", "a torch model has to be run once to know its tensors", "name a spec"))
        place = self._place()
        return record_graph(place.put(self._build()), example, self._constant(), place)

    @contextmanager
    def open(self, taps: Sequence[str]) -> Iterator[TapFunction]:
        """Build the model once and tap it by hooks, which are removed at the end; batch axes stay where they are."""
        from probekit.backends.torch_taps import tapped

        place = self._place()
        with tapped(place.put(self._build()), taps, place) as run:
            yield run

    @contextmanager
    def open_reduced(self, wanted: Sequence[Wanted]) -> Iterator[ReducedFunction]:
        """Build the model once and reduce each tap in its hook, on the device; a pass ends after the last tap."""
        from probekit.backends.torch_reduced import reducing

        place = self._place()
        with reducing(place.put(self._build()), wanted, place, self._constant()) as run:
            yield run

    def compare(self, wanted: Sequence[Wanted], feed: Feed, masks: Masks) -> dict[str, Any]:
        """Return what the hooks change; with autocast or channels last, also what these change.

        PyTorch runs a module as it is written, so that there is no optimised graph to distrust.
        """
        from probekit.backends.torch_reduced import against_plain, against_untapped

        place = self._place()
        told: dict[str, Any] = {}
        if place.channels_last or place.autocast is not None:
            told["against_unoptimised"] = against_plain(self._build, wanted, place, feed, masks)
        untapped = against_untapped(place.put(self._build()), wanted, place, feed, masks)
        return told if untapped is None else {**told, "output_against_untapped": untapped}

    def with_checkpoint(self, path: str) -> TorchBackend:
        """Return the same model with the weights of a file, which are checked when it is built.

        Raises:
            InputError: ``PK-M55``, a program has no checkpoints.
        """
        if self.program is not None:
            what = f"a program holds its own weights and takes no checkpoints, got {path!r}"
            raise InputError(Problem("PK-M55", what, "name several models: models: {NAME: ...}", "model.checkpoints"))
        return self.model_copy(update={"weights": path})

    def with_random_weights(self, seed: int) -> TorchBackend:
        """Return what the factory makes under another seed; see :func:`probekit.backends.torch_factories.build_random`.

        Raises:
            InputError: ``PK-M57``, a program holds its own weights.
        """
        if self.program is not None:
            what = "a program of torch.export holds its own weights and cannot be made anew with random ones"
            raise InputError(Problem("PK-M57", what, "give the module's factory, or leave random_weights out"))
        twin = self.model_copy(update={"weights": None, "checkpoints": None, "output": None, "seed": seed})
        twin._random = True
        return twin

    def fingerprint(self) -> str:
        """Return the digest of the code, its arguments, the parameters, the buffers and the modules' own attributes."""
        from probekit.backends.torch_factories import code_of
        from probekit.backends.torch_model import attributes

        if self.program is not None:
            self._build()
            return hashlib.blake2b(Path(self.program).read_bytes(), digest_size=16).hexdigest()
        assert self.factory is not None  # noqa: S101 - one of the two is given
        module = self._build()
        digest = hashlib.blake2b(code_of(self.factory) + repr(module).encode(), digest_size=16)
        # What an argument does need not show in the description: googlenet's transform_input, a random projection ...
        digest.update(json.dumps(self.arguments, sort_keys=True).encode())
        plain, tensors = attributes(module)
        digest.update(repr(plain).encode())
        for name, tensor in sorted(
            {**tensors, **dict(module.named_parameters()), **dict(module.named_buffers())}.items()
        ):
            value: Array = tensor.detach().cpu().contiguous().flatten().view(_bytes()).numpy()
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def runtime(self) -> dict[str, Any]:
        """Return torch's version, the device and the threads."""
        import torch

        device = self._place().device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()}

    def _place(self) -> Place:
        import torch

        from probekit.backends.torch_run import Place, find_device

        autocast = getattr(torch, self.autocast) if self.autocast is not None else None
        return Place(find_device(self.device), self.channels_last, autocast)

    def _constant(self) -> list[str]:
        return [name for name, binding in self.inputs.items() if binding.column is None]

    def _build(self) -> nn.Module:
        from probekit.backends import torch_factories, torch_model

        if self.program is not None:
            return torch_model.load_program(Path(self.program))[0].eval()
        assert self.factory is not None  # noqa: S101 - one of the two is given
        make = torch_factories.build_random if self._random else torch_factories.build
        module = make(self.factory, self.arguments, self.seed)
        if self.weights is not None:
            torch_model.load_weights(module, Path(self.weights))
        return module.eval()


def _bytes() -> Any:
    import torch

    return torch.uint8


@hookimpl
def register_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [TorchBackend]
