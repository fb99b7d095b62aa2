"""Fitting every probe to every tap of a model, and having each scored."""

from __future__ import annotations

import functools
import time
import warnings
from typing import TYPE_CHECKING, TypeVar

from probekit.components import REDUCTION_SEED, ArrayMatrix, FitContext
from probekit.errors import MachineError, ProbekitWarning, UserError, listed
from probekit.fit_tasks import FitTask
from probekit.fits import contents_digest
from probekit.plugins.sources import blamed
from probekit.prepared import COPIES, is_constant, prepared
from probekit.progress import FittingProgress, work_of
from probekit.scorer import Scorer
from probekit.spec.splits import TRAIN
from probekit.workers import FitsAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from probekit.components import FeatureMatrix, FittedProbe, Probe, Target
    from probekit.data.question import Question
    from probekit.fit_tasks import Place
    from probekit.fits import FitJournal
    from probekit.reductions.assign import FeatureSet
    from probekit.results import ProbeResult
    from probekit.workers import FitWorkers

T = TypeVar("T")


class Measurement:
    """Collects what is measured, model by model.

    Args:
        question: what is asked of the features.
        journal: where fits are kept until the results are written; default: nowhere.
        workers: of an executor, for small fits; default: all are made here.
    """

    def __init__(
        self, question: Question, journal: FitJournal | None = None, workers: FitWorkers | None = None
    ) -> None:
        self.question, self.journal, self.workers = question, journal, workers
        self.scorer = Scorer(question)
        self.failures: list[str] = []
        self.seconds = 0.0
        self._told_of_workers = False

    def fit(
        self,
        model: str,
        checkpoint: str | None,
        sets: Sequence[FeatureSet],
        features: Callable[[int], FeatureMatrix],
        probes: Mapping[str, Probe],
        progress: FittingProgress | None = None,
        memory: int | None = None,
    ) -> Iterator[ProbeResult]:
        """Fit every probe to every feature matrix and give each result as it is there.

        A fit that the journal holds is taken from there and scored anew. Where all targets at once cannot be fitted,
        each is fitted alone; one that fails loses only itself and is kept as a failure.

        Args:
            model: its name.
            checkpoint: the checkpoint's name.
            sets: what the matrices are.
            features: gives the matrix of a set, by its number.
            probes: of the spec, by name.
            progress: of the whole run; default: nobody is told.
            memory: bytes that one matrix and what a fit makes of it may take; a larger one is read in every pass;
                default: no bound.

        Raises:
            MachineError: the machine gave out, which no other probe would survive.
        """
        wide: list[str] = []
        start, train = time.monotonic(), self.question.places[TRAIN]
        name = model if checkpoint is None else f"{model}@{checkpoint}"
        labels = list(dict.fromkeys(one.label for one in sets))
        progress = progress or FittingProgress()
        ahead = self._ahead((model, checkpoint), sets, features, probes, memory)
        for number, one in enumerate(sets):
            where = f"model {name}, tap {one.label}, reduction {one.reduction}"
            where += "" if one.control is None else f", {one.control} with seed {one.seed}"
            asked = [index for index, target in enumerate(self.question.targets) if one.asks(target)]
            make = functools.partial(prepared, one, features(number), self.question, memory)
            begun = time.monotonic()
            made = self._attempt(where, make)
            spent = None if one.learned is None else time.monotonic() - begun
            if made is None:
                progress.skip(len(probes), len(probes) * work_of(one.wanted.width))
                continue
            matrix, reduction = made
            constant = is_constant(matrix)
            if len(train) < matrix.shape[1] and one.control is None:
                wide.append(f"{one.label} ({matrix.shape[1]})")
            held = matrix.array.nbytes if isinstance(matrix, ArrayMatrix) else 0
            context = FitContext(None if memory is None else max(0, memory - held), progress.hear)
            contents = contents_digest(matrix) if self.journal is not None else ""
            tap = f"tap {labels.index(one.label) + 1} of {len(labels)}, {name} {one.title}"
            tap += "" if one.control in {None, REDUCTION_SEED} else f", {one.control} with seed {one.seed}"
            for probe_name, probe in probes.items():
                progress.begin(work_of(one.wanted.width), f"{tap} {probe_name}" if len(probes) > 1 else tap)
                names = _names((model, checkpoint), one, probe_name)
                key = self.journal.key(names, contents, probe) if self.journal is not None else ""
                there = functools.partial(ahead.take, (model, checkpoint, number, probe_name), progress)
                fitted = self._fitted(f"{where}, probe {probe_name}", key, probe, matrix, context, asked, there)
                for index, probe_fitted in fitted.items():
                    target = self.question.targets[index]
                    score = functools.partial(
                        self.scorer.score_probe, (model, checkpoint), one, probe_name, matrix, reduction, probe_fitted,
                        target, constant=constant, spent=spent,
                    )  # fmt: skip
                    result = self._attempt(f"{where}, probe {probe_name}, {_asked(target)}", score)
                    if result is not None:
                        yield result
                progress.end(kept=self.journal is not None and key in self.journal.found)
        if wide:
            text = (
                f"model {name}: more features than the {len(train):,} training rows at {listed(wide, 8)}; there a "
                "probe can fit any labels, so that its train error says nothing"
            )
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        self.seconds += time.monotonic() - start

    def _ahead(
        self,
        model: tuple[str, str | None],
        sets: Sequence[FeatureSet],
        features: Callable[[int], FeatureMatrix],
        probes: Mapping[str, Probe],
        memory: int | None,
    ) -> FitsAhead:
        """Return the fits that are small enough to be made side by side."""
        tasks: dict[Place, Callable[[], FitTask]] = {}
        rows = len(self.question.owners)
        for number, one in enumerate(sets):
            if one.learned is not None or self.workers is None or not self.workers.count:
                continue
            asked = [index for index, target in enumerate(self.question.targets) if one.asks(target)]
            targets, size = [self.question.targets[index] for index in asked], 4 * rows * one.wanted.width
            for name, probe in probes.items():
                needed = probe.side_by_side(rows, one.wanted.width, targets)
                if needed is None or not self.workers.afford(needed + COPIES * size, memory):
                    continue
                left = None if memory is None else needed
                place, names = (*model, number, name), _names(model, one, name)
                make = functools.partial(FitTask, place, names, probe, asked=asked, memory=left)
                tasks[place] = functools.partial(_task, make, features, number)
        return FitsAhead(self.workers, tasks)

    def _fitted(
        self,
        where: str,
        key: str,
        probe: Probe,
        matrix: FeatureMatrix,
        context: FitContext,
        asked: Sequence[int],
        there: Callable[[], list[FittedProbe] | None],
    ) -> dict[int, FittedProbe]:
        """Return the fitted probe of each target that is asked, by its number, without those that failed.

        ``there`` gives those of a worker, if there is one that makes this fit.
        """
        targets = [self.question.targets[index] for index in asked]
        fitted = self.journal.read(key) if self.journal is not None else {}
        if len(fitted) == len(targets):
            return fitted
        made = there() if not fitted else None
        reason = self.workers.failed_there() if self.workers is not None else None
        if made is not None:
            fitted = dict(zip(asked, made, strict=True))
        together, failed = None, len(self.failures)
        if not fitted and len(targets) > 1:
            try:
                fitted = dict(zip(asked, _fit(probe, matrix, targets, context), strict=True))
            except (MemoryError, MachineError):
                raise
            except Exception as error:
                together = _reason(error)
        for index, target in zip(asked, targets, strict=True):
            if index not in fitted:
                fit = functools.partial(_fit, probe, matrix, [target], context)
                alone = self._attempt(f"{where}, {_asked(target)}", fit)
                fitted |= {index: alone[0]} if alone is not None else {}
        if reason is not None and len(self.failures) == failed:
            self._tell_of_workers(where, reason)
        if together is not None and len(self.failures) == failed:
            text = f"{where}: all factors at once could not be fitted ({together}), each alone could"
            warnings.warn(text, ProbekitWarning, stacklevel=2)
        if self.journal is not None:
            self.journal.write(key, fitted)
        return fitted

    def _tell_of_workers(self, where: str, reason: str) -> None:
        """Say, once a run, that workers cannot do what can be done here."""
        if self.workers is not None and not self._told_of_workers:
            self._told_of_workers = True
            kind = self.workers.executor.kind
            text = f"{where}: fitted here, because a worker of executor {kind!r} could not: {reason}"
            warnings.warn(text, ProbekitWarning, stacklevel=2)

    def _attempt(self, where: str, make: Callable[[], T]) -> T | None:
        """Return what ``make`` returns; an error is kept as a failure and costs only this."""
        try:
            return make()
        except (MemoryError, MachineError):
            raise
        except Exception as error:
            self.failures.append(f"{where}: {_reason(error)}")
            return None


def _fit(probe: Probe, matrix: FeatureMatrix, targets: Sequence[Target], context: FitContext) -> list[FittedProbe]:
    fitted = probe.fit(matrix, targets, context)
    if len(fitted) != len(targets):
        raise ValueError(f"{probe.kind!r} gave {len(fitted)} fitted probes for {len(targets)} targets")
    return fitted


def _task(make: Callable[..., FitTask], features: Callable[[int], FeatureMatrix], number: int) -> FitTask:
    return make(matrix=features(number))


def _names(model: tuple[str, str | None], one: FeatureSet, probe: str) -> list[str | None]:
    """Return by what the journal knows a fit."""
    names = [*model, one.label, one.reduction, probe]
    return names if one.control is None else [*names, one.control, str(one.seed)]


def _asked(target: Target) -> str:
    """Return what a target asks, for messages."""
    return f"factor {target.factor}" + (f", {target.control} with seed {target.seed}" if target.control else "")


def _reason(error: Exception) -> str:
    """Return why a fit failed, and in whose plugin."""
    if isinstance(error, UserError):
        return str(error)
    plugin = blamed(error)
    return f"{'' if plugin is None else f'plugin {plugin} raised '}{type(error).__name__}: {error}"
