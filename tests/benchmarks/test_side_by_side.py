"""The arithmetic of the benchmarks, on a made clock."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).with_name("side_by_side.py")


@pytest.fixture(scope="module")
def helpers():
    spec = importlib.util.spec_from_file_location("side_by_side", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["side_by_side"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["side_by_side"]


class Clock:
    """Goes on only when something is done."""

    def __init__(self):
        self.now, self.log = 100.0, []

    def __call__(self):
        return self.now

    def work(self, name, *seconds):
        left = list(seconds)

        def call():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_pairs_are_interleaved_and_who_goes_first_alternates(helpers):
    clock = Clock()
    pairs = helpers.interleave(clock.work("b", 1.0), clock.work("o", 2.0), 3, warm=1, clock=clock)
    assert "".join(clock.log) == "bo" + "bo" + "ob" + "bo"
    assert pairs == helpers.Pairs([1.0] * 3, [2.0] * 3)
    assert pairs.ratio == 0.5


def test_ratios_are_of_medians_of_sums_and_by_pair(helpers):
    pairs = helpers.Pairs([1.0, 1.0, 4.0, 1.0, 1.0], [2.0, 1.0, 2.0, 4.0, 5.0])
    assert pairs.ratio == 1.0 / 2.0
    assert pairs.ratio_of_sums == 8.0 / 14.0
    assert pairs.quartiles == (0.25, 1.0)  # of .5, 1, 2, .25, .2
    assert helpers.Pairs([1.0], [2.0]).quartiles == (0.5, 0.5)


def test_a_call_that_knows_its_own_time_is_believed(helpers):
    clock = Clock()
    work = clock.work("w", 5.0)

    def call():
        work()
        return helpers.OwnTime("features", 0.25)

    assert helpers.timed(call, clock) == 0.25
    assert helpers.timed(work, clock) == 5.0


@pytest.mark.parametrize(
    ("found", "at_most", "says"),
    [
        (0.96, False, "met; goal 0.97: not reached"),
        (0.97, False, "met; goal 0.97: reached"),
        (0.94, False, "MISSED; goal 0.97: not reached"),
        (0.96, True, "MISSED; goal 0.97: reached"),
    ],
)
def test_a_verdict_hides_nothing(helpers, found, at_most, says):
    assert helpers.verdict("it", found, 0.95, 0.97, at_most=at_most).endswith(says)
    assert helpers.verdict("it", None, 0.95) == "it: not measured"


def test_a_child_tells_its_own_peak_and_not_its_parents(helpers):
    ballast = bytearray(300 << 20)
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])  # every page of the parent is resident
    code = f"import sys; sys.path.insert(0, {str(PATH.parent)!r}); import side_by_side; "
    child = helpers.run_child(["-c", code + "side_by_side.tell_parent(said='so')"])
    assert child.told == {"said": "so"}
    assert 1 << 20 < child.peak < 200 << 20


def test_a_child_that_fails_says_why(helpers):
    with pytest.raises(RuntimeError, match=r"failed with 4:(.|\n)*the reason"):
        helpers.run_child(["-c", "import sys; sys.stderr.write('the reason'); sys.exit(4)"])
