"""The check itself: both models run on the same examples, batch by batch, and the features of each tap are compared."""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.comparing.alignment import align, names_in_common, nearest_names
from probekit.comparing.sides import taps_given
from probekit.errors import InputError, Problem, UserError, listed
from probekit.features.digests import RowDigests
from probekit.features.pieces import RangePieces
from probekit.features.runner import Runner
from probekit.parity.distance import DistanceMeter
from probekit.parity.records import PairParity, ParityResult, TapParity
from probekit.progress import silent
from probekit.reading import tap_model
from probekit.steps import program_masks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.comparing.records import How
    from probekit.components import Examples, FloatArray, Graph, IntArray, Wanted
    from probekit.parity.sides import Side
    from probekit.progress import Tell
    from probekit.spec import LoadedSpec

ROWS = 256
"""Examples that are run by default."""
TOLERANCE = 1e-4
"""Differences up to this share of a tap's scale are those of two runtimes that compute the same in float32."""
OUTPUT = "output"
"""What the model's own output is called, where it is no tap."""


@dataclass
class _Opened:
    """A side with its taps.

    Args:
        side: the model.
        runner: the fed model.
        graph: everything that can be tapped.
        sets: what is read from it by tap and reduction, in depth order; the output as the last one.
        tensors: each tap's name in the results, and its tensor's.
    """

    side: Side
    runner: Runner
    graph: Graph
    sets: dict[str, dict[str, Wanted]]
    tensors: dict[str, str]


@dataclass(frozen=True)
class _Asked:
    """Two features that are compared."""

    tap: str
    other: str
    how: How
    reduction: str
    first: Wanted
    second: Wanted


def check_parity(
    pairs: Sequence[tuple[Side, Side]],
    taps: Sequence[str] = (),
    rows: int = ROWS,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    tell: Tell = silent,
) -> ParityResult:
    """Return how far models are apart on the same examples, which are drawn from the first side's dataset.

    Args:
        pairs: the reference and the model that is compared with it.
        taps: ``TAP_A=TAP_B``, taps that belong together whatever their names.
        rows: examples to draw, without replacement; fewer where the dataset has fewer.
        seed: of the draw.
        tolerance: the largest difference that counts as the same, as a share of a tap's scale.
        tell: called as the check goes on.

    Raises:
        SpecError, InputError: models, data, taps and reductions do not fit together; ``PK-X35`` of ``taps``;
            ``PK-X61``, the models have no tap in common.
    """
    loaded = pairs[0][0].loaded
    with _placed(loaded):
        examples = loaded.spec.data.open()
    chosen = np.sort(np.random.default_rng(seed).permutation(len(examples))[:rows])
    digests, results, models = RowDigests(examples), [], {}
    for number, (first, second) in enumerate(pairs):
        for side in (first, second):
            models[side.called] = _facts(side)
        both = tuple(_open(side, examples, digests, chosen) for side in (first, second))
        title = f"parity of {second.called} with {first.called}" if len(pairs) > 1 else "parity"
        results.append(_compare(both[0], both[1], taps, chosen, seed + number, tolerance, title, tell))
    specs = dict.fromkeys(side.loaded.file for pair in pairs for side in pair)
    return ParityResult(
        tuple(specs), len(chosen), len(examples), seed, tolerance, tuple(results), models, tuple(_notes(pairs))
    )


@contextmanager
def _placed(loaded: LoadedSpec) -> Iterator[None]:
    """Give the problems that are raised their places in a spec."""
    try:
        yield
    except UserError as error:
        raise type(error)(*map(loaded.placed, error.problems)) from error


def _facts(side: Side) -> dict[str, Any]:
    with _placed(side.loaded):
        backend = side.backend
        return {"kind": backend.kind, "fingerprint": backend.fingerprint(), "runtime": backend.runtime()}


def _notes(pairs: Sequence[tuple[Side, Side]]) -> Iterator[str]:
    first, second = pairs[0][0].loaded, pairs[0][1].loaded
    if first is not second:
        if first.spec.data != second.spec.data:
            yield f"both models were fed the data of {first.file}; that of {second.file} is another and was not read"
        if first.spec.rows != second.spec.rows:
            yield f"rows: differs between the specs; {second.file} was read with its own"


def _open(side: Side, examples: Examples, digests: RowDigests, rows: IntArray) -> _Opened:
    spec = side.loaded.spec
    with _placed(side.loaded):
        runner = Runner(side.backend, examples, digests, skip_bad=spec.data.on_bad_input == "skip")
        tapped = tap_model(spec, runner, rows)
    sets: dict[str, dict[str, Wanted]] = {}
    for one in tapped.sets:
        if one.control is None:
            sets.setdefault(one.label, {})[one.reduction] = one.wanted
    if tapped.output is not None and OUTPUT not in sets:
        sets[OUTPUT] = {OUTPUT: tapped.output}
    tensors = {label: next(iter(some.values())).tap.name for label, some in sets.items()}
    return _Opened(side, runner, tapped.graph, sets, tensors)


