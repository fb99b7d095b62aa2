"""Checks of a backend's features: reductions and masks mean what they mean in NumPy, and a stopped pass goes on."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from probekit.components import Backend
from probekit.errors import ProbekitWarning
from probekit.features import plan
from probekit.features.extraction import Extraction, Interrupted, StopRequest
from probekit.features.runner import Runner
from probekit.steps import Flatten, run_program
from probekit.store.feature_store import FeatureStore
from probekit.testing.checks import expect, expect_near, storable
from probekit.testing.fed import masked_reductions_of, masks_for, reductions_of, wanted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from probekit.components import Array, IntArray, Tap, Wanted
    from probekit.steps import Masks
    from probekit.testing.fed import FedBackend

_TODO = "the reference is probekit.steps.run_program on what open gives; a step that the runtime lacks may run there"


class FeatureChecks:
    """What ``open_reduced`` gives, and what an extraction makes of it."""

    def test_reductions_are_those_of_numpy(self, backend: Backend, fed: FedBackend) -> None:
        """``open_reduced`` gives, for every step at every tap, what the step gives in NumPy, for batches of any size.

        The same spec must give the same features on every backend; ``run_program`` is the one meaning of a program.
        """
        _skip_without_own_reductions(backend)
        asked = [(f"{tap.name!r} under {how}", one) for tap in fed.seen for how, one in reductions_of(tap).items()]
        _compare(fed, dict(asked), {})

    def test_one_reduction_alone_is_that_of_numpy(self, backend: Backend, fed: FedBackend) -> None:
        """Each tap's features alone are those that it has beside all others.

        A pass that ends after its last tap, or cuts away what no tap needs, must not cut too much.
        """
        _skip_without_own_reductions(backend)
        for tap in fed.seen:
            for how, one in list(reductions_of(tap).items())[-1:]:
                _compare(fed, {f"{tap.name!r} under {how} alone": one}, {})

    def test_masks_are_those_of_numpy(self, backend: Backend, fed: FedBackend) -> None:
        """``open_reduced`` leaves out what a mask leaves out, as NumPy does, for every step that takes one.

        Padded positions of a text or a recording must not count.
        """
        _skip_without_own_reductions(backend)
        asked = {f"{tap.name!r} under {how}": one for tap in fed.seen for how, one in masked_reductions_of(tap).items()}
        if not asked:
            pytest.skip("no tap has axes of positions: nothing can be masked")
        _compare(fed, asked, masks_for(fed.seen, len(fed.rows), empty=False))

    def test_an_example_without_positions_is_that_of_numpy(self, backend: Backend, fed: FedBackend) -> None:
        """Where a mask keeps no position of an example, its features are those of NumPy: NaN, -inf or, of ``last``, the
        last position; ``positions`` gives no row for it.

        A run refuses NaN by tap and example. Zeros would pass for features.
        """
        _skip_without_own_reductions(backend)
        asked = {f"{tap.name!r} under {how}": one for tap in fed.seen for how, one in masked_reductions_of(tap).items()}
        if not asked:
            pytest.skip("no tap has axes of positions: nothing can be masked")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            _compare(fed, asked, masks_for(fed.seen, len(fed.rows), empty=True))

    def test_compare_is_plain(self, backend: Backend, fed: FedBackend) -> None:
        """``compare`` gives nothing, or shares of the largest value by the names that the provenance knows.

        It is written into the store and the result, as JSON.
        """
        batch = fed.runner.read(fed.rows[: fed.most])
        asked = [wanted(tap, (Flatten(),)) for tap in fed.seen if reductions_of(tap)]
        told = backend.compare(asked, batch.feed, batch.masks)
        todo = "give {'against_unoptimised': {tap: share}, 'output_against_untapped': share}, or {}"
        known = {"against_unoptimised", "output_against_untapped"}
        expect(set(told) <= known and storable(told), f"compare gives {told}", todo)
        by_tap = told.get("against_unoptimised", {})
        expect(set(by_tap) <= set(fed.names), f"compare names the taps {sorted(by_tap)}", todo)
        shares = [*by_tap.values(), told.get("output_against_untapped", 0.0)]
        expect(all(share >= 0 for share in shares), f"compare gives {told}", todo)

    def test_a_stopped_extraction_goes_on_with_equal_bytes(self, fed: FedBackend, tmp_path: Path) -> None:
        """An extraction that is stopped in the middle and begun again stores the bytes of one that was not stopped.

        A run may be killed at any time; what it writes must not tell of that. Values that depend on what was run
        before, or on how often, do.
        """
        taps = [tap for tap in fed.seen if reductions_of(tap)]
        if len(fed.rows) < 2 * (fed.runner.fixed_batch or 1):
            pytest.skip(f"the model takes {fed.most} examples at a time; a batch of {2 * fed.most} is needed")
        whole, stopped, again = (_extraction(fed, taps, tmp_path / name) for name in ("whole", "parts", "parts"))
        todo = "let the activations of a batch depend on nothing but the batch"
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", ProbekitWarning)
            patch.setattr(plan, "MOST_ROWS", 1)
            whole.run()
            _stop_after_one(stopped)
            again.refresh()
            left = again.missing()
            expect(left.any() and not left.all(), f"{int(left.sum())} of {left.size} rows are left", todo)
            again.run()
        for number, tap in enumerate(taps):
            one, other = np.asarray(again.matrix(number)), np.asarray(whole.matrix(number))
            fact = f"features of {tap.name!r} stopped in the middle and in one go"
            expect_near(one, other, fact, todo)
            expect(one.tobytes() == other.tobytes(), f"{fact} differ in their last bits", todo)


def _skip_without_own_reductions(backend: Backend) -> None:
    if type(backend).open_reduced is Backend.open_reduced:
        pytest.skip("open_reduced is not overridden: NumPy reduces what open gives")


def _compare(fed: FedBackend, asked: Mapping[str, Wanted], masks: Masks) -> None:
    """Compare features with NumPy's: of all examples of a batch, of some, of all again, from one opening."""
    every = fed.rows[: fed.most]
    parts: list[IntArray] = [every, every[-2:], every] if masks else [every, every[:1], every]
    if fed.runner.fixed_batch:
        parts = [every, every]
    taps = list(dict.fromkeys(one.tap.name for one in asked.values()))
    with fed.backend.open(taps) as run:
        activations: list[dict[str, Array]] = [
            {name: np.array(array) for name, array in run(fed.feed(rows)).items()} for rows in parts
        ]
    with fed.backend.open_reduced(list(asked.values())) as reduce:
        for rows, raw in zip(parts, activations, strict=True):
            found = fed.features(masks, reduce, rows)
            expect(
                len(found) == len(asked),
                f"open_reduced gives {len(found)} arrays for {len(asked)} that are wanted",
                "give one array for each, in their order",
            )
            here = {name: mask[rows] for name, mask in masks.items()}
            for (name, one), features in zip(asked.items(), found, strict=True):
                fact = f"tap {name} for {len(rows)} examples"
                expect(features.dtype == np.float32, f"{fact} is {features.dtype}", "give float32")
                expect_near(features, run_program(one.program, raw[one.tap.name], here), fact, _TODO)


def _extraction(fed: FedBackend, taps: list[Tap], folder: Path) -> Extraction:
    store = FeatureStore(folder, durability="fast")
    store.prepare()
    asked = [wanted(tap, (Flatten(),)) for tap in taps]
    runner = Runner(fed.backend.model_copy(update={"batch_size": 2}), fed.runner.examples)
    return Extraction("the model", runner, asked, [tap.name for tap in taps], fed.rows, store, workers=0)


def _stop_after_one(extraction: Extraction) -> None:
    stop = StopRequest()

    def tell(stage: str, done: int, total: int) -> None:  # noqa: ARG001 - as a run is told
        stop.asked = True

    try:
        extraction.run(tell, stop)
    except Interrupted:
        return
    raise AssertionError("the extraction ended before it was stopped; give batch more examples")
