"""Which models are checked against which: those of one spec, or of two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from probekit.comparing.alignment import names_in_common
from probekit.errors import Problem, SpecError, listed, nearest
from probekit.reading import at_checkpoints

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.components import Backend
    from probekit.spec import LoadedSpec


@dataclass(frozen=True)
class Side:
    """A model, and the spec that says what is read from it.

    Args:
        called: what the views call it.
        model: its name in the spec.
        checkpoint: the checkpoint's name; None for the model as it is.
        loaded: the spec.
        backend: with its checkpoint's parameters.
    """

    called: str
    model: str
    checkpoint: str | None
    loaded: LoadedSpec
    backend: Backend


def choose_sides(loaded: Sequence[LoadedSpec], models: tuple[str, str] | None = None) -> list[tuple[Side, Side]]:
    """Return the pairs of models that are compared, the reference first.

    Of one spec, its first model is compared with each of the others, a checkpoint with the one of the same name. Of two
    specs, the models with the same name in both are compared, or the only ones.

    Args:
        loaded: one spec or two.
        models: the reference and the other one, each ``MODEL`` or ``MODEL@CHECKPOINT``; of two specs, one of each.

    Raises:
        SpecError: ``PK-X60``, there is no such model, or which are meant is not clear.
        InputError: a checkpoint's file cannot be found.
    """
    named = [_variants(one) for one in loaded]
    if models is not None:
        if len(named) == 1 and models[0] == models[1]:
            raise _unclear(f"{models[0]!r} would be compared with itself", "name another model")
        return [_told_apart(_of(named[0], models[0]), _of(named[-1], models[1]))]
    if len(named) == 1:
        return _of_one(loaded[0], named[0])
    names = names_in_common(list(named[0]), list(named[1]))
    if not names:
        there = f"{listed(named[0], 8)} and {listed(named[1], 8)}"
        raise _unclear(f"no model has the same name in both specs: there are {there}", _NAME)
    return [_told_apart(named[0][a], named[1][b]) for a, b in names]


_NAME = "name two with --models A B"


def _of_one(loaded: LoadedSpec, variants: Mapping[str, Side]) -> list[tuple[Side, Side]]:
    models = list(loaded.spec.named_models())
    if len(models) == 1:
        hint = "name a second spec, or give models: with two or more"
        if len(variants) > 1:
            hint = "name two of its checkpoints with --models A B, or a second spec"
        raise _unclear(f"{loaded.file!r} has one model, {models[0]!r}", hint)
    first = {side.checkpoint: side for side in variants.values() if side.model == models[0]}
    pairs = []
    for side in variants.values():
        if side.model == models[0]:
            continue
        if side.checkpoint not in first and len(first) > 1:
            what = f"which checkpoint of {models[0]!r} is the reference of {side.called!r} is not clear"
            raise _unclear(what, _NAME)
        pairs.append((first.get(side.checkpoint) or next(iter(first.values())), side))
    return pairs


def _variants(loaded: LoadedSpec) -> dict[str, Side]:
    found = {}
    for model, backend in loaded.spec.named_models().items():
        for checkpoint, one in at_checkpoints(backend):
            name = model if checkpoint is None else f"{model}@{checkpoint}"
            found[name] = Side(name, model, checkpoint, loaded, one)
    return found


def _of(variants: Mapping[str, Side], name: str) -> Side:
    if name not in variants:
        file = next(iter(variants.values())).loaded.file
        raise SpecError(
            Problem("PK-X60", f"{file!r} has no model {name!r}", nearest(name, variants, "models"), "--models")
        )
    return variants[name]


def _told_apart(first: Side, second: Side) -> tuple[Side, Side]:
    """Return two sides of two specs, called by what differs: model, else the spec's name, else its file."""
    if first.called != second.called:
        return first, second
    specs = [first.loaded.spec.name, second.loaded.spec.name]
    if specs[0] == specs[1]:
        specs = [Path(one.loaded.file).name for one in (first, second)]
    if specs[0] == specs[1]:
        specs = [one.loaded.file for one in (first, second)]
    model = "" if first.called == "default" else f" {first.called}"
    return replace(first, called=f"{specs[0]}{model}"), replace(second, called=f"{specs[1]}{model}")


def _unclear(what: str, hint: str) -> SpecError:
    return SpecError(Problem("PK-X60", what, hint))
