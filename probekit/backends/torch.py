"""The ``torch`` backend: a PyTorch module, tapped by hooks while it runs in eval mode without gradients."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from probekit.components import Array, Backend, Feed, Graph, ModelInput, TapFunction
from probekit.errors import InputError, Problem
from probekit.hookspecs import hookimpl
from probekit.sections import SpecPath, fault, resolve_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

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
    factory: Annotated[str, AfterValidator(_resolve_factory)] | None = Field(
        None,
        description="torchvision:NAME or timm:NAME out of the library's own list; with --trust-code also "
        "package.module:function and ./file.py:function (relative to the spec)",
    )
    arguments: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict, description="keyword arguments of the factory"
    )
    weights: SpecPath | None = Field(
        None, description="a state dict, .safetensors or .pt (read without unpickling code)"
    )
    program: SpecPath | None = Field(
        None, description="instead of a factory: a .pt2 file of torch.export (trusted only)"
    )
    seed: int = Field(0, ge=0, description="of the weights that the factory draws at random")

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
        constant = [name for name, binding in self.inputs.items() if binding.column is None]
        return record_graph(self._build(), example, constant)

    @contextmanager
    def open(self, taps: Sequence[str]) -> Iterator[TapFunction]:
        """Build the model once and tap it by hooks, which are removed at the end."""
        from probekit.backends.torch_taps import tapped

        with tapped(self._build(), taps) as run:
            yield run

    def fingerprint(self) -> str:
        """Return the digest of the code, the parameters, the buffers and the modules' own descriptions."""
        from probekit.backends.torch_model import code_of

        if self.program is not None:
            self._build()
            return hashlib.blake2b(Path(self.program).read_bytes(), digest_size=16).hexdigest()
        assert self.factory is not None  # noqa: S101 - one of the two is given
        module = self._build()
        digest = hashlib.blake2b(code_of(self.factory) + repr(module).encode(), digest_size=16)
        for name, tensor in sorted({**dict(module.named_parameters()), **dict(module.named_buffers())}.items()):
            value: Array = tensor.detach().cpu().contiguous().flatten().view(_bytes()).numpy()
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def runtime(self) -> dict[str, Any]:
        """Return torch's version, the device and the threads."""
        import torch

        return {"torch": torch.__version__, "device": "cpu", "threads": torch.get_num_threads()}

    def _build(self) -> nn.Module:
        from probekit.backends import torch_model

        if self.program is not None:
            return torch_model.load_program(Path(self.program))[0]
        assert self.factory is not None  # noqa: S101 - one of the two is given
        module = torch_model.build(self.factory, self.arguments, self.seed)
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
