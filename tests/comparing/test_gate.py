"""Conditions that fail a build."""

import numpy as np
import pytest

from probekit.comparing.compare import compare
from probekit.comparing.gate import read_condition
from probekit.errors import SpecError

CODES = np.arange(200) % 4


def wrong(count):
    predicted = CODES.copy()
    predicted[:count] = (predicted[:count] + 1) % 4
    return predicted


def judged(runs, condition, first, second, own=(0, 0), **changes):
    """Return the gate of two runs whose taps have so many errors each."""
    made = []
    for counts, mine in zip((first, second), own, strict=True):
        probes = [runs.said(tap, wrong(count), **changes) for tap, count in counts.items()]
        made.append(runs(probes, {"f": CODES}, owns=(runs.own(wrong(mine)),)))
    return compare(*made, fail_if=[read_condition(condition)]).gates[0]


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        ("worse>4.9", True), ("worse > 5", False), ("worse>5.1", False), ("worse>-1", True),
        ("significantly_worse>0", True), ("significantly_worse>1", True), ("significantly_worse>4.9", False),
        ("model_worse>0.9", True), ("model_worse>1", False), ("model_significantly_worse>0", False),
    ],
)  # fmt: skip
def test_a_condition_holds_where_any_tap_is_worse(runs, condition, held):
    gate = judged(runs, condition, {"a": 10, "b": 10}, {"a": 10, "b": 20}, own=(4, 6))
    assert gate.condition == condition
    assert gate.held is held


def test_hits_say_where(runs):
    gate = judged(runs, "worse>1", {"a": 10, "b": 10}, {"a": 10, "b": 20})
    (hit,) = gate.hits
    assert hit.startswith("f at b: +5.00 points (95 % interval +")


def test_better_is_not_worse(runs):
    assert not judged(runs, "worse>0", {"a": 20}, {"a": 10}).held
    assert not judged(runs, "significantly_worse>0", {"a": 40}, {"a": 10}).held


def test_significance_is_that_of_all_taps(runs):
    """One difference of 7 rows is significant alone, and not among 20."""
    alone = judged(runs, "significantly_worse>0", {"a": 0}, {"a": 7})
    among = judged(
        runs, "significantly_worse>0", {f"t{n}": 0 for n in range(20)}, {f"t{n}": 7 * (n == 3) for n in range(20)}
    )
    assert (alone.held, among.held) == (True, False)


def test_numbers_are_judged_by_points_of_r2(runs):
    truth = np.linspace(0, 1, 100).astype(np.float32)
    made = [runs([runs.said("t", (truth + shift).astype(np.float32))], {"f": truth}) for shift in (0.0, 0.1)]
    lost = 100 * (0.1**2 / truth.astype(np.float64).var())
    for points, held in ((lost - 0.1, True), (lost + 0.1, False)):
        (gate,) = compare(*made, fail_if=[read_condition(f"worse>{points}")]).gates
        assert gate.held is held


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("wrose>1", "--fail-if 'wrose>1' is no condition; did you mean 'worse'?"),
        ("wrose", "did you mean 'worse'?; write it as 'worse>1.0', in percentage points"),
        ("model_worse>=1", "is no condition; write it as 'model_worse>1.0', in percentage points"),
        ("worse>=1", "write it as 'worse>1.0'"),
        ("worse>nan", "write it as"),
        ("", "known: model_significantly_worse, model_worse, significantly_worse, worse"),
    ],
)
def test_what_is_no_condition_is_refused(text, told):
    with pytest.raises(SpecError) as caught:
        read_condition(text)
    assert caught.value.problems[0].code == "PK-X36"
    assert told in str(caught.value.problems[0])


def test_a_gate_with_nothing_to_judge_is_no_pass(runs):
    with pytest.raises(SpecError, match="nothing to judge: no probe that is compared is at its optimum"):
        judged(runs, "worse>1", {"a": 0}, {"a": 0}, status="missed")
    made = [runs([runs.said("t", CODES)], {"f": CODES}) for _ in range(2)]
    with pytest.raises(SpecError, match="no factor has the predictions of both models"):
        compare(*made, fail_if=[read_condition("model_worse>1")])
