"""How the command line speaks while it works: colours, progress with and without a terminal, and Ctrl-C."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from probekit import terminal
from probekit.features.extraction import StopRequest


@pytest.mark.parametrize(
    ("environ", "tty", "colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
    ],
)
def test_colours_are_for_terminals_that_want_them(monkeypatch, environ, tty, colour):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty, raising=False)
    assert terminal.terminal_size()[1] is colour


def test_the_width_is_the_terminals(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert terminal.terminal_size()[0] == 40


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch) -> Iterator[list[float]]:
    """A clock that stands still until its only value is changed."""
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_progress_without_a_terminal_is_one_line_a_tenth(capsys, clock):
    with terminal.progress(quiet=False) as tell:
        for done in range(1, 1001):
            tell("forward", done, 1000)
        tell("probes", 1, 3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[0] == "forward 1 of 1,000"
    assert lines[-2:] == ["forward 1,000 of 1,000", "probes 1 of 3"]


def test_progress_tells_how_fast_it_is_and_what_is_left(capsys, clock):
    with terminal.progress(quiet=False) as tell:
        tell("forward", 64, 10_000)
        clock[0] += 2
        tell("forward", 4000, 10_000)
        clock[0] += 2
        tell("forward", 10_000, 10_000)
    assert capsys.readouterr().err.splitlines() == [
        "forward 64 of 10,000",
        "forward 4,000 of 10,000 (2,000/s, 3 s left)",
        "forward 10,000 of 10,000 (2,500/s)",
    ]


def test_steps_of_unequal_size_say_what_they_are_at_and_what_is_left(capsys, clock):
    with terminal.progress(quiet=False) as tell:
        tell("probes", 0, 20, "tap 1 of 20, a (pool)")
        clock[0] += 2
        tell("probes", 0, 20, "3 of 8 heads, worst gap 3e-3, tap 1 of 20, a (pool)", 4000.0)
        tell("probes", 1, 20, "tap 2 of 20, b (pool)", 4000.0)
        for left, done in ((3600.0, 2), (700.0, 4), (60.0, 6), (4 * 3600.0, 8)):
            tell("probes", done, 20, "tap\x1b[31m", left)
        tell("probes", 20, 20, "", 0.0)
    assert capsys.readouterr().err.splitlines() == [
        "probes 0 of 20: tap 1 of 20, a (pool)",
        "probes 2 of 20 (60 min left): tap\\x1b[31m",
        "probes 4 of 20 (12 min left): tap\\x1b[31m",
        "probes 6 of 20 (60 s left): tap\\x1b[31m",
        "probes 8 of 20 (4.0 h left): tap\\x1b[31m",
        "probes 20 of 20",
    ]


def test_without_a_terminal_a_long_step_is_told_of_twice_a_minute(capsys, clock):
    with terminal.progress(quiet=False) as tell:
        for _ in range(70):
            tell("probes", 0, 2, f"at {clock[0] - 100:.0f} s", 500.0)
            clock[0] += 1
    assert capsys.readouterr().err.splitlines() == [
        "probes 0 of 2: at 0 s",
        "probes 0 of 2 (8 min left): at 30 s",
        "probes 0 of 2 (8 min left): at 60 s",
    ]


def test_a_quiet_run_tells_nothing(capsys):
    with terminal.progress(quiet=True) as tell:
        tell("forward", 1, 2)
    assert capsys.readouterr() == ("", "")


LIVE = """\
import time
from probekit import terminal

clock = time.monotonic
with terminal.progress(quiet=False) as tell:
    tell("a [red]: forward", 1, 4)
    terminal.say("said meanwhile")
    tell("a [red]: forward", 4, 4)
    tell("probes", 1, 3, "2 of 8 heads, [red]", 90.0)
    time.monotonic = lambda: clock() + 2
    tell("probes", 1, 3, "3 of 8 heads, worst gap 3e-3, [red]", 90.0)
    raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def shown() -> str:
    """What a terminal is shown by LIVE, which ends in the middle of its second stage."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "100"}
    command = [sys.executable, "-c", LIVE]
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env=environ) as process:
        os.close(theirs)
        found = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while piece := os.read(ours, 65536):
                found += piece
    os.close(ours)
    assert process.returncode == 3
    return found.decode()


def test_on_a_terminal_every_stage_has_one_line_and_what_is_said_stands_above_it(shown):
    lines = [line.split("\x1b[2K")[-1] for line in shown.split("\r\n")]
    assert [re.sub("[^a-z0-9/]+", " ", line)[:18].strip() for line in lines] == [
        "said meanwhile", "a red forward 4/4", "probes 1/3 90 s le", "25h",
    ]  # fmt: skip
    assert "90 s left 3 of 8 heads, worst gap 3e-3" in " ".join(lines[2].split())


def test_on_a_terminal_names_are_no_markup(shown):
    assert "a [red]: forward" in shown
    assert "3 of 8 heads, worst gap 3e-3, [red]" in shown


def test_a_run_that_ends_early_gives_the_terminal_its_cursor_back(shown):
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def interrupt(times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_asks_a_pass_to_stop_and_says_what_a_second_one_does(capsys):
    request = StopRequest(heeded=True)
    with terminal.stopping_after_range(request):
        interrupt()
    assert request.asked
    assert capsys.readouterr().err == "stopping after this row range; press Ctrl-C again to stop now\n"


def test_a_second_ctrl_c_stops_at_once():
    request = StopRequest(heeded=True)
    with pytest.raises(KeyboardInterrupt), terminal.stopping_after_range(request):
        interrupt(times=2)


def test_ctrl_c_where_nobody_heeds_the_request_stops_at_once():
    request = StopRequest(heeded=False)
    with pytest.raises(KeyboardInterrupt), terminal.stopping_after_range(request):
        interrupt()
    assert not request.asked


def test_afterwards_ctrl_c_means_what_it_meant_before():
    before = signal.getsignal(signal.SIGINT)
    with terminal.stopping_after_range(StopRequest()):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
