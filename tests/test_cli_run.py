"""Runs as processes: two at once, and Ctrl-C once and twice. The model is slow and logs what it is fed."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


def wait_for(process: subprocess.Popen[str], there: Callable[[], bool]) -> None:
    """Wait until something is there; a process that ends before is a failure."""
    while not there():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


# --- two runs at once -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def together(kill_harness, tmp_path_factory) -> SimpleNamespace:
    """A run; while it extracts, one that waits for it, and one that does not."""
    site = kill_harness.SlowSite(tmp_path_factory.mktemp("together"), seconds=0.05)
    first = site.start("-q", "--in-process")
    wait_for(first, lambda: any(site.batches()))
    os.kill(first.pid, signal.SIGSTOP)  # it goes on when the others have found it at work
    try:
        second = site.start("-q", "--in-process", out="second")
        third = site.start("-q", "--in-process", "--no-wait", out="third")
        third_said = third.communicate(timeout=120)
        waiting = second.stderr.readline()
    finally:
        os.kill(first.pid, signal.SIGCONT)
    second_out, second_err = second.communicate(timeout=120)
    return SimpleNamespace(
        site=site, first=(*first.communicate(timeout=120), first.returncode),
        second=(second_out, waiting + second_err, second.returncode), third=(*third_said, third.returncode),
        first_pid=first.pid,
    )  # fmt: skip


def test_of_two_runs_at_once_both_come_to_their_end_with_the_same_numbers(together):
    assert together.first[2] == together.second[2] == 0
    outputs = [together.site.folder / name / "predictions.safetensors" for name in ("out", "second")]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_of_two_runs_at_once_the_model_is_passed_over_once(together, kill_harness):
    firsts = [first for _, first in together.site.batches()]
    assert firsts == list(range(0, kill_harness.ROWS, kill_harness.BATCH))


def test_a_run_that_waits_says_for_whom(together):
    said = together.second[1]
    assert re.search(rf"process {together.first_pid} on \S+, since \d{{4}}-\d\d-\d\dT", said), said


def test_a_run_that_does_not_wait_ends_with_4_and_says_who_holds_the_features(together):
    out, err, code = together.third
    assert (code, out) == (4, "")
    assert re.match(
        rf"error PK-R09 .*process {together.first_pid} on \S+, since \S+, is extracting from the same model", err
    )


def test_a_run_that_does_not_wait_leaves_no_result(together):
    assert list((together.site.folder / "third").iterdir()) == []


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["in a process of its own", "in this process"])
def stopped(request: Any, kill_harness, tmp_path_factory) -> SimpleNamespace:
    """A run that Ctrl-C stopped in its extraction, as a terminal does it: all processes of the group are told."""
    site = kill_harness.SlowSite(tmp_path_factory.mktemp("stopped"), seconds=0.02)
    process = site.start("-q", *(["--in-process"] if request.param == "in this process" else []))
    wait_for(process, lambda: any(site.batches()))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return SimpleNamespace(site=site, out=out, err=err, code=process.returncode, ranges=site.ranges())


def test_ctrl_c_ends_a_run_with_130_and_says_how_to_go_on(stopped):
    assert (stopped.code, stopped.out) == (130, "")
    lines = [line for line in stopped.err.splitlines() if line]
    assert lines[0] == "stopping after this row range; press Ctrl-C again to stop now"
    assert re.match(
        r"interrupted; what was extracted is kept\. To go on, type: probekit run s\.yaml -o out -q", lines[1]
    )
    assert len(lines) == 2


def test_ctrl_c_keeps_the_row_range_that_it_meets(stopped, kill_harness):
    """Every range that was begun is whole, and in the store."""
    from probekit.store.feature_store import FeatureStore

    (begun,) = stopped.ranges.values()
    assert 1 <= len(begun) < kill_harness.ROWS // kill_harness.RANGE
    entries = FeatureStore(stopped.site.store).entries()
    assert {(entry.ranges, entry.rows) for entry in entries} == {(len(begun), len(begun) * kill_harness.RANGE)}


def test_after_ctrl_c_the_same_command_goes_on_without_extracting_anything_twice(stopped, kill_harness):
    process = stopped.site.start("-q", "--in-process")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    firsts = [first for _, first in stopped.site.batches()]
    assert sorted(firsts) == list(range(0, kill_harness.ROWS, kill_harness.BATCH))


@pytest.mark.parametrize("arguments", [["-q"], ["-q", "--in-process"]], ids=["in a process of its own", "in this one"])
def test_a_second_ctrl_c_ends_a_run_in_the_middle_of_a_row_range(kill_harness, tmp_path, arguments):
    """A batch takes a minute, a row range two."""
    from probekit.store.feature_store import FeatureStore

    site = kill_harness.SlowSite(tmp_path, seconds=60)
    process = site.start(*arguments)
    wait_for(process, lambda: any(site.batches()))
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr.readline().startswith("stopping after this row range")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("interrupted; what was extracted is kept.")
    assert FeatureStore(site.store).entries() == []


# --- stopped while it fits --------------------------------------------------------------------------------------------

THREE = ("-q", "--set", "taps=[x, wide, out]")


@pytest.fixture(scope="module")
def undisturbed(kill_harness, tmp_path_factory) -> SimpleNamespace:
    """A run of three fits that nothing stops."""
    site = kill_harness.SlowSite(tmp_path_factory.mktemp("undisturbed"), 0.0, "{kind: slow_ridge}")
    process = site.start(*THREE)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    return site


@pytest.fixture(scope="module", params=[signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def fitting(request: Any, kill_harness, tmp_path_factory) -> SimpleNamespace:
    """A run that a signal met in its third fit, and what it left; and the run of the same command after it."""
    site = kill_harness.SlowSite(tmp_path_factory.mktemp("fitting"), 0.0, "{kind: slow_ridge}")
    (site.folder / "stuck").touch()
    process = site.start(*THREE)
    wait_for(process, lambda: len(site.fits()) == 3)
    os.killpg(process.pid, request.param)
    out, err = process.communicate(timeout=120)
    kept = sorted(path.name for path in (site.out / "fits").iterdir())
    left = sorted(path.name for path in site.out.iterdir())
    (site.folder / "stuck").unlink()
    again = site.start(*THREE)
    said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    return SimpleNamespace(
        site=site, signal=request.param, out=out, err=err, code=process.returncode, kept=kept, left=left
    )


def test_a_run_that_is_stopped_while_it_fits_says_what_is_kept(fitting):
    lines = [line for line in fitting.err.splitlines() if line]
    told = "2 fits are kept in 'out/fits'; the same command goes on from there"
    go_on = "interrupted; what was extracted is kept. To go on, type: probekit run s.yaml -o out -q --set"
    code, expected = {
        signal.SIGINT: (130, [told, f"{go_on} 'taps=[x, wide, out]'"]),
        signal.SIGTERM: (143, [told]),
        signal.SIGKILL: (-signal.SIGKILL, []),
    }[fitting.signal]
    assert (fitting.code, fitting.out, lines) == (code, "", expected)


def test_a_run_that_is_stopped_while_it_fits_leaves_the_fits_that_were_done(fitting):
    assert fitting.left == ["fits"]
    assert len(fitting.kept) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}\.safetensors", name) for name in fitting.kept)


def test_the_same_command_makes_only_the_fits_that_are_missing(fitting):
    widths = [width for _, width in fitting.site.fits()]
    assert widths == [8, 24, 2, 2]


def test_the_results_are_those_of_a_run_that_was_not_stopped(fitting, undisturbed):
    resumed, whole = (json.loads((site.out / "results.json").read_text()) for site in (fitting.site, undisturbed))
    assert resumed["provenance"]["fits"] == {"resumed": 2}
    assert whole["provenance"]["fits"] == {"resumed": 0}
    for found in (resumed, whole):
        for name in ("started", "seconds", "store", "fits", "spec"):
            found["provenance"].pop(name)
        found["provenance"]["models"]["default"].pop("backend")  # with the path of its log
        for probe in found["probes"]:
            probe.pop("seconds")
    assert resumed == whole
    files = [sorted(path.name for path in site.out.iterdir()) for site in (fitting.site, undisturbed)]
    assert files[0] == files[1]
    assert "fits" not in files[0]
    predictions = [(site.out / "predictions.safetensors").read_bytes() for site in (fitting.site, undisturbed)]
    assert predictions[0] == predictions[1]
