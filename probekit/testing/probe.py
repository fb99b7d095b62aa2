"""The conformance of probes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from probekit.components import ArrayMatrix, Certificate, FitContext, FittedProbe, Target
from probekit.errors import UserError
from probekit.testing.checks import equal_arrays, expect, expect_near, no_crash
from probekit.testing.component import ComponentConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.components import Array, FitProgress, FloatArray, IntArray, Probe
    from probekit.sections import Component

_NEAR = 0.02
"""Two fits of one problem may differ by this share of the largest logit: each is near its optimum, not at it."""


class _Streamed:
    """Features that are read as they are needed, as from the store."""

    def __init__(self, array: FloatArray) -> None:
        self._array, self.shape = array, (array.shape[0], array.shape[1])

    def read(self, rows: IntArray | slice) -> FloatArray:
        """Return copies of those rows."""
        return self._array[rows].copy()

    def blocks(self, rows_at_once: int = 8192, rows: IntArray | None = None) -> Iterator[FloatArray]:
        """Give copies of all rows, or of some, in order."""
        array = self._array if rows is None else self._array[rows]
        for start in range(0, len(array), rows_at_once):
            yield array[start : start + rows_at_once].copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return all rows."""
        return np.array(self._array, dtype=dtype)


class Problems:
    """Features, and something to ask of them for each task, which a linear probe can tell better than chance."""

    rows, width = 180, 5

    @cached_property
    def features(self) -> FloatArray:
        """Shape (rows, width), float32, of unequal scales."""
        rng = np.random.default_rng(0)
        return (rng.standard_normal((self.rows, self.width)) * [1, 2, 0.5, 1, 3] + 1).astype(np.float32)

    @cached_property
    def targets(self) -> dict[str, Target]:
        """By task; ``two classes`` beside ``classes``, and ``missing``, some of whose rows have no label."""
        rng = np.random.default_rng(1)
        values = (self.features - 1) @ rng.standard_normal((self.width, 3)) + rng.standard_normal((self.rows, 3))
        train, valid = np.arange(120), np.arange(120, 150)
        classes = values.argmax(axis=1).astype(np.int64)
        missing = np.where(np.arange(self.rows) % 7 == 3, -1, classes)
        names = ("a", "b", "c")
        return {
            "classes": Target("classes", names, classes, train, valid),
            "two classes": Target("two", ("no", "yes"), (values[:, 0] > 0).astype(np.int64), train, valid),
            "missing": Target("missing", names, missing, train[missing[train] >= 0], valid[missing[valid] >= 0]),
            "multilabel": Target("tags", names, (values > 0).astype(np.int64), train, valid, task="multilabel"),
            "number": Target("number", (), values[:, 0], train, valid, task="number"),
        }


