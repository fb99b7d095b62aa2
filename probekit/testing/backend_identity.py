"""Checks of what identifies a backend: fingerprints, checkpoints, random weights, provenance."""

from __future__ import annotations

import pickle
import shutil
from typing import TYPE_CHECKING

import pytest

from probekit.components import Backend
from probekit.errors import UserError, listed
from probekit.testing.checks import difference, expect, no_crash, path_fields, refusal, storable
from probekit.testing.component import in_another_process
from probekit.testing.fed import FedBackend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from probekit.components import Array

_CONTENT = "digest what the weights and the graph hold, with hashlib; no path, no time, no hash() of Python"


class IdentityChecks:
    """What tells one model from another."""

    def test_fingerprint_is_that_of_the_content(self, backend: Backend, tmp_path: Path) -> None:
        """The fingerprint is the same each time, in another process, and for the same files at another place.

        Stored features are found by it, on any machine, for years. One that changes extracts everything again.
        """
        first = backend.fingerprint()
        expect(isinstance(first, str) and first, f"fingerprint() is {first!r}", "give a text")
        expect(backend.fingerprint() == first, f"fingerprint() is {first!r}, then another", _CONTENT)
        other = in_another_process(backend, "fingerprint")
        expect(other == repr(first), f"fingerprint() is {first!r} here and {other} in another process", _CONTENT)
        files = {name: path for name, path in path_fields(backend).items() if path.is_file()}
        moved = {}
        for name, path in files.items():
            for beside in path.parent.glob(f"{path.stem}.*"):  # weights may lie in a file of the same name
                if beside.is_file():
                    shutil.copy(beside, tmp_path / f"moved{beside.name[len(path.stem) :]}")
            moved[name] = str(tmp_path / f"moved{path.name[len(path.stem) :]}")
        if moved:
            there = backend.model_copy(update=moved).fingerprint()
            expect(there == first, f"fingerprint() is {first!r}, and {there!r} for a copy of the files", _CONTENT)

    def test_a_changed_weight_changes_the_fingerprint(
        self, fed: FedBackend, batch: Mapping[str, Array], taps: Sequence[str] | None, other_weights: Backend | None
    ) -> None:
        """Another weight gives another fingerprint, and another one of each tap whose values it changes.

        Features of one model would else be taken for those of another: a wrong result that nothing shows.
        """
        if other_weights is None:
            pytest.skip("no 'other_weights' is given: the same model with one weight changed")
        _expect_other_model(fed, FedBackend(other_weights, batch, taps), "one weight changed")

    def test_batch_size_is_no_part_of_the_identity(self, backend: Backend, fed: FedBackend) -> None:
        """Another ``batch_size`` changes neither fingerprint, nor tap fingerprints, nor ``identity()``.

        It changes how features are computed, not which; they must not be extracted again for it.
        """
        other = backend.model_copy(update={"batch_size": backend.batch_size + 1})
        todo = "leave batch_size and other runtime options out"
        expect(other.fingerprint() == backend.fingerprint(), "batch_size changes fingerprint()", todo)
        expect(other.identity() == backend.identity(), "batch_size changes identity()", todo)
        ours, theirs = backend.tap_fingerprints(fed.names), other.tap_fingerprints(fed.names)
        expect(ours == theirs, "batch_size changes tap_fingerprints()", todo)

    def test_each_tap_has_a_fingerprint(self, backend: Backend, fed: FedBackend) -> None:
        """``tap_fingerprints`` gives a text for each tap that is asked, the same whatever else is asked; taps with
        different values have different ones.

        It is the key of a tap's stored features.
        """
        together = backend.tap_fingerprints(fed.names)
        expect(set(together) == set(fed.names), f"the taps told are {listed(together)}", "tell of each that is asked")
        expect(all(isinstance(one, str) and one for one in together.values()), f"they are {together}", "give texts")
        for name in fed.names:
            alone = backend.tap_fingerprints([name])
            expect(
                alone == {name: together[name]},
                f"the fingerprint of {name!r} is {alone.get(name)!r} alone and {together[name]!r} among others",
                "let it depend on the tap and what feeds it alone",
            )
        found = fed.activations()
        first: dict[str, str] = {}
        for name in fed.names:
            twin = first.setdefault(together[name], name)
            apart = difference(found[name], found[twin])
            fact = f"taps {twin!r} and {name!r} have one fingerprint and values that differ by {apart:.1e}"
            expect(apart <= 1e-4, fact, "digest all that a tap's values come from")

    def test_a_used_backend_pickles_as_a_new_one(self, backend: Backend, fed: FedBackend) -> None:
        """After it was opened and run, the component pickles to the same bytes, and its copy gives the same values.

        A session that is kept in the component would be pickled into the process that extracts, or fail there.
        """
        todo = "keep sessions in what open yields, not in the component"
        before = pickle.dumps(backend)
        found = fed.activations()
        backend.fingerprint()
        with no_crash("pickling the component after a run", todo):
            after = pickle.dumps(backend)
        expect(after == before, f"a run changes the pickle: {len(before)} bytes before, {len(after)} after", todo)
        copied = FedBackend(pickle.loads(after), fed.batch, fed.names)  # noqa: S301 - our own bytes
        for name, array in copied.activations().items():
            apart = difference(array, found[name])
            expect(apart <= 1e-4, f"tap {name!r} of the unpickled component differs by {apart:.1e}", todo)

    def test_checkpoints_are_the_same_model_with_other_weights(
        self, backend: Backend, fed: FedBackend, batch: Mapping[str, Array], taps: Sequence[str] | None,
        checkpoint: str | None,
    ) -> None:  # fmt: skip
        """``with_checkpoint`` gives the same taps, another fingerprint and other values, and leaves the model alone; a
        backend without checkpoints refuses with ``PK-M55``.
        """
        if type(backend).with_checkpoint is Backend.with_checkpoint:
            pytest.skip("with_checkpoint is not overridden: checkpoints are refused with PK-M55 by the base class")
        if checkpoint is None:
            todo = "raise InputError with PK-M55, or give the fixture 'checkpoint'"
            try:
                backend.with_checkpoint("none")
            except UserError:
                error = refusal(lambda: backend.with_checkpoint("none"), "a checkpoint", todo)
                expect("PK-M55" in {one.code for one in error.problems}, f"checkpoints are refused with {error}", todo)
                return
            pytest.skip("no 'checkpoint' is given: a file with other parameters of the same model")
        before = backend.fingerprint()
        other = FedBackend(backend.with_checkpoint(checkpoint), batch, taps)
        expect(type(other.backend) is type(backend), f"it is a {type(other.backend).__name__}", "give the same kind")
        _expect_other_model(fed, other, "a checkpoint")
        expect(backend.fingerprint() == before, "with_checkpoint changes the model itself", "return a copy")

    def test_random_weights_are_drawn_by_their_seed(self, backend: Backend, fed: FedBackend) -> None:
        """``with_random_weights`` gives the same taps; one seed gives one model, another seed another; it has no output
        and no checkpoints. A backend that cannot refuses with ``PK-M57``.

        The control tells what training gained, and must be the same in every run.
        """
        todo = "draw from a generator of the seed; raise InputError with PK-M57 where nothing is known of the draw"
        if type(backend).with_random_weights is Backend.with_random_weights:
            pytest.skip("with_random_weights is not overridden: the control is refused with PK-M57 by the base class")
        try:
            one = backend.with_random_weights(3)
        except UserError:
            error = refusal(lambda: backend.with_random_weights(3), "random weights", todo)
            expect("PK-M57" in {one.code for one in error.problems}, f"random weights are refused with {error}", todo)
            return
        expect(one.output is None and one.checkpoints is None, "it has an output or checkpoints", "set both to None")
        prints = [backend.fingerprint(), one.fingerprint(), backend.with_random_weights(4).fingerprint()]
        expect(len(set(prints)) == 3, f"the fingerprints of the model and of two draws are {prints}", todo)
        again = backend.with_random_weights(3).fingerprint()
        expect(again == prints[1], f"seed 3 gives {prints[1]!r}, then {again!r}", todo)
        names = [tap.name for tap in FedBackend(one, fed.batch).graph.taps]
        expect(names == [tap.name for tap in fed.graph.taps], f"its taps are {listed(names)}", "keep the taps")

    def test_runtime_is_plain(self, backend: Backend) -> None:
        """``runtime()`` is plain, for the provenance: versions, provider or device, threads."""
        told = backend.runtime()
        expect(isinstance(told, dict) and storable(told), f"runtime() is {told!r}", "give plain values by name")


def _expect_other_model(fed: FedBackend, other: FedBackend, how: str) -> None:
    """Fail unless another model has the same taps and other values, and fingerprints that tell so."""
    names = [tap.name for tap in other.graph.taps]
    todo = "the same architecture has the same taps"
    expect(names == [tap.name for tap in fed.graph.taps], f"with {how} the taps are {listed(names)}", todo)
    ours, theirs = fed.activations(), other.activations()
    moved = [name for name in fed.names if difference(theirs[name], ours[name]) > 0]
    expect(
        moved,
        f"with {how} all taps have the same values",
        "read the weights that are given, or change one that matters",
    )
    one, two = fed.backend.fingerprint(), other.backend.fingerprint()
    expect(one != two, f"with {how} fingerprint() is {one!r} as before", _CONTENT)
    one_by_tap, two_by_tap = fed.backend.tap_fingerprints(moved), other.backend.tap_fingerprints(moved)
    same = [name for name in moved if one_by_tap[name] == two_by_tap[name]]
    expect(not same, f"with {how} the values of {listed(same)} change, their tap fingerprints do not", _CONTENT)
