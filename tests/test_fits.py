"""Fits that are kept while a run goes on: what comes back is what was kept, and only where it is the same fit."""

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import probekit
from probekit.components import (
    ArrayMatrix,
    Certificate,
    FitFacts,
    FittedProbe,
    LinearMap,
    PathPoint,
    Probe,
    Target,
)
from probekit.errors import ProbekitWarning
from probekit.fits import FitJournal, contents_digest
from probekit.sections import runtime_option

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((5, 3)).astype(np.float32)
TARGETS = [
    Target("digit", ("a", "b"), np.array([0, 1, 0, 1, -1]), np.array([0, 1]), np.array([2, 3])),
    Target("size", (), np.array([0.5, np.nan, 1, 2, 3]), np.array([0, 2]), np.array([3]), task="number"),
]
NAMES = ("m", None, "relu", "pool", "default")


class KeptKind(Probe):
    """A probe with an option that shapes values and one that does not."""

    kind: Literal["kept_kind"] = "kept_kind"
    penalty: float = 0.1
    workers: int = runtime_option(1, "threads")

    def fit(self, features: Any, targets: Any, context: Any = None) -> list[FittedProbe]:
        raise NotImplementedError


class Fitted(FittedProbe):
    """A fit with any content."""

    def __init__(self, linear: Any, penalty: Any, certificate: Any, seconds: float, facts: Any) -> None:
        self.linear, self.penalty, self.certificate = linear, penalty, certificate
        self.seconds, self.facts = seconds, facts

    def logits(self, features: Any) -> Any:
        return self.linear(features)


def fitted(outputs: int = 2, seed: int = 0) -> Fitted:
    rng = np.random.default_rng(seed)
    bias = rng.standard_normal(outputs)
    bias[-1] = -np.inf
    path = (PathPoint(0.1, 0.7, 1e-9, "proven", 0.8, 0.25), PathPoint(0.01, 0.5, None, "missed", 0.9, None))
    facts = FitFacts(path, 1, "smallest", (0.1, 0.2), 4, 9, "sketch", ("bfloat16", "float32"), streamed=True)
    linear = LinearMap(rng.standard_normal((outputs, 3)), bias)
    return Fitted(linear, 0.1, Certificate("proven", 1e-9, 2e-9, 3e-9), 1.5, facts)


def content(one: FittedProbe) -> tuple[Any, ...]:
    assert one.linear is not None
    arrays = [(array.dtype, array.shape, array.tobytes()) for array in (one.linear.weights, one.linear.bias)]
    return (*arrays, one.penalty, one.certificate, one.seconds, one.facts)


@pytest.fixture
def journal(tmp_path: Path) -> FitJournal:
    return FitJournal(tmp_path / "fits", TARGETS)


def again(journal: FitJournal) -> FitJournal:
    """Return the journal as the next run opens it."""
    return FitJournal(journal.folder, journal.targets)


# --- what comes back --------------------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False)
statuses = st.sampled_from(["proven", "missed", "not_applicable"])
maybe = st.none() | numbers
points = st.builds(
    PathPoint, penalty=numbers, objective=numbers, gap=maybe, status=statuses, valid_loss=numbers, valid_error=maybe
)
facts = st.builds(
    FitFacts,
    path=st.lists(points, max_size=3).map(tuple),
    end=st.sampled_from([None, "smallest", "largest"]),
    label_penalties=st.lists(numbers, max_size=3).map(tuple),
    heads=st.integers(1, 99),
    reason=st.none() | st.text(),
)
maps = st.integers(1, 4).flatmap(
    lambda outputs: st.builds(
        LinearMap,
        weights=st.lists(numbers, min_size=3 * outputs, max_size=3 * outputs).map(
            lambda values: np.reshape(values, (outputs, 3))
        ),
        bias=st.lists(numbers, min_size=outputs, max_size=outputs).map(np.array),
    )
)
certificates = st.builds(Certificate, status=statuses, gap=maybe, of_chance=maybe, of_objective=maybe)
fits = st.builds(Fitted, maps, maybe, certificates, st.floats(0, 1e9), st.none() | facts)


