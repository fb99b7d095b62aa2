"""Work in a process of its own: what comes back, and what is said when that process dies."""

import ctypes
import os
import signal
import time
import warnings
from dataclasses import dataclass

import pytest

from probekit.errors import InputError, MachineError, ProbekitWarning, Problem
from probekit.isolation import CrashedError, Link, in_child


@dataclass
class Request:
    asked: bool = False
    heeded: bool = False


def double(link: Link, value: int) -> tuple[int, int]:
    link.tell("at", value)
    return 2 * value, os.getpid()


def warn(link: Link) -> None:
    warnings.warn("look here", ProbekitWarning, stacklevel=1)


def refuse(link: Link) -> None:
    raise InputError(Problem("PK-M20", "one"), Problem("PK-M39", "two", "do this", "model"))


def fail(link: Link) -> None:
    raise ZeroDivisionError("in the child")


def crash(link: Link) -> None:
    link.tell("batch", 7)
    ctypes.string_at(0)


def die(link: Link) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_until_asked(link: Link) -> None:
    link.tell("ready")
    while not link.stop.asked:
        time.sleep(0.01)
    raise KeyboardInterrupt


def run(function, *arguments, request=None, listen=lambda *_: None):
    return in_child(function, arguments, request or Request(), listen, "testing")


def test_the_result_and_the_messages_come_from_another_process():
    told = []
    assert run(double, 21, listen=lambda *values: told.append(values))[0] == 42
    assert told == [("at", 21)]
    assert run(double, 1)[1] != os.getpid()


def test_a_warning_of_the_child_is_given_here():
    with pytest.warns(ProbekitWarning, match="look here"):
        run(warn)


def test_what_the_user_can_mend_arrives_whole():
    with pytest.raises(InputError) as caught:
        run(refuse)
    assert caught.value.problems == (Problem("PK-M20", "one"), Problem("PK-M39", "two", "do this", "model"))


def test_a_fault_of_probekit_arrives_with_its_traceback():
    with pytest.raises(CrashedError, match=r"(?s)in fail.*ZeroDivisionError: in the child"):
        run(fail)


def test_a_native_crash_is_told_with_its_signal_and_the_last_message():
    with pytest.raises(InputError, match=r"crashed \(SIGSEGV\).*testing after batch 7") as caught:
        run(crash)
    assert caught.value.problems[0].code == "PK-M48"


def test_a_process_that_the_system_kills_is_a_matter_of_the_machine():
    with pytest.raises(MachineError, match="memory ran out") as caught:
        run(die)
    assert caught.value.problems[0].code == "PK-R04"


def test_a_request_to_stop_reaches_the_child_and_is_heeded_only_meanwhile():
    request = Request()

    def listen(*_: object) -> None:
        assert request.heeded
        request.asked = True

    with pytest.raises(KeyboardInterrupt):
        run(wait_until_asked, request=request, listen=listen)
    assert not request.heeded
