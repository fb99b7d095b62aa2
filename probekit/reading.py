"""What is read from each model at each checkpoint: its taps, their reductions, and what of it the store holds."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from fnmatch import translate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probekit.components import CheckpointFiles, DoesNotApplyError, ModelControl, Tap, Wanted
from probekit.errors import InputError, Problem, SpecError, listed, nearest
from probekit.features.extraction import Extraction
from probekit.features.keys import is_input
from probekit.features.runner import Runner
from probekit.features.trial import Trial, try_taps
from probekit.reductions.assign import FeatureSet, assign_reductions
from probekit.reductions.data_free import FlattenReduction, known_shape, position_axes
from probekit.steps import BatchFirst, Flatten, Positions, program_masks
from probekit.store.feature_store import FeatureStore
from probekit.taps import ChosenTap, choose_taps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from probekit.components import Backend, Graph, IntArray
    from probekit.data.question import Asked
    from probekit.features.digests import RowDigests
    from probekit.spec import Spec

STORE_VARIABLE = "PROBEKIT_STORE"


@dataclass(frozen=True)
class Tapped:
    """What is read from a fed model.

    Args:
        graph: everything that can be tapped.
        trial: what a run of a few rows showed.
        sets: one per tap and reduction, in depth order.
        output: the model's own output; None when the spec does not ask for it.
    """

    graph: Graph
    trial: Trial
    sets: list[FeatureSet]
    output: Wanted | None


@dataclass
class Reading:
    """One model at one checkpoint, and all that is read from it.

    Args:
        model: its name in the spec.
        checkpoint: the checkpoint's name; None for the model as it is.
        backend: with the checkpoint's parameters.
        runner: the fed model.
        graph: everything that can be tapped.
        trial: what a run of a few rows showed.
        sets: the feature matrices to probe, in depth order.
        output: the model's own output, and its tensor's name; None when it was not asked for.
        extraction: of all sets, and of the output as the last one.
        control: the control that the model belongs to, None for a model of the spec.
        seed: of the control's draw.
    """

    model: str
    checkpoint: str | None
    backend: Backend
    runner: Runner
    graph: Graph
    trial: Trial
    sets: list[FeatureSet]
    output: Wanted | None
    extraction: Extraction
    control: str | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """What messages and the provenance call it."""
        if self.control is not None:
            return twin_name(self.model, self.control, self.seed)
        return self.model if self.checkpoint is None else f"{self.model}@{self.checkpoint}"


def open_store(spec: Spec, environ: Mapping[str, str] = os.environ) -> FeatureStore:
    """Return the feature store that a spec names, ready to be written.

    Raises:
        MachineError: ``PK-R13`` it cannot be written, ``PK-R18`` another version of probekit made it.
    """
    store = FeatureStore(store_path(spec.store.path, environ), durability=spec.store.durability)
    store.prepare()
    return store


def store_path(path: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the feature store: the spec's, else that of PROBEKIT_STORE, else in the user's cache."""
    if path is None and not environ.get(STORE_VARIABLE):
        import platformdirs

        return Path(platformdirs.user_cache_dir("probekit", appauthor=False)) / "features"
    return Path(path if path is not None else environ[STORE_VARIABLE]).expanduser().absolute()


def read_models(spec: Spec, asked: Asked, digests: RowDigests, store: FeatureStore) -> list[Reading]:
    """Tap every model at every checkpoint, run a few rows to see shapes, and look up what the store holds.

    Raises:
        SpecError, InputError: taps, reductions, models or data do not fit together.
    """
    readings = []
    for model, as_it_is in spec.named_models().items():
        for checkpoint, backend in at_checkpoints(as_it_is):
            readings.append(_read(spec, asked, digests, store, model, checkpoint, backend))
        readings += _twins(spec, asked, digests, store, model, as_it_is)
    return readings


def twin_name(model: str, control: str, seed: int) -> str:
    """Return what messages and the provenance call another model in the place of a model."""
    return f"{model} ({control}, seed {seed})"


def _twins(
    spec: Spec, asked: Asked, digests: RowDigests, store: FeatureStore, model: str, backend: Backend
) -> Iterator[Reading]:
    """Give the other models that controls put in a model's place; one stands for all checkpoints.

    What the model is fed is the same, and is not probed once more.
    """
    for control in spec.controls:
        if not isinstance(control, ModelControl) or not control.is_of(model):
            continue
        for seed in control.all_seeds():
            twin = control.twin(backend, seed)
            one = _read(spec, asked, digests, store, model, None, twin, (control, seed))
            if one.sets:
                yield one