def _compare(
    first: _Opened,
    second: _Opened,
    taps: Sequence[str],
    rows: IntArray,
    seed: int,
    tolerance: float,
    title: str,
    tell: Tell,
) -> PairParity:
    given = taps_given(taps, first.tensors, second.tensors, "model")
    aligned = align(first.tensors, second.tensors, given)
    asked = [
        _Asked(one.first, one.second, one.how, a if a == b else f"{a}, {b}", ours[a], theirs[b])
        for one in aligned.pairs
        for ours, theirs in [(first.sets[one.first], second.sets[one.second])]
        for a, b in names_in_common(list(ours), list(theirs))
    ]
    if not asked:
        raise InputError(_nothing_in_common(first, second))
    with _placed(second.side.loaded):
        found = _measure(first, second, asked, rows, seed, tolerance, title, tell)
    fed_by = _fed_by(first, asked)
    return PairParity(
        first.side.called,
        second.side.called,
        tuple(replace(one, after=fed_by.get(one.tap, ())) for one in found),
        *_without(first, second, asked),
    )


def _nothing_in_common(first: _Opened, second: _Opened) -> Problem:
    what = f"{first.side.called!r} and {second.side.called!r} have no tap in common"
    near = [(a, b) for a, b in zip(first.tensors, nearest_names([*first.tensors], [*second.tensors]), strict=True) if b]
    pair = near[0] if near else (next(iter(first.tensors)), next(iter(second.tensors)))
    if {pair[0]} <= second.tensors.keys():
        what += f" under the same reduction: {pair[0]!r} has {listed(first.sets[pair[0]])} and "
        return Problem("PK-X61", what + listed(second.sets[pair[0]]), "give both a reduction of the same name")
    return Problem("PK-X61", what, f"pair them with --map, such as --map {pair[0]}={pair[1]}, or with as: in the specs")


def _without(first: _Opened, second: _Opened, asked: Sequence[_Asked]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the taps of each side that nothing is compared with."""
    ours, theirs = {one.tap for one in asked}, {one.other for one in asked}
    return tuple(tap for tap in first.sets if tap not in ours), tuple(tap for tap in second.sets if tap not in theirs)


def _fed_by(first: _Opened, asked: Sequence[_Asked]) -> dict[str, tuple[str, ...]]:
    """Return, for each of the reference's taps, those of the compared ones that feed it and no other before it."""
    names = dict.fromkeys(one.tap for one in asked)
    labels = {first.tensors[label]: label for label in reversed(names)}
    found: dict[str, tuple[str, ...]] = {}
    for source, sink in first.graph.contract(list(labels)):
        found[labels[sink]] = (*found.get(labels[sink], ()), labels[source])
    return found


def _measure(
    first: _Opened,
    second: _Opened,
    asked: Sequence[_Asked],
    rows: IntArray,
    seed: int,
    tolerance: float,
    title: str,
    tell: Tell,
) -> list[TapParity]:
    """Run both models over the examples; each is opened once."""
    sides = [(first, [one.first for one in asked]), (second, [one.second for one in asked])]
    masks = [sorted({name for one in wanted for name in program_masks(one.program)}) for _, wanted in sides]
    meters: dict[int, DistanceMeter] = {}
    reasons: dict[int, str] = {}
    owners: list[list[int]] = [[] for _ in asked]
    size = min(side.runner.batch_size for side, _ in sides)
    with ExitStack() as stack:
        runs = [stack.enter_context(side.runner.backend.open_reduced(wanted)) for side, wanted in sides]
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            pieces = []
            for (side, wanted), run, names in zip(sides, runs, masks, strict=True):
                batch, piece = side.runner.read(part, names), RangePieces(wanted)
                labels = [one.tap for one in asked]
                piece.add(
                    part, batch, run(batch.feed, batch.masks) if len(batch.rows) else [], labels, range(len(asked))
                )
                pieces.append(piece)
            for number, one in enumerate(asked):
                a, b = (piece.features[number][0] for piece in pieces)
                if a.shape != b.shape:
                    reasons.setdefault(number, f"{_sizes(a)} against {_sizes(b)}")
                    continue
                most = math.ceil(len(rows) * len(a) / max(len(part), 1))
                meters.setdefault(number, DistanceMeter(most, one.first.width, seed)).add(a, b)
                owners[number] += np.repeat(part, pieces[0].counts[number][0]).tolist()
            tell(title, min(start + size, len(rows)), len(rows))
    ids = first.runner.examples.columns["id"]
    return [
        _tap(one, meters.get(number), reasons.get(number, ""), [owners[number], ids], tolerance)
        for number, one in enumerate(asked)
    ]


def _sizes(features: FloatArray) -> str:
    return f"{features.shape[1]:,} features of {features.shape[0]:,} rows"


def _tap(one: _Asked, meter: DistanceMeter | None, reason: str, named: Sequence[Any], tolerance: float) -> TapParity:
    whose = (one.tap, one.other, one.how, one.reduction, one.first.width)
    if reason or meter is None:
        return TapParity(
            *whose, 0, 0.0, None, None, None, "", None, same=False, reason=reason or "no row could be read"
        )
    found = meter.distance()
    owners, ids = named
    place = found.place
    largest, median, cosine = (
        value if math.isfinite(value) else None for value in (found.largest, found.median, found.cosine)
    )
    return TapParity(
        *whose,
        meter.rows,
        found.scale,
        largest,
        median,
        cosine,
        example="" if place is None else str(ids[owners[place[0]]]),
        feature=None if place is None else place[1],
        same=found.largest <= tolerance,
    )