@given(some=st.dictionaries(st.integers(0, 1), fits, min_size=1, max_size=2))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_kept_comes_back_bit_by_bit(journal, some):
    journal.write("0" * 32, some)
    found = again(journal).read("0" * 32)
    assert {number: content(one) for number, one in found.items()} == {
        number: content(one) for number, one in some.items()
    }
    with np.errstate(all="ignore"):
        for number, one in found.items():
            np.testing.assert_array_equal(one.logits(FEATURES), some[number].logits(FEATURES))


def test_facts_with_numpy_numbers_come_back_as_pythons(journal):
    odd = fitted()
    odd.facts = FitFacts(heads=np.int64(7), passes=np.int32(3))
    odd.penalty = np.float64(0.25)
    journal.write("a" * 32, {0: odd})
    found = again(journal).read("a" * 32)[0]
    assert (found.facts, found.penalty) == (FitFacts(heads=7, passes=3), 0.25)


def test_a_journal_knows_what_it_found_and_what_it_keeps(journal):
    journal.write("a" * 32, {0: fitted(), 1: fitted(1)})
    journal.write("b" * 32, {0: fitted()})
    later = again(journal)
    assert later.read("a" * 32).keys() == {0, 1}
    assert later.read("c" * 32) == {}
    later.write("d" * 32, {0: fitted()})
    assert (later.found, later.kept) == ({"a" * 32}, {"a" * 32, "d" * 32})


# --- what is not kept -------------------------------------------------------------------------------------------------


def test_a_probe_that_is_not_linear_is_not_kept(journal):
    other = fitted()
    other.linear = None
    journal.write("a" * 32, {0: fitted(), 1: other})
    journal.write("b" * 32, {})
    assert not journal.folder.exists()
    assert journal.kept == set()


def test_a_probe_that_says_what_is_no_json_is_not_kept(journal):
    odd = fitted()
    odd.penalty = object()
    journal.write("a" * 32, {0: odd})
    assert not journal.folder.exists()


def test_where_nothing_can_be_written_one_warning_is_given_and_the_run_goes_on(journal):
    journal.folder.write_text("a file stands where the folder should")
    with pytest.warns(ProbekitWarning, match="fits cannot be kept in .* if the run is stopped, they are lost"):
        journal.write("a" * 32, {0: fitted()})
    journal.write("b" * 32, {0: fitted()})
    assert journal.read("a" * 32) == {}
    assert journal.kept == set()
    journal.remove()
    assert journal.folder.is_file()


# --- files that cannot be used ----------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_never_believed(journal, data):
    journal.write("a" * 32, {0: fitted(), 1: fitted(1)})
    path = journal.folder / f"{'a' * 32}.safetensors"
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut off"):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = again(journal).read("a" * 32)
    if found:
        assert {n: content(one) for n, one in found.items()} == {0: content(fitted()), 1: content(fitted(1))}
    else:
        (warning,) = told
        assert "is not used" in str(warning.message)
        assert str(warning.message).endswith("; the fit is made again")


@pytest.mark.parametrize(
    "foreign",
    [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64, b"PK\x03\x04 a zip"],
    ids=["empty", "json", "without tensors", "a long header", "a zip"],
)
def test_a_foreign_file_is_passed_over(journal, foreign):
    journal.folder.mkdir()
    (journal.folder / f"{'a' * 32}.safetensors").write_bytes(foreign)
    with pytest.warns(ProbekitWarning, match="it is damaged, or was not written by probekit; the fit is made again"):
        assert journal.read("a" * 32) == {}