class ProbeConformance(ComponentConformance):
    """What a probe must hold to. Give ``probe``. A task that it refuses with a UserError is left out, one must remain.

    Example:
        ::

            class TestMyProbe(ProbeConformance):
                @pytest.fixture
                def probe(self):
                    return MyProbe()
    """

    @pytest.fixture
    def probe(self) -> Probe:
        """The probe, as a spec would configure it."""
        raise NotImplementedError("override the fixture 'probe'")

    @pytest.fixture
    def problems(self) -> Problems:
        """What it is fitted to."""
        return Problems()

    @pytest.fixture
    def component(self, probe: Probe) -> Component:
        """The probe."""
        return probe

    def test_fit_gives_a_probe_for_each_target(self, probe: Probe, problems: Problems) -> None:
        """``fit`` gives one FittedProbe per target, in their order, whose logits are (rows, outputs), float32, with a
        certificate that says what it may.

        The logits are all that scores, intervals and comparisons are made of.
        """
        targets = _served(probe, problems)
        fitted = probe.fit(ArrayMatrix(problems.features), targets)
        expect(len(fitted) == len(targets), f"{len(fitted)} probes for {len(targets)} targets", "one each, in order")
        for one, target in zip(fitted, targets, strict=True):
            fact = f"the probe of {target.factor!r}"
            expect(isinstance(one, FittedProbe), f"{fact} is a {type(one).__name__}", "subclass FittedProbe")
            logits = np.asarray(one.logits(problems.features))
            shape = (problems.rows, target.outputs)
            todo = "give (rows, outputs), float32, finite"
            expect(logits.shape == shape, f"{fact} gives {logits.shape}, not {shape}", todo)
            expect(
                logits.dtype == np.float32 and np.isfinite(logits).all(), f"{fact} gives {logits.dtype}, or NaN", todo
            )
            told = one.certificate
            expect(isinstance(told, Certificate), f"{fact} has the certificate {told!r}", "give a Certificate")
            whole = (
                told.gap is None if told.status == "not_applicable" else (told.gap or 0) >= 0 and told.gap is not None
            )
            expect(whole, f"{fact} has {told}", "give gap in nats, None where not_applicable")
            expect(one.seconds >= 0, f"{fact} took {one.seconds} s", "give the wall time")

    def test_a_probe_reads_what_is_there(self, probe: Probe, problems: Problems) -> None:
        """On rows that it was not fitted on, a probe of what is linearly there is better than knowing the labels alone.

        One that is not tells nothing of a tap.
        """
        for target in _served(probe, problems):
            (one,) = probe.fit(ArrayMatrix(problems.features), [target])
            known = np.flatnonzero(target.known())
            test, train = known[known >= 150], target.train
            logits = np.asarray(one.logits(problems.features[test]), np.float64)
            truth, seen = target.codes[test], target.codes[train]
            if target.task == "number":
                error, chance = np.mean((logits[:, 0] - truth) ** 2), np.mean((seen.mean() - truth) ** 2)
            elif target.task == "multilabel":
                error, chance = np.mean((logits > 0) != truth), np.mean((seen.mean(axis=0) > 0.5) != truth)
            else:
                error, chance = np.mean(logits.argmax(axis=1) != truth), np.mean(np.bincount(seen).argmax() != truth)
            fact = f"on {target.factor!r} its test error is {error:.3f}, that of knowing the labels alone {chance:.3f}"
            expect(error < chance, fact, "logits are in the order of the classes, of a number its predicted value")

    def test_other_rows_play_no_part(self, probe: Probe, problems: Problems) -> None:
        """Labels and features of rows that are neither ``train`` nor ``valid`` change nothing.

        These are the test rows: a probe that looks at them measures itself on what it has seen.
        """
        features = problems.features.copy()
        features[150:] = 1000 * np.random.default_rng(7).standard_normal(features[150:].shape)
        todo = "read features and codes at target.train and target.valid only"
        for target in _served(probe, problems):
            codes = target.codes.copy()
            codes[150:] = codes[150:][::-1]
            (one,) = probe.fit(ArrayMatrix(problems.features), [target])
            (other,) = probe.fit(ArrayMatrix(features), [replace(target, codes=codes)])
            fact = f"logits of {target.factor!r} with other test rows"
            expect_near(other.logits(problems.features), one.logits(problems.features), fact, todo)

    def test_fits_are_the_same_every_time(self, probe: Probe, problems: Problems) -> None:
        """Two fits give the same logits, and change neither features nor targets.

        A run that is repeated must give the same numbers; other probes are fitted to the same arrays.
        """
        targets = _served(probe, problems)
        features = problems.features.copy()
        before = [target.codes.copy() for target in targets]
        first, second = (probe.fit(ArrayMatrix(features), targets) for _ in range(2))
        expect(equal_arrays(features, problems.features), "fit changes the features", "copy them first")
        same = all(equal_arrays(target.codes, codes) for target, codes in zip(targets, before, strict=True))
        expect(same, "fit changes the codes of a target", "copy them first")
        for one, other, target in zip(first, second, targets, strict=True):
            fact = f"logits of {target.factor!r} in two fits"
            expect_near(other.logits(features), one.logits(features), fact, "draw with target.seed")

    def test_targets_do_not_know_each_other(self, probe: Probe, problems: Problems) -> None:
        """A target's probe is, within the tolerance of a fit, the same alone and beside others.

        Another factor or control in the spec must not change a number that was there before.
        """
        targets = _served(probe, problems)
        together = probe.fit(ArrayMatrix(problems.features), targets)
        todo = "let no target's rows, classes or stopping shape another's"
        for one, target in zip(together, targets, strict=True):
            (alone,) = probe.fit(ArrayMatrix(problems.features), [target])
            fact = f"logits of {target.factor!r} alone and beside others"
            expect_near(one.logits(problems.features), alone.logits(problems.features), fact, todo, _NEAR)

    def test_features_may_be_read_as_needed(self, probe: Probe, problems: Problems) -> None:
        """Features that are no ArrayMatrix, but read as they are needed, give the same probe.

        A wide tap's features are larger than memory.
        """
        targets = _served(probe, problems)
        held = probe.fit(ArrayMatrix(problems.features), targets)
        with no_crash("fitting features that are read as needed", "use features.read(rows) and features.blocks()"):
            streamed = probe.fit(_Streamed(problems.features), targets, FitContext(memory=1 << 30))
        for one, other, target in zip(held, streamed, targets, strict=True):
            fact = f"logits of {target.factor!r}, held and read as needed"
            expect_near(other.logits(problems.features), one.logits(problems.features), fact, "see all rows", _NEAR)

    def test_rows_are_scored_one_by_one(self, probe: Probe, problems: Problems) -> None:
        """A row's logits are the same alone and among others, no rows give no logits, and ``linear``, where a probe has
        it, gives the same: it is what is saved and exported.
        """
        for one, target in _fitted(probe, problems):
            whole = np.asarray(one.logits(problems.features))
            alone = np.concatenate([np.asarray(one.logits(problems.features[i : i + 1])) for i in range(20)])
            todo = "let logits depend on the row and the fit alone"
            expect_near(alone, whole[:20], f"logits of {target.factor!r} alone and among others", todo)
            none = np.asarray(one.logits(problems.features[:0])).shape
            expect(none == (0, target.outputs), f"no rows give logits of {none}", "give (0, outputs)")
            if one.linear is not None:
                by_hand = problems.features.astype(np.float64) @ one.linear.weights.T + one.linear.bias
                fact = f"logits of {target.factor!r} and weights x + bias"
                expect_near(whole, by_hand, fact, "give linear in the features' own units, or None")

    def test_who_listens_can_end_the_fit(self, probe: Probe, problems: Problems) -> None:
        """What ``context.tell`` raises ends the fit and reaches the caller; a probe that tells nothing is skipped.

        It is how a run is interrupted.
        """
        told: list[FitProgress] = []
        targets = _served(probe, problems)
        probe.fit(ArrayMatrix(problems.features), targets, FitContext(tell=told.append))
        if not told:
            pytest.skip("the probe tells nothing while it fits")

        def stop(_: FitProgress) -> None:
            raise _StopError

        try:
            probe.fit(ArrayMatrix(problems.features), targets, FitContext(tell=stop))
        except _StopError:
            return
        raise AssertionError("what context.tell raises is swallowed; let it through")

    def test_a_fitted_probe_pickles(self, probe: Probe, problems: Problems) -> None:
        """A fitted probe survives pickling with the same logits: it may be fitted in a process of its own."""
        for one, target in _fitted(probe, problems):
            with no_crash(f"pickling the probe of {target.factor!r}", "keep arrays and plain values in it"):
                again = pickle.loads(pickle.dumps(one))  # noqa: S301 - our own bytes
            fact = f"logits of {target.factor!r} after pickling"
            expect_near(
                again.logits(problems.features), one.logits(problems.features), fact, "pickle all that it needs"
            )


class _StopError(Exception):
    """Raised by a check itself."""


def _served(probe: Probe, problems: Problems) -> list[Target]:
    """Return the targets of the tasks that a probe serves; it refuses the others with a UserError."""
    found, reasons = [], []
    tried = type(problems)()  # a fit that writes into what it is given is not to spoil the problems
    for name, target in tried.targets.items():
        with no_crash(f"fitting {name!r}", "raise InputError for a task that the probe does not serve"):
            try:
                probe.fit(ArrayMatrix(tried.features), [target])
            except UserError as error:
                reasons.append(f"{name}: {error}")
            else:
                found.append(problems.targets[name])
    expect(found, f"the probe refuses every task: {'; '.join(reasons)}", "serve one of them")
    return found


def _fitted(probe: Probe, problems: Problems) -> list[tuple[FittedProbe, Target]]:
    targets = _served(probe, problems)
    return list(zip(probe.fit(ArrayMatrix(problems.features), targets), targets, strict=True))
