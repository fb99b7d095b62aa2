"""How far the fits of a run are, and how long the rest takes: by a clock that the test sets."""

from collections.abc import Callable
from typing import Any

import pytest

from probekit import progress
from probekit.components import FitProgress
from probekit.progress import FittingProgress


class Watched:
    """A progress, what it told, and its clock."""

    def __init__(self, fits: int, work: float) -> None:
        self.now, self.told = 100.0, list[tuple[Any, ...]]()
        self.progress = FittingProgress(lambda *step: self.told.append(step), fits, work)

    @property
    def last(self) -> tuple[Any, ...]:
        return self.told[-1]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, float], Watched]:
    def start(fits: int, work: float) -> Watched:
        made = Watched(fits, work)
        monkeypatch.setattr(progress.time, "monotonic", lambda: made.now)
        return made

    return start


def test_fits_are_told_as_they_begin_and_the_last_as_it_ends(watched):
    run = watched(2, 20.0)
    for name in ("a", "b"):
        run.progress.begin(10.0, name)
        run.progress.end()
    assert [step[:4] for step in run.told] == [("probes", 0, 2, "a"), ("probes", 1, 2, "b"), ("probes", 2, 2, "")]


def test_what_is_left_is_weighed_by_the_work_of_the_fits(watched):
    run = watched(3, 100.0)
    run.progress.begin(10.0, "narrow")
    assert run.last[4] is None
    run.now += 4
    run.progress.end()
    run.progress.begin(30.0, "wide")
    assert run.last[4] == pytest.approx(4 / 10 * 90)
    run.now += 6
    run.progress.hear(FitProgress(15, 30, 0.5, 7))
    assert run.last[4] == pytest.approx(10 / 25 * 75)
    run.now += 6
    run.progress.end()
    run.progress.begin(60.0, "widest")
    assert run.last[4] == pytest.approx(16 / 40 * 60)
    run.progress.end()
    assert run.last[4] == 0


def test_fits_that_were_kept_count_as_finished_and_say_nothing_about_the_rest(watched):
    run = watched(4, 100.0)
    run.progress.begin(50.0, "kept")
    run.now += 1
    run.progress.end(kept=True)
    run.progress.begin(10.0, "made")
    assert run.last[1:] == (1, 4, "made", None)
    run.now += 5
    run.progress.end()
    run.progress.skip(1, 20.0)
    run.progress.begin(20.0, "last")
    assert run.last[1:4] == (3, 4, "last")
    assert run.last[4] == pytest.approx(5 / 10 * 20)
    run.progress.end()
    assert run.last[1:4] == (4, 4, "")


def test_when_all_was_kept_nothing_is_left_to_tell(watched):
    run = watched(1, 7.0)
    run.progress.begin(7.0, "kept")
    run.progress.end(kept=True)
    assert run.last == ("probes", 1, 1, "", None)


def test_a_fit_that_tells_much_is_told_five_times_a_second(watched):
    run = watched(1, 1.0)
    run.progress.begin(1.0, "tap 1 of 1, a x (pool)")
    for _ in range(1000):
        run.now += 0.001
        run.progress.hear(FitProgress(3, 8, 0.0123, 20))
    assert len(run.told) in {5, 6}
    assert run.last[3] == "3 of 8 heads, worst gap 1e-2, tap 1 of 1, a x (pool)"


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (FitProgress(0, 1, None, 0), "0 of 1 head"),
        (FitProgress(24, 48, 0.0031, 40), "24 of 48 heads, worst gap 3e-3"),
        (FitProgress(0, 2, 12.0, 1), "0 of 2 heads, worst gap 1e1"),
        (FitProgress(0, 2, 1.0, 1), "0 of 2 heads, worst gap 1e0"),
        (FitProgress(0, 2, float("inf"), 1), "0 of 2 heads"),
        (FitProgress(0, 2, float("nan"), 1), "0 of 2 heads"),
        (FitProgress(2, 2, 0.0, 1), "2 of 2 heads, worst gap 0e0"),
    ],
)
def test_heads_and_the_worst_gap_are_told(told, text):
    assert progress.heads(told) == text


def test_a_fit_without_heads_has_no_share():
    silent = FittingProgress()
    silent.begin(1.0, "x")
    silent.hear(FitProgress(0, 0, None, 0))
    assert silent.left() is None