def test_a_file_of_another_fit_is_passed_over(journal):
    journal.write("a" * 32, {0: fitted()})
    (journal.folder / f"{'a' * 32}.safetensors").rename(journal.folder / f"{'b' * 32}.safetensors")
    with pytest.warns(ProbekitWarning, match="it belongs to another fit or version"):
        assert again(journal).read("b" * 32) == {}


def test_a_fit_by_another_number_of_threads_is_made_again(journal, monkeypatch):
    journal.write("a" * 32, {0: fitted()})
    assert again(journal).read("a" * 32)
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    assert again(journal).read("a" * 32) == {}


# --- which fit it is --------------------------------------------------------------------------------------------------


def keyed(names: Any = NAMES, contents: str = "x", probe: Probe | None = None, targets: Any = None) -> str:
    journal = FitJournal(Path("nowhere"), TARGETS if targets is None else targets)
    return journal.key(names, contents, probe or KeptKind())


OTHER = [
    {"factor": "other"},
    {"classes": ("a", "c")},
    {"codes": np.array([0, 1, 1, 1, -1])},
    {"codes": np.array([0, 1, 0, 1, -1], np.int32)},
    {"train": np.array([1, 0])},
    {"valid": np.array([2])},
    {"control": "shuffled_labels"},
    {"seed": 1},
    {"task": "multilabel"},
]


def test_a_fit_has_one_key():
    assert keyed() == keyed(names=list(NAMES), targets=list(TARGETS))
    assert keyed(probe=KeptKind(workers=4)) == keyed()
    assert len(keyed()) == 32


@pytest.mark.parametrize("changed", OTHER, ids=lambda changed: next(iter(changed)))
def test_another_target_is_another_fit(changed):
    assert keyed(targets=[replace(TARGETS[0], **changed), TARGETS[1]]) != keyed()


def test_all_else_that_shapes_a_fit_is_in_its_key(monkeypatch):
    keys = [
        keyed(),
        *(keyed(names=(*NAMES[:place], "other", *NAMES[place + 1 :])) for place in range(len(NAMES))),
        keyed(contents="y"),
        keyed(probe=KeptKind(penalty=0.2)),
        keyed(targets=TARGETS[:1]),
        keyed(targets=TARGETS[::-1]),
    ]
    monkeypatch.setattr(KeptKind, "version", 2)
    keys.append(keyed())
    monkeypatch.undo()
    monkeypatch.setattr(probekit, "__version__", "9")
    keys.append(keyed())
    assert len(set(keys)) == len(keys)


class InBlocks(ArrayMatrix):
    """Gives a few rows at a time, not contiguous ones."""

    def blocks(self, rows_at_once: int = 8192) -> Any:
        wide = np.repeat(self.array, 2, axis=1)
        for start in range(0, len(wide), 2):
            yield wide[start : start + 2, ::2]


def test_the_digest_of_features_is_that_of_their_bytes():
    expected = hashlib.sha256(b"(5, 3)" + FEATURES.tobytes()).hexdigest()
    assert contents_digest(ArrayMatrix(FEATURES)) == contents_digest(InBlocks(FEATURES)) == expected
    assert contents_digest(ArrayMatrix(FEATURES.reshape(3, 5))) != expected
    assert contents_digest(ArrayMatrix(FEATURES[:0])) != contents_digest(ArrayMatrix(FEATURES[:0, :2]))


# --- the end ----------------------------------------------------------------------------------------------------------


def test_at_the_end_the_fits_are_removed_with_their_folder(journal):
    journal.write("a" * 32, {0: fitted()})
    (journal.folder / f".{'a' * 32}.safetensors.{'b' * 32}.tmp").write_bytes(b"of a run that was killed")
    again(journal).remove()
    assert not journal.folder.exists()
    again(journal).remove()


def test_a_file_that_is_the_users_stays(journal):
    journal.write("a" * 32, {0: fitted()})
    (journal.folder / "mine.safetensors").write_text("")
    journal.remove()
    assert [path.name for path in journal.folder.iterdir()] == ["mine.safetensors"]
