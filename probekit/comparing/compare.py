"""From two runs, or two models of one run, to a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.comparing.alignment import align, nearest_names
from probekit.comparing.differences import model_difference, probe_differences
from probekit.comparing.gate import judge
from probekit.comparing.records import (
    ComparisonResult,
    FactorRecord,
    ProbeDifference,
    SideRecord,
    UnmatchedTap,
    Which,
)
from probekit.comparing.rows import shared_rows
from probekit.comparing.sides import Side, called, choose, taps_given
from probekit.comparing.spec_changes import changes
from probekit.comparing.wording import sections, verdict_of
from probekit.errors import InputError, Problem, SpecError, listed, nearest
from probekit.report.wording import failed_fits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.comparing.alignment import Alignment
    from probekit.comparing.gate import Condition
    from probekit.comparing.rows import SharedRows
    from probekit.comparing.sides import Run


def compare(
    first: Run,
    second: Run,
    *,
    model: str | None = None,
    checkpoint: str | None = None,
    taps: Sequence[str] = (),
    factors: Sequence[str] = (),
    split: str | None = None,
    fail_if: Sequence[Condition] = (),
) -> ComparisonResult:
    """Compare two models on the test rows that both have.

    Only probes of true labels are compared. Differences are second - first.

    Args:
        first: a run.
        second: another one; the same one for two of its models or checkpoints.
        model: ``A:B``, or a name of both; default: the only choice.
        checkpoint: likewise.
        taps: ``TAP_A=TAP_B`` each; default: aligned by their names, see :func:`probekit.comparing.alignment.align`.
        factors: default: all that both have.
        split: a test split of both; default: the first of each.
        fail_if: conditions to judge.

    Raises:
        SpecError: ``PK-X31``, ``PK-X35``, ``PK-X36``: a name, a pair of taps or a condition does not fit.
        InputError: ``PK-X32`` nothing can be compared, ``PK-X33`` no row is in both, ``PK-X34`` labels differ.
    """
    variants = choose(first, second, model, checkpoint)
    one, other = Side(first, variants[0], first.split(split)), Side(second, variants[1], second.split(split))
    left, right = one.taps(), other.taps()
    alignment = align(left, right, taps_given(taps, left, right))
    chosen, notes = _factors(one, other, factors)
    shared = [shared_rows(one, other, factor) for factor in chosen]
    differences: list[ProbeDifference] = []
    for rows in shared:
        found, told = probe_differences(one, other, alignment.pairs, rows)
        differences += found
        notes += told
    if not differences:
        raise _nothing(alignment)
    names, unit = called(one, other), first.result.unit()
    result = ComparisonResult(
        first=_side(one, names[0]),
        second=_side(other, names[1]),
        unit=unit,
        factors=[_factor(one, rows, differences, names, unit) for rows in shared],
        differences=differences,
        models=[own for rows in shared if (own := model_difference(one, other, rows)) is not None],
        unmatched=_unmatched(alignment, list(left), list(right)),
        changes=changes(first.result, second.result, one.key, other.key),
        notes=list(dict.fromkeys([*notes, *_failed(one, other), *_notes(differences, shared)])),
    )
    return result.model_copy(update={"gates": [judge(condition, result) for condition in fail_if]})


def _factors(first: Side, second: Side, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the factors to compare, and which only one run has."""
    here, there = (list(dict.fromkeys(probe.factor for probe in side.probes())) for side in (first, second))
    both = [factor for factor in here if factor in there]
    unknown = [factor for factor in wanted if factor not in both]
    if unknown:
        hint = nearest(unknown[0], both, "factors of both")
        raise SpecError(Problem("PK-X31", f"no factor {unknown[0]!r} is in both runs", hint, "--factor"))
    if not both:
        what = f"the runs have no label factor in common: {listed(here)} and {listed(there)}"
        raise InputError(Problem("PK-X32", what, "compare runs that ask the same of their taps"))
    notes = [
        f"only the {which} run asks for {listed(only)}"
        for which, factors in (("first", here), ("second", there))
        if (only := [factor for factor in factors if factor not in both]) and not wanted
    ]
    return [factor for factor in both if not wanted or factor in wanted], notes


def _factor(
    first: Side, rows: SharedRows, differences: Sequence[ProbeDifference], names: tuple[str, str], unit: str
) -> FactorRecord:
    own = sections([one for one in differences if one.first.factor == rows.factor])
    return FactorRecord(
        factor=rows.factor,
        task=rows.task,
        first_rows=rows.counts[0],
        second_rows=rows.counts[1],
        shared=len(rows.first),
        over=rows.over,
        baseline=first.run.result.baseline(rows.factor, first.split),
        verdicts=[verdict_of(one.title, one.differences, *names, unit) for one in own],
    )


def _side(side: Side, name: str) -> SideRecord:
    provenance = side.run.result.provenance
    return SideRecord(
        called=name,
        directory=side.run.directory,
        name=side.run.result.name,
        model=side.variant[0],
        checkpoint=side.variant[1],
        fingerprint=provenance.get("models", {}).get(side.key, {}).get("fingerprint"),
        split=side.split,
        started=provenance.get("started"),
    )


def _unmatched(alignment: Alignment, left: Sequence[str], right: Sequence[str]) -> list[UnmatchedTap]:
    sides: tuple[tuple[Which, Sequence[str], Sequence[str]], ...] = (
        ("first", alignment.first, right),
        ("second", alignment.second, left),
    )
    return [
        UnmatchedTap(side=which, tap=tap, nearest=near)
        for which, taps, others in sides
        for tap, near in zip(taps, nearest_names(taps, others), strict=True)
    ]


def _failed(first: Side, second: Side) -> list[str]:
    """Return which run lacks probes that could not be fitted."""
    return [
        f"the {which} run is not whole: {count} of its fits failed"
        for which, side in (("first", first), ("second", second))
        if (count := failed_fits(side.run.result))
    ]


def _notes(differences: Sequence[ProbeDifference], shared: Sequence[SharedRows]) -> list[str]:
    fewer: dict[tuple[int, int, int], list[str]] = {}
    for rows in shared:
        if len(rows.first) < max(rows.counts):
            fewer.setdefault((len(rows.first), *rows.counts), []).append(rows.factor)
    told = [
        f"{', '.join(factors)}: {both:,} test rows are in both runs and are compared; the first has {here:,}, the "
        f"second {there:,}"
        for (both, here, there), factors in fewer.items()
    ]
    missed = [one.first.tap for one in differences if one.missed]
    if missed:
        text = "not judged, as a probe is not proven to be at its optimum"
        told.append(f"{len(missed)} of {len(differences)} differences are {text}: {listed(dict.fromkeys(missed))}")
    return told


def _nothing(alignment: Alignment) -> InputError:
    """Return the error that nothing can be compared."""
    if alignment.pairs:
        what = "no probe is in both runs: their factors, reductions or probes have other names at each tap"
        return InputError(Problem("PK-X32", what, "give them the same names in both specs"))
    what = f"no tap is in both runs: {listed(alignment.first, 3)} and {listed(alignment.second, 3)}"
    near = nearest_names(alignment.first[:1], alignment.second)[0] or alignment.second[0]
    return InputError(Problem("PK-X32", what, f"write --map {alignment.first[0]}={near}, and so on"))
