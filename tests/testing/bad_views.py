"""Controls, reports, findings and listeners with one fault each, by the check that must find it and what it says."""

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy_net import NumpyNet, write

from probekit.components import LabelControl, Report
from probekit.data.controls import ControlTask, RandomWeights, ShuffledLabels
from probekit.errors import InputError, Problem, printable
from probekit.hookspecs import hookimpl
from probekit.results import FindingRecord, RunResult
from probekit.sections import runtime_option

Given = Callable[[Any], dict[str, Any]]


def control_of(made: Any, **fields: Any) -> Given:
    def given(_: Any) -> dict[str, Any]:
        return {"control": made(**fields)}

    given.__name__ = made.__name__
    return given


class _Drawn(LabelControl):
    """Permutes the labels of each part; ``spoil`` is its fault."""

    kind: Literal["drawn"] = "drawn"

    def draw(self, target: Any, parts: Any, columns: Any, generator: Any) -> Any:
        codes = ShuffledLabels().draw(target, parts, columns, generator)
        return self.spoil(codes, target, columns)

    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        raise NotImplementedError


class LabelsAll(_Drawn):
    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        return np.zeros_like(codes)


class OtherDtype(_Drawn):
    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        return codes.astype(np.float32)


class UnseenClass(_Drawn):
    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        if target.task == "classes":
            codes[target.train[codes[target.train] == 2]] = 1
        return codes


class RefusesAll(_Drawn):
    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        raise InputError(Problem("PK-L28", "nothing is served"))


class CrashesOnTags(_Drawn):
    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        return {"classes": codes, "number": codes}[target.task]


class OwnDice(_Drawn):
    def draw(self, target: Any, parts: Any, columns: Any, generator: Any) -> Any:
        return super().draw(target, parts, columns, np.random.default_rng())

    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        return codes


class NoDice(_Drawn):
    def draw(self, target: Any, parts: Any, columns: Any, generator: Any) -> Any:
        return super().draw(target, parts, columns, np.random.default_rng(0))

    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        return codes


class Truth(_Drawn):
    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        return target.codes.copy()


class WritesTarget(_Drawn):
    def spoil(self, codes: Any, target: Any, columns: Any) -> Any:
        target.codes[target.train] = codes[target.train]
        return codes


class ReadsSecretly(ControlTask):
    def needed_columns(self) -> dict[str, str]:
        return {}


class NamesNoField(ControlTask):
    def needed_columns(self) -> dict[str, str]:
        return {"column": self.by}


class TellsArrays(ShuffledLabels):
    def facts(self, target: Any, parts: Any, columns: Any) -> dict[str, Any]:
        return {"counts": np.zeros(3)}


_NAMES: list[int] = []


class ChangesItsName(ShuffledLabels):
    def control_name(self) -> str:
        _NAMES.append(1)
        return f"shuffled {len(_NAMES)}"


class SeedsAlike(ShuffledLabels):
    def all_seeds(self) -> range:
        return range(5, 6)


class SameModel(RandomWeights):
    def twin(self, backend: Any, seed: int) -> Any:
        return backend


class OneTwin(RandomWeights):
    def twin(self, backend: Any, seed: int) -> Any:
        return backend.with_random_weights(7)


def twin_of(made: Any) -> Given:
    def given(folder: Path) -> dict[str, Any]:
        return {"control": made(), "backend": NumpyNet(path=write(folder / "net.npz"))}

    given.__name__ = made.__name__
    return given


def words(made: Any) -> Given:
    def given(_: Any) -> dict[str, Any]:
        rng = np.random.default_rng(4)
        column = np.array([f"word{number}" for number in rng.integers(0, 12, 120)], dtype=object)
        return {"control": made(by="word"), "columns": {"word": column}}

    given.__name__ = made.__name__
    return given


CONTROLS = [control_of(ShuffledLabels, seeds=2), words(ControlTask), twin_of(RandomWeights)]

BAD_CONTROLS: dict[str, dict[Given, str]] = {
    "test_draws_replace_labels_alone": {
        control_of(LabelsAll): "labels other rows", control_of(OtherDtype): "float32",
        control_of(UnseenClass): "no training row has", control_of(RefusesAll): "refuses every task",
        control_of(CrashesOnTags): "KeyError"},
    "test_draws_depend_on_the_generator_alone": {
        control_of(OwnDice): "two draws", control_of(NoDice): "one draw", control_of(Truth): "one draw|truth"},
    "test_draws_leave_what_they_are_given": {control_of(WritesTarget): "changes what it was given"},
    "test_needed_columns_are_those_that_are_read": {
        words(ReadsSecretly): "with the columns 'id'", words(NamesNoField): "no fields"},
    "test_facts_are_plain": {control_of(TellsArrays): "facts"},
    "test_its_name_and_seeds_are_told": {
        control_of(ChangesItsName): "control_name", control_of(SeedsAlike, seeds=2): "all_seeds"},
    "test_a_twin_is_another_model_with_the_same_taps": {
        twin_of(SameModel): "two twins", twin_of(OneTwin): "two twins"},
}  # fmt: skip