def at_checkpoints(backend: Backend) -> Iterator[tuple[str | None, Backend]]:
    """Give a model at each of its checkpoints, by name, in their order; (None, the model) where there are none.

    Raises:
        InputError: ``PK-M01`` no file, ``PK-M55`` the model takes no checkpoints, or names clash.
    """
    if backend.checkpoints is None:
        yield None, backend
        return
    if isinstance(backend.checkpoints, CheckpointFiles):
        found: Mapping[str, str | None] = _by_step(backend.checkpoints)
    else:
        found = backend.checkpoints
    for name, path in found.items():
        yield name, backend if path is None else backend.with_checkpoint(path)


def _by_step(files: CheckpointFiles) -> dict[str, str]:
    """Return the checkpoints that a pattern finds, by what ``*`` stands for in ``step``, numbers in their order."""
    field = "model.checkpoints"
    pattern = Path(files.glob)
    steps: dict[str, str] = {}
    named = re.compile(translate(files.step.replace("[", "[[]")).replace(".*", "(.*)", 1))
    found = pattern.parent.glob(pattern.name.replace("[", "[[]")) if pattern.parent.is_dir() else []
    for path in sorted(found):
        match = named.match(path.stem)
        if match is None:
            hint = "change step: to the part of the name around the step, such as step_*"
            raise InputError(Problem("PK-M55", f"{path.name!r} does not match step {files.step!r}", hint, field))
        name = match[1] if match.groups() else path.stem
        if name in steps:
            what = f"two checkpoints are called {name!r}: {Path(steps[name]).name!r} and {path.name!r}"
            raise InputError(Problem("PK-M55", what, "put the * of step: where the names differ", field))
        steps[name] = str(path)
    if not steps:
        there = sorted(p.name for p in pattern.parent.glob("*")) if pattern.parent.is_dir() else []
        what = f"no file {files.glob!r}"
        raise InputError(Problem("PK-M01", what, nearest(pattern.name, there, "there"), field))
    digits = all(re.fullmatch("[0-9]{1,18}", name) for name in steps)
    return dict(sorted(steps.items(), key=lambda item: (int(item[0]) if digits else 0, item[0])))


def _read(
    spec: Spec,
    asked: Asked,
    digests: RowDigests,
    store: FeatureStore,
    model: str,
    checkpoint: str | None,
    backend: Backend,
    control: tuple[ModelControl, int] | None = None,
) -> Reading:
    name, seed = (None, 0) if control is None else (control[0].control_name(), control[1])
    runner = Runner(backend, asked.examples, digests, skip_bad=spec.data.on_bad_input == "skip")
    tapped = tap_model(spec, runner, asked.rows)
    sets, output = tapped.sets, tapped.output
    if control is not None:
        sets = [one for one in sets if one.control is None and not is_input(runner, one.wanted)]
        factors = None if control[0].factors is None else tuple(control[0].factors)
        sets = [replace(one, control=name, seed=seed, factors=factors) for one in sets]
    wanted = [one.wanted for one in sets] + ([output] if output is not None else [])
    labels = [one.title for one in sets] + (["output"] if output is not None else [])
    whose = model if checkpoint is None else f"{model}@{checkpoint}"
    extraction = Extraction(
        whose if name is None else twin_name(model, name, seed), runner, wanted, labels, asked.rows, store,
        spec.store.dtype, _most_positions(spec, sets, runner, asked.rows), spec.data.workers,
    )  # fmt: skip
    return Reading(
        model, checkpoint, backend, runner, tapped.graph, tapped.trial, sets, output, extraction, name, seed
    )  # fmt: skip


def tap_model(spec: Spec, runner: Runner, rows: IntArray) -> Tapped:
    """Choose a fed model's taps, run a few rows to see shapes, and assign reductions.

    Args:
        spec: whose taps, reductions and rows are meant.
        runner: the model and its data.
        rows: of the dataset, those that may be run.

    Raises:
        SpecError, InputError: taps, reductions, model or data do not fit together.
    """
    graph = runner.backend.graph(runner.example(rows))
    chosen = choose_taps(spec.taps, graph, spec.max_taps)
    own = _output_tap(runner.backend, graph)
    there = {one.tap.name for one in chosen}
    trial = try_taps(runner, [*chosen, *([own] if own is not None and own.tap.name not in there else [])], rows)
    seen = {one.tap.name: one.tap for one in trial.taps}
    taps = [one for one in trial.taps if one.tap.name in there]
    sets = assign_reductions(taps, spec.named_reductions(), spec.max_features, spec.rows)
    _refuse_unfit_masks(runner, sets, rows)
    return Tapped(graph, trial, sets, None if own is None else _output(seen[own.tap.name], spec))


