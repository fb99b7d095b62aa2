"""The conformance of reports, findings and listeners."""

from __future__ import annotations

import inspect
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from probekit import hookspecs
from probekit.results import FindingRecord, RunResult
from probekit.testing.checks import expect, no_crash, storable
from probekit.testing.component import ComponentConformance
from probekit.testing.results import HOSTILE, empty_result, example_result

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from probekit.components import Report
    from probekit.sections import Component

_ESCAPE = "\x1b"
_UNSHOWN = {"\x00": "NUL", "\u202e": "a right-to-left override"}


class ReportConformance(ComponentConformance):
    """What a report must hold to. Give ``report``.

    Example:
        ::

            class TestMyReport(ReportConformance):
                @pytest.fixture
                def report(self):
                    return MyReport()
    """

    @pytest.fixture
    def report(self) -> Report:
        """The report, as a spec would configure it."""
        raise NotImplementedError("override the fixture 'report'")

    @pytest.fixture
    def result(self) -> RunResult:
        """The result that it shows; default: one of four taps with factors of every task."""
        return example_result()

    @pytest.fixture
    def for_programs(self) -> bool:
        """Whether programs read the text, so that names stand there exactly, in the format's own escapes."""
        return False

    @pytest.fixture
    def component(self, report: Report) -> Component:
        """The report."""
        return report

    def test_filename_is_one_name(self, report: Report) -> None:
        """``filename`` is None, for a report that is printed, or one plain name: it is written below the run
        directory, and nowhere else.
        """
        name = type(report).filename
        plain = name is None or (name and PurePosixPath(name).name == name and "\\" not in name and ":" not in name)
        expect(plain, f"filename is {name!r}", 'write filename = "name.ending", without a folder')
        taken = {"results.json": "json"} if report.kind != "json" else {}
        expect(name not in taken, f"filename is {name!r}, which every run writes itself", "take another name")

    def test_text_is_a_function_of_the_result(self, report: Report, result: RunResult) -> None:
        """The same result gives the same text, also after it was saved and read back, and rendering changes nothing.

        ``probekit report`` renders saved results; a date, a random name or a second look at the data would differ.
        """
        before = result.to_json()
        todo = "use nothing but the result: no clock, no random names, no files"
        with no_crash("render", todo):
            first = report.render(result)
        expect(isinstance(first, str) and first.strip(), f"render gives {first!r:.60}", "return the text")
        expect(report.render(result) == first, "the same result gives another text", todo)
        expect(result.to_json() == before, "render changes the result", "copy what is changed")
        read = RunResult.model_validate_json(before)
        expect(report.render(read) == first, "a result that was saved and read gives another text", todo)

    def test_another_result_gives_another_text(self, report: Report, result: RunResult) -> None:
        """Where the errors differ, so does the text: a report shows what the run found."""
        worse = [
            probe.model_copy(update={"error": {**probe.error, "test": 0.987}, "scores": {
                metric: dict.fromkeys(by_split, 0.987) for metric, by_split in probe.scores.items()
            }})
            if probe.error is not None and probe.control is None else probe
            for probe in result.probes
        ]  # fmt: skip
        other = report.render(result.model_copy(update={"probes": worse}))
        expect(other != report.render(result), "other errors give the same text", "show the result's probes")

    def test_a_result_without_probes_is_shown(self, report: Report) -> None:
        """A run all of whose fits failed has a report too: it is when one is needed most."""
        with no_crash("render of a result without probes", "expect empty lists"):
            text = report.render(empty_result())
        expect(isinstance(text, str), f"render gives {type(text).__name__}", "return the text")

    def test_names_stay_names(self, report: Report, for_programs: bool) -> None:
        """Names of taps, factors and classes are data of strangers: control characters and overrides of the direction
        of text never reach the text as they are.

        A model's author names its tensors; a terminal, a browser or a reader must not obey them.
        """
        with no_crash("render of hostile names", "expect any text as a name"):
            text = report.render(example_result(HOSTILE))
        if for_programs:
            pytest.skip("the text is for programs, which need names as they are")
        todo = "pass names through probekit.errors.printable, or the format's own escapes"
        for sign, name in {**_UNSHOWN, f"{_ESCAPE}[31m": "an ANSI colour"}.items():
            expect(sign not in text, f"{name} of a tap's name reaches the text", todo)

    def test_width_and_colour_are_heeded(self, report: Report, result: RunResult) -> None:
        """Any width of a terminal works, and there are no ANSI colours unless ``colour`` asks for them.

        Output goes into files and pipes, too.
        """
        for width in (20, 80, 300):
            with no_crash(f"render at width {width}", "expect any width from 20 on"):
                text = report.render(result, width, colour=False)
            expect(_ESCAPE not in text, f"there are ANSI escapes at width {width} without colour", "heed colour")
        with no_crash("render with colour", "expect it"):
            report.render(result, 80, colour=True)


