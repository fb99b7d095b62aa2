"""What probes reach on the controls of a factor, beside what they reach on its true labels."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from probekit.components import RANDOM_WEIGHTS, REDUCTION_SEED, SHUFFLED_LABELS, is_control_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.results import ProbeResult

ProbePlace = tuple[str, str | None, str, str, str, str]
"""Model, checkpoint, tap, reduction, factor and probe: what a probe and its controls have in common."""


@dataclass(frozen=True)
class ControlCell:
    """What probes of one kind reach at a tap on a control of a factor, over the control's seeds.

    Args:
        name: of the control.
        split: whose metric is told: ``train`` of shuffled labels, whose test error is chance by construction, else
            ``test``.
        value: the primary metric there, the mean over the seeds.
        low, high: its smallest and its largest value.
        seeds: how many there are.
        selectivity: of a control task: on test, the accuracy on the task less the mean accuracy on the control (Hewitt
            & Liang 2019, section 2); of numbers the same of R². None of another control.
        missed: one of the probes that are compared is not proven to be at its optimum.
    """

    name: str
    split: str
    value: float
    low: float
    high: float
    seeds: int
    selectivity: float | None
    missed: bool


def place_of(probe: ProbeResult) -> ProbePlace:
    """Return what a probe and its controls have in common."""
    return probe.model, probe.checkpoint, probe.tap, probe.reduction, probe.factor, probe.probe


def control_cells(probes: Sequence[ProbeResult]) -> dict[ProbePlace, list[ControlCell]]:
    """Return what is reached on each control, at each place where there is one, in the order of the result.

    Another model stands for all checkpoints, and so for each of them.

    Args:
        probes: of the true labels and of controls.
    """
    truths = {place_of(probe): probe for probe in probes if probe.control is None}
    anywhere: dict[ProbePlace, list[ProbePlace]] = {}
    for place in truths:
        anywhere.setdefault((place[0], None, *place[2:]), []).append(place)
    drawn: dict[ProbePlace, dict[str, list[ProbeResult]]] = {}
    for probe in probes:
        if probe.control is not None:
            own = place_of(probe)
            for place in [own] if own in truths else anywhere.get(own, [own]):
                drawn.setdefault(place, {}).setdefault(probe.control, []).append(probe)
    return {
        place: [_cell(name, some, truths.get(place)) for name, some in by_name.items()]
        for place, by_name in drawn.items()
    }


def has_features_of_its_own(name: str) -> bool:
    """Return whether a control has a table of its own, as it is no other question but has other features.

    >>> has_features_of_its_own("random_weights"), has_features_of_its_own("shuffled_labels")
    (True, False)
    """
    return name in {RANDOM_WEIGHTS, REDUCTION_SEED}


def control_note(name: str, split: str) -> str:
    """Return what a control's number beside that of the true labels is, as a sentence."""
    if is_control_task(name):
        return f"{name}: selectivity, the accuracy on the task less that on the control (Hewitt & Liang 2019)."
    if name == RANDOM_WEIGHTS:
        return f"{name}: what a probe reaches on {split} rows where the model's weights are random."
    if name == REDUCTION_SEED:
        return f"{name}: the mean on {split} rows over the other draws of the reduction."
    return f"{name}: what a probe reaches on {split} rows with these labels."


def _cell(name: str, drawn: Sequence[ProbeResult], truth: ProbeResult | None) -> ControlCell:
    split = "train" if name == SHUFFLED_LABELS else "test"
    values = [probe.headline()[split] for probe in drawn]
    compared = list(drawn)
    selectivity = None
    if truth is not None and is_control_task(name):
        gain = fmean(values) - truth.headline()["test"]
        selectivity = -gain if truth.primary == "r2" else gain
        compared.append(truth)
    missed = any(probe.certificate.status == "missed" for probe in compared)
    return ControlCell(name, split, fmean(values), min(values), max(values), len(values), selectivity, missed)