def _refuse_unfit_masks(runner: Runner, sets: Sequence[FeatureSet], rows: IntArray) -> None:
    """Refuse masks whose positions are not those of the taps that they mask.

    Raises:
        SpecError: ``PK-M54``, all such at once.
    """
    names = sorted({name for one in sets for name in program_masks(one.wanted.program)})
    batch = runner.read(rows[: runner.fixed_batch or 1], names)
    problems = []
    for one in sets:
        for step in one.wanted.program:
            name, axes = getattr(step, "mask", None), getattr(step, "axes", None) or (getattr(step, "axis", 0),)
            if name is None:
                continue
            sizes = tuple((one.tap.shape or ())[axis - 1] for axis in axes)
            there = batch.masks[name].shape[1:] if name in batch.masks else sizes
            if len(there) != len(sizes) or any(b not in (None, a) for a, b in zip(there, sizes, strict=True)):
                shown = " x ".join("?" if size is None else str(size) for size in sizes)
                what = f"the mask {name!r} has {' x '.join(map(str, there))} positions, tap {one.label!r} has {shown}"
                problems.append(Problem("PK-M54", what, "name another mask, or leave the tap out", "taps"))
    if problems:
        raise SpecError(*dict.fromkeys(problems))


def _output_tap(backend: Backend, graph: Graph) -> ChosenTap | None:
    if backend.output is None:
        return None
    name = backend.output.name or (graph.outputs[0] if graph.outputs else "")
    tap = graph.tap(name)
    if tap is None or tap.untappable:
        known = [one.name for one in graph.taps if not one.untappable]
        what = f"the model has no tensor {name!r}" if tap is None else f"{name!r} cannot be read: {tap.untappable}"
        raise SpecError(Problem("PK-M26", what, nearest(name, known, "tensors"), "model.output.name"))
    return ChosenTap(tap, "output", None, exact=True)


def _output(tap: Tap, spec: Spec) -> Wanted:
    """Return the model's own output as features: its entries, per position where rows are positions and it has some."""
    leading = (BatchFirst(tap.batch_axis),) if tap.batch_axis else ()
    if spec.rows.per == "position":
        try:
            axes = position_axes(tap)
            size = int(np.prod([s or 1 for axis, s in enumerate(tap.shape or (), start=1) if axis not in axes]))
            return Wanted(tap, (*leading, Positions(axes, spec.rows.mask), Flatten()), size)
        except DoesNotApplyError:
            pass
    try:
        size = int(np.prod(known_shape(tap)))
    except DoesNotApplyError as error:
        raise InputError(Problem("PK-M20", f"the model's output: {error}", field="model.output")) from None
    return Wanted(tap, (*leading, *FlattenReduction().program(tap)), size)


def feature_rows(spec: Spec, asked: Asked, readings: Sequence[Reading]) -> tuple[IntArray, IntArray | None]:
    """Return the feature rows of each example, and each feature row's position (None where rows are examples).

    Raises:
        SpecError: ``PK-M54`` the mask does not fit the taps, ``PK-M56`` the taps have different numbers of positions.
    """
    if spec.rows.per == "example":
        return np.ones(len(asked.rows), dtype=np.int64), None
    sizes = {one.label: _positions(one) for reading in readings for one in reading.sets}
    known = {size for size in sizes.values() if size is not None}
    if spec.rows.mask is None:
        if len(known) != 1:
            what = f"the taps have different numbers of positions: {listed(f'{k}: {v}' for k, v in sizes.items())}"
            raise SpecError(Problem("PK-M56", what, "choose taps of one size, or give rows a mask", "rows"))
        size = known.pop()
        return np.full(len(asked.rows), size), np.tile(np.arange(size), len(asked.rows))
    kept = []
    for start in range(0, len(asked.rows), 4096):
        mask = readings[0].runner.masks(asked.rows[start : start + 4096], [spec.rows.mask])[spec.rows.mask]
        kept += list(mask.reshape(len(mask), -1))
    return np.array([int(one.sum()) for one in kept]), np.concatenate([np.flatnonzero(one) for one in kept])


def _positions(one: FeatureSet) -> int | None:
    shape = one.tap.shape or ()
    axes = next(step.axes for step in one.wanted.program if isinstance(step, Positions))
    sizes = [shape[axis - 1] for axis in axes]
    return None if None in sizes else int(np.prod([size for size in sizes if size is not None]))


def _most_positions(spec: Spec, sets: Sequence[FeatureSet], runner: Runner, rows: IntArray) -> int:
    if spec.rows.per == "example":
        return 1
    sizes = [size for one in sets if (size := _positions(one)) is not None]
    if spec.rows.mask is not None:
        sizes += [int(runner.masks(rows[:1], [spec.rows.mask])[spec.rows.mask][0].size)]
    return max(sizes, default=1)