class FindingConformance:
    """What a module with the hook ``find`` must hold to. Give ``module`` and ``kinds``.

    Example:
        ::

            class TestMyFindings(FindingConformance):
                @pytest.fixture
                def module(self):
                    return my_plugin.findings

                @pytest.fixture
                def kinds(self):
                    return ["slow_start"]
    """

    @pytest.fixture
    def module(self) -> ModuleType:
        """The plugin's module."""
        raise NotImplementedError("override the fixture 'module'")

    @pytest.fixture
    def kinds(self) -> Sequence[str]:
        """The names of its entry points ``finding.NAME``."""
        raise NotImplementedError("override the fixture 'kinds'")

    @pytest.fixture
    def results(self) -> Sequence[RunResult]:
        """What it looks at; default: a result of every task, one without probes, one with hostile names. Add one in
        which it finds something.
        """
        return [example_result(), empty_result(), example_result(HOSTILE)]

    def test_find_gives_records_of_its_kinds(
        self, module: ModuleType, kinds: Sequence[str], results: Sequence[RunResult]
    ) -> None:
        """``find`` gives FindingRecords whose ``kind`` is one that the module declares, with a sentence, taps of the
        result and evidence that JSON can hold.

        They are saved with the result, and a machine finds them by their kind.
        """
        for result in results:
            for one in _find(module, result):
                expect(isinstance(one, FindingRecord), f"find gives {type(one).__name__}", "give FindingRecords")
                expect(one.kind in kinds, f"find gives the kind {one.kind!r}", f"use one of {', '.join(kinds)}")
                expect(one.sentence.strip(), f"{one.kind!r} has no sentence", "say it in plain English, with numbers")
                expect(storable(one.evidence), f"{one.kind!r} has the evidence {one.evidence}", "give plain values")
                known = {tap.tap for tap in result.graph.taps} | {probe.tap for probe in result.probes}
                strange = [tap for tap in one.taps if tap not in known]
                expect(not strange, f"{one.kind!r} names the taps {strange}", "name taps of the result")

    def test_find_is_a_function_of_the_result(self, module: ModuleType, results: Sequence[RunResult]) -> None:
        """The same result gives the same findings, and stays as it is: a view that is made again must say the same."""
        for result in results:
            before = result.to_json()
            first, again = _find(module, result), _find(module, result)
            expect(first == again, "the same result gives other findings", "use nothing but the result")
            expect(result.to_json() == before, "find changes the result", "copy what is changed")


class ListenerConformance:
    """What a module with event hooks must hold to. Give ``module``."""

    @pytest.fixture
    def module(self) -> ModuleType:
        """The plugin's module."""
        raise NotImplementedError("override the fixture 'module'")

    def test_events_are_those_that_there_are(self, module: ModuleType) -> None:
        """Each hook implementation that begins with ``on_`` is an event of probekit and takes its arguments, or some of
        them: others are refused when the plugin is loaded.
        """
        events = _events(module)
        expect(events, f"{module.__name__} listens to nothing", "mark an event with @probekit.hookimpl")
        for name, function in events.items():
            declared = getattr(hookspecs, name, None)
            known = sorted(one for one in vars(hookspecs) if one.startswith("on_"))
            expect(declared is not None, f"there is no event {name!r}", f"use one of {', '.join(known)}")
            strange = set(inspect.signature(function).parameters) - set(inspect.signature(declared).parameters)  # type: ignore[arg-type]
            expect(not strange, f"{name} takes {sorted(strange)}", "take the event's arguments, or fewer")

    def test_events_change_nothing(self, module: ModuleType) -> None:
        """An event with the records of a run raises nothing and changes none of them.

        What a listener raises is a warning in every run of everyone who has it installed.
        """
        result = example_result()
        before = result.to_json()
        given: dict[str, Any] = {"on_probe_fitted": {"probe": result.probes[0]}, "on_run_end": {"result": result}}
        called = {name: function for name, function in _events(module).items() if name in given}
        if not called:
            pytest.skip("the module listens to no event with a record of a run")
        for name, function in called.items():
            arguments = {key: given[name][key] for key in inspect.signature(function).parameters if key in given[name]}
            with no_crash(name, "handle what may fail, such as a file or a network"):
                function(**arguments)
        expect(result.to_json() == before, "an event changes the result", "copy what is changed")


def _find(module: ModuleType, result: RunResult) -> list[FindingRecord]:
    with no_crash(f"find of {module.__name__}", "return no finding where there is nothing to say"):
        return list(module.find(result))


def _events(module: ModuleType) -> dict[str, Any]:
    return {name: one for name, one in vars(module).items() if name.startswith("on_") and hasattr(one, "probekit_impl")}
