"""A PyTorch module with a probe: it gives its own output and the probe's probabilities."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from probekit.backends.torch_programs import TapPrograms, to_numpy
from probekit.backends.torch_steps import BatchMasks
from probekit.backends.torch_taps import input_tap, module_of, not_reached, output_tap, watch
from probekit.errors import InputError, Problem, nearest
from probekit.steps import program_masks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array
    from probekit.saved.loaded import LoadedProbe


class ProbedModule(nn.Module):
    """A module and a probe on one of its tensors.

    ``forward`` takes what the module takes and returns (the module's own output, probabilities): float32, shape (rows,
    outputs), on the device of the tapped tensor; for a number its value. Hooks are there during a call only. The
    probabilities carry no gradient; those of the module's own output are as without the probe.

    A mask of the reduction is taken from the module's argument that the run fed with it; another one is given as
    ``probe_masks={NAME: tensor}``, shape (batch, positions).

    Args:
        module: as in the run; it is neither copied nor changed.
        probe: the saved probe.

    Raises:
        InputError: ``PK-M26`` the module has no such tap, ``PK-X15`` the reduction cannot be saved.
    """

    def __init__(self, module: nn.Module, probe: LoadedProbe) -> None:
        super().__init__()
        wanted = probe.wanted()
        _refuse_unknown_tap(module, wanted.tap.name)
        self.module, self.probe, self.training = module, probe, module.training
        self._tap, self._masks = wanted.tap.name, program_masks(wanted.program)
        self._features = TapPrograms({0: wanted.program})
        self._sources = {one.source: name for name, one in probe.recipe.model.inputs.items() if one.source is not None}
        self._linear: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def forward(
        self, *args: Any, probe_masks: Mapping[str, torch.Tensor] | None = None, **kwargs: Any
    ) -> tuple[Any, torch.Tensor]:
        """Run the module once.

        Raises:
            InputError: ``PK-M26`` the module did not reach the tap, ``PK-M20`` its size is another than in the run,
                ``PK-M54`` a mask is absent.
        """
        masks = self._given_masks(args, kwargs, probe_masks or {})
        found: list[torch.Tensor] = []

        def seen(_: nn.Module, name: str, tensor: torch.Tensor) -> None:
            if name == self._tap and not found:
                found.append(self._probabilities(tensor, masks))

        owner = module_of(self._tap, dict(self.module.named_modules()))
        with watch(self.module, [owner] if owner else [], seen):
            output = self.module(*args, **kwargs)
        if not found:
            raise not_reached([self._tap])
        return output, found[0]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_features"} | {"_linear": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch gives it no types
        self._features = TapPrograms({0: self.probe.wanted().program})

    @torch.no_grad()
    def _probabilities(self, tensor: torch.Tensor, masks: Mapping[str, Array]) -> torch.Tensor:
        features = self._features(tensor, BatchMasks(masks, tensor.device))[0]
        if features.ndim != 2 or features.shape[1] != self.probe.n_features_in_:
            what = (
                f"tap {self._tap!r} of shape {tuple(tensor.shape)} gives features of shape {tuple(features.shape)}, "
                f"the probe takes {self.probe.n_features_in_}"
            )
            raise InputError(Problem("PK-M20", what, "give the model inputs of the run's size"))
        weights, bias = self._on(features.device)
        with torch.autocast(features.device.type, enabled=False):
            scores = features.to(weights.dtype) @ weights.T + bias
            if self.probe.task == "classes":
                scores = scores.softmax(dim=1)
            elif self.probe.task == "multilabel":
                scores = scores.sigmoid()
        return scores.float()

    def _on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return W and b on a device, in float64 where it has that."""
        if device not in self._linear:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            linear = self.probe.linear
            both = (torch.tensor(array).to(dtype).to(device) for array in (linear.weights, linear.bias))
            self._linear[device] = (next(both), next(both))
        return self._linear[device]

    def _given_masks(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: Mapping[str, torch.Tensor]
    ) -> dict[str, Array]:
        named = {**dict(zip(_parameters(self.module), args, strict=False)), **kwargs}
        masks = {}
        for name in self._masks:
            tensor = given.get(name)
            if tensor is None:
                tensor = named.get(self._sources.get(name, ""))
            if tensor is None:
                what = f"the probe's features need the mask {name!r}"
                raise InputError(Problem("PK-M54", what, f"give probe_masks={{{name!r}: tensor}}"))
            masks[name] = to_numpy(tensor)
        return masks


def _parameters(module: nn.Module) -> list[str]:
    """Return the names of all arguments of ``forward``, also of those that need not be given."""
    return list(inspect.signature(module.forward).parameters)


def _refuse_unknown_tap(module: nn.Module, tap: str) -> None:
    """Refuse a tap whose module is not there; whether a call reaches it is known when it is made."""
    modules = dict(module.named_modules())
    root = [*(input_tap(name, modules) for name in _parameters(module)), output_tap(modules)]
    known = module_of(tap, modules) or any(tap == name or tap.startswith(f"{name}[") for name in root)
    if not known:
        hint = nearest(tap, [*root, *filter(None, modules)], "taps")
        what = f"the module has no tap {tap!r}"
        raise InputError(Problem("PK-M26", what, f"{hint}; for a run of an ONNX model type: probekit export"))