# --- reports


class Plain(Report):
    """One line a probe."""

    kind: Literal["plain"] = "plain"
    fault: str = runtime_option("", "what it does wrong")

    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> str:
        lines = [f"{result.name}: {len(result.probes)} probes"]
        for probe in result.probes:
            name = probe.tap if self.fault == "obeys names" else printable(probe.tap)
            lines.append(f"{name} {'' if self.fault == 'shows no errors' else probe.error}")
        if self.fault == "clock":
            lines.append(str(time.time_ns()))
        if self.fault == "colours":
            lines[0] = f"\x1b[31m{lines[0]}"
        if self.fault == "narrow":
            lines[0] = lines[0][: 100 // (width - 20)]
        if self.fault == "first probe":
            lines.append(result.probes[0].tap)
        if self.fault == "changes":
            result.provenance["seen"] = True
        return "\n".join(lines)


class Elsewhere(Plain):
    filename: ClassVar[str | None] = "../plain.txt"


class OverResults(Plain):
    filename: ClassVar[str | None] = "results.json"


class Bytes(Plain):
    def render(self, result: RunResult, width: int = 80, colour: bool = False) -> Any:
        return super().render(result).encode()


def report_of(made: Any, fault: str = "") -> Given:
    def given(_: Any) -> dict[str, Any]:
        return {"report": made(fault=fault)}

    given.__name__ = fault or made.__name__
    return given


REPORTS = [report_of(Plain)]

BAD_REPORTS: dict[str, dict[Given, str]] = {
    "test_filename_is_one_name": {report_of(Elsewhere): "filename is", report_of(OverResults): "every run writes"},
    "test_text_is_a_function_of_the_result": {
        report_of(Plain, "clock"): "another text", report_of(Plain, "changes"): "changes the result",
        report_of(Bytes): "render gives"},
    "test_another_result_gives_another_text": {report_of(Plain, "shows no errors"): "the same text"},
    "test_a_result_without_probes_is_shown": {report_of(Plain, "first probe"): "IndexError"},
    "test_names_stay_names": {report_of(Plain, "obeys names"): "reaches the text"},
    "test_width_and_colour_are_heeded": {
        report_of(Plain, "colours"): "without colour", report_of(Plain, "narrow"): "at width 20"},
}  # fmt: skip


# --- findings and listeners


def module(**members: Any) -> ModuleType:
    made = ModuleType("a_plugin")
    vars(made).update(members)
    return made


def finds(kind: str = "example", **fields: Any) -> Callable[..., Any]:
    def find(result: RunResult) -> list[FindingRecord]:
        made = {"severity": "info", "sentence": "It is so.", **fields}
        return [FindingRecord(kind=kind, **made)] if result.probes else []

    return hookimpl(find)


def found_by(find: Callable[..., Any], name: str = "right") -> Given:
    def given(_: Any) -> dict[str, Any]:
        return {"module": module(find=find), "kinds": ["example"]}

    given.__name__ = name
    return given


def crashes(result: RunResult) -> Any:
    return [result.probes[0]]


_SEEN: list[int] = []


def counts(result: RunResult) -> Any:
    _SEEN.append(1)
    return [FindingRecord(kind="example", severity="info", sentence=f"Call {len(_SEEN)}.")]


def changes(result: RunResult) -> Any:
    result.provenance["seen"] = True
    return []


FINDINGS = [found_by(finds())]

BAD_FINDINGS: dict[str, dict[Given, str]] = {
    "test_find_gives_records_of_its_kinds": {
        found_by(finds("other")): "the kind 'other'", found_by(finds(sentence=" ")): "no sentence",
        found_by(finds(evidence={"at": float("nan")})): "evidence", found_by(finds(taps=["softmax"])): "softmax",
        found_by(crashes): "FindingRecords|IndexError"},
    "test_find_is_a_function_of_the_result": {found_by(counts): "other findings", found_by(changes): "changes"},
}  # fmt: skip


def listens(name: str, function: Callable[..., Any]) -> Given:
    def given(_: Any) -> dict[str, Any]:
        return {"module": module(**{name: hookimpl(function)})}

    given.__name__ = name
    return given


def on_end(result: RunResult) -> None:
    """Does nothing."""


def takes_more(result: RunResult, folder: str) -> None:
    """Asks for what no event gives."""


def raises(result: RunResult) -> None:
    raise OSError("no network")


def writes(result: RunResult) -> None:
    result.provenance["seen"] = True


LISTENERS = [listens("on_run_end", on_end)]

BAD_LISTENERS: dict[str, dict[Given, str]] = {
    "test_events_are_those_that_there_are": {
        listens("on_run_stop", on_end): "no event 'on_run_stop'", listens("on_run_end", takes_more): "folder",
        listens("off", on_end): "listens to nothing"},
    "test_events_change_nothing": {
        listens("on_run_end", raises): "no network", listens("on_run_end", writes): "changes the result"},
}  # fmt: skip
