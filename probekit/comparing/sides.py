"""The two sides of a comparison: run directories, and which model and checkpoint of each is meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probekit.errors import InputError, Problem, SpecError, listed, nearest
from probekit.predictions import OutputIdentity, identity_of, load_predictions
from probekit.report.saved_run import open_run
from probekit.spec.splits import TRAIN, VALID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from probekit.predictions import Predictions
    from probekit.results import ProbeResult, RunResult

Variant = tuple[str, str | None]
"""A model and its checkpoint, None where it has none."""


@dataclass(frozen=True, eq=False)
class Run:
    """What a run saved.

    Args:
        directory: as the user named it.
        result: of the run.
        predictions: of every feature row.
    """

    directory: str
    result: RunResult
    predictions: Predictions

    def variants(self) -> list[Variant]:
        """Return the models, each at each of its checkpoints, in the order of the result."""
        return list(dict.fromkeys((one.model, one.checkpoint) for one in self.result.probes if one.control is None))

    def classes(self, factor: str) -> list[str]:
        """Return the names of a factor's classes or yes/no labels; none of a number."""
        return [str(name) for name in self.result.provenance["labels"][factor].get("classes", [])]

    def split(self, name: str | None) -> str:
        """Return a test split: the one that is named, else the first.

        Raises:
            SpecError: ``PK-X31``, there is none of that name.
        """
        if name is None:
            return self.predictions.first_test
        tests = [split for split in self.predictions.splits if split not in {TRAIN, VALID}]
        if name not in tests:
            hint = nearest(name, tests, "test splits")
            raise SpecError(Problem("PK-X31", f"{self.directory!r} has no test split {name!r}", hint, "--split"))
        return name


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two models that are compared.

    Args:
        run: that probed it.
        variant: the model and its checkpoint.
        split: the test split.
    """

    run: Run
    variant: Variant
    split: str

    @property
    def key(self) -> str:
        """The model with its checkpoint as one name, as the provenance has it: ``NAME``, ``NAME@CHECKPOINT``."""
        return named(self.variant)

    def probes(self, factor: str | None = None) -> list[ProbeResult]:
        """Return the probes of true labels, of one factor or of all, in depth order."""
        return [
            one
            for one in self.run.result.probes
            if (one.model, one.checkpoint) == self.variant and one.control is None and factor in {None, one.factor}
        ]

    def taps(self) -> dict[str, str]:
        """Return the name of each probed tap and of its tensor, in depth order."""
        tensors = {one.tap: one.name for one in self.run.result.graph.taps if one.model == self.variant[0]}
        return {one.tap: tensors.get(one.tap, one.tap) for one in self.probes()}

    def own(self, factor: str) -> OutputIdentity | None:
        """Return the model's own prediction of a factor, None where there is none."""
        outputs = [whose for whose in self.run.predictions.predicted if isinstance(whose, OutputIdentity)]
        asked = (*self.variant, factor)
        return next((one for one in outputs if (one.model, one.checkpoint, one.factor) == asked), None)


def load_run(directory: str | Path, *, redact: bool = False) -> Run:
    """Return what a run saved; neither model nor data is needed.

    Args:
        directory: the run directory, or the ``results.json`` in it.
        redact: without absolute paths and names of users; of an absolute ``directory`` the last part is told.

    Raises:
        InputError: ``PK-X40`` to ``PK-X42`` and ``PK-X18``, what is there is not whole or not of this version;
            ``PK-X30``, results and predictions do not belong together, or there is no probe.
    """
    path = Path(directory)
    result = open_run(path)
    folder = path if path.is_dir() else path.parent
    predictions = load_predictions(folder)
    lacking = [one for one in result.probes if identity_of(one) not in predictions.predicted]
    lacking = lacking or [one for one in result.probes if one.factor not in predictions.labels]
    if lacking:
        what = f"the results and the predictions in {str(folder)!r} are of two runs: only the results have "
        what += f"{lacking[0].factor!r} at {lacking[0].tap!r}"
        raise InputError(Problem("PK-X30", what, "run the spec again"))
    if not result.probes:
        raise InputError(Problem("PK-X30", f"the run in {str(folder)!r} has no probe", "see its warnings"))
    if not redact:
        return Run(str(directory), result, predictions)
    from probekit.report.redaction import redact as redacted

    return Run(f"…/{folder.name}" if path.is_absolute() else str(directory), redacted(result), predictions)


def choose(first: Run, second: Run, model: str | None = None, checkpoint: str | None = None) -> tuple[Variant, Variant]:
    """Return which model and checkpoint of each run are compared.

    Without a word on it, what each run has only one of is taken, then what both have in common; of one run, its two
    models, or its two checkpoints.

    Args:
        first: a run.
        second: another one, or the same one.
        model: ``A:B``, or the name that both have.
        checkpoint: likewise.

    Raises:
        SpecError: ``PK-X31``, there is none of that name, or none is the only choice.
    """
    same = first is second
    names = [[name for name, _ in run.variants()] for run in (first, second)]
    firsts, seconds = (list(dict.fromkeys(some)) for some in names)
    alone = same and len(firsts) == 1
    models = (firsts[0], firsts[0]) if alone and model is None else _pair(firsts, seconds, model, "model", same=same)
    checkpoints = _checkpoints(first, second, models, checkpoint)
    chosen_first, chosen_second = (models[0], checkpoints[0]), (models[1], checkpoints[1])
    if same and chosen_first == chosen_second:
        what = f"{first.directory!r} would be compared with itself"
        hint = f"name another run, or two of its models or checkpoints; it has {listed(map(named, first.variants()))}"
        raise SpecError(Problem("PK-X31", what, hint))
    return chosen_first, chosen_second


def _checkpoints(first: Run, second: Run, models: tuple[str, str], text: str | None) -> tuple[str | None, str | None]:
    here, there = (
        [step for name, step in run.variants() if name == model and step is not None]
        for run, model in zip((first, second), models, strict=True)
    )
    if here and there:
        return _pair(here, there, text, "checkpoint", same=first is second and models[0] == models[1])
    steps = here or there
    if text is not None and text not in steps:
        what = f"no checkpoint {text!r}" if steps else "the models have no checkpoints"
        raise SpecError(Problem("PK-X31", what, nearest(text, steps, "checkpoints"), "--checkpoint"))
    if len(steps) > 1 and text is None:
        what = f"which checkpoint is compared is not clear: there are {listed(steps, 8)}"
        raise SpecError(Problem("PK-X31", what, "name one with --checkpoint"))
    step = text or next(iter(steps), None)
    return (step, None) if here else (None, step)


def _pair(firsts: Sequence[str], seconds: Sequence[str], text: str | None, what: str, *, same: bool) -> tuple[str, str]:
    """Return one name of each side.

    Args:
        firsts: the first side's names.
        seconds: the second side's.
        text: ``A:B``, or a name of both; None: the only choice there is.
        what: ``model`` or ``checkpoint``.
        same: both sides are of the same names, so that two different ones are meant.
    """
    if text is not None:
        return _named(firsts, seconds, text, what)
    if same:
        choices = [(firsts[0], firsts[1])] if len(firsts) == 2 else []
    elif len(firsts) == len(seconds) == 1:
        choices = [(firsts[0], seconds[0])]
    else:
        choices = [(name, name) for name in firsts if name in seconds]
    if len(choices) == 1:
        return choices[0]
    there = listed(firsts, 8) if same else f"{listed(firsts, 8)} and {listed(seconds, 8)}"
    fact = f"which {what}s are compared is not clear: there are {there}"
    raise SpecError(Problem("PK-X31", fact, f"name two with --{what} A:B"))


def _named(firsts: Sequence[str], seconds: Sequence[str], text: str, what: str) -> tuple[str, str]:
    if text in firsts and text in seconds:
        return text, text
    for place, letter in enumerate(text):
        if letter == ":" and text[:place] in firsts and text[place + 1 :] in seconds:
            return text[:place], text[place + 1 :]
    one, _, other = text.partition(":")
    side, name, known = ("first", one, firsts) if one not in firsts else ("second", other or one, seconds)
    fact = f"the {side} run has no {what} {name!r}"
    raise SpecError(Problem("PK-X31", fact, nearest(name, known, f"{what}s"), f"--{what} {text}"))


def taps_given(
    texts: Sequence[str], first: Mapping[str, str], second: Mapping[str, str], of: str = "run"
) -> dict[str, str]:
    """Return what ``--map TAP_A=TAP_B`` says, each tap by its name in the results.

    Args:
        texts: as they were written.
        first: the first side's taps, by their names in the results, and their tensors' own names.
        second: the second side's.
        of: what a side is called in messages.

    Raises:
        SpecError: ``PK-X35``, a tap that is not there, or one that is named twice; all at once.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for text in texts:
        splits = [(text[:place], text[place + 1 :]) for place, letter in enumerate(text) if letter == "="]
        pairs = [(_label(a, first), _label(b, second)) for a, b in splits]
        pair = next(((a, b) for a, b in pairs if a is not None and b is not None), None)
        if pair is None:
            problems.append(_unknown(text, splits, first, second, of))
        elif pair[0] in found or pair[1] in found.values():
            twice = pair[0] if pair[0] in found else pair[1]
            problems.append(Problem("PK-X35", f"the tap {twice!r} is named twice", field=f"--map {text}"))
        else:
            found[pair[0]] = pair[1]
    if problems:
        raise SpecError(*problems)
    return found


def _label(name: str, taps: Mapping[str, str]) -> str | None:
    """Return the name in the results of a tap that is named by it or by its tensor."""
    return name if name in taps else next((label for label, tensor in taps.items() if tensor == name), None)


def _unknown(
    text: str, splits: Sequence[tuple[str, str]], first: Mapping[str, str], second: Mapping[str, str], of: str
) -> Problem:
    field = f"--map {text}"
    if not splits:
        return Problem("PK-X35", "is no pair of taps", "write --map TAP_A=TAP_B", field)
    # A name may hold a sign of equality: the split whose left part is a tap is the one that was meant.
    one, other = next(((a, b) for a, b in splits if _label(a, first) is not None), splits[0])
    if _label(one, first) is None:
        return Problem("PK-X35", f"the first {of} has no probed tap {one!r}", nearest(one, first, "taps"), field)
    return Problem("PK-X35", f"the second {of} has no probed tap {other!r}", nearest(other, second, "taps"), field)


def named(variant: Variant) -> str:
    """Return a model with its checkpoint as one name: ``NAME@CHECKPOINT``; the provenance has the same keys."""
    return variant[0] if variant[1] is None else f"{variant[0]}@{variant[1]}"


def called(first: Side, second: Side) -> tuple[str, str]:
    """Return what to call each side: the run's name, model and checkpoint, as far as they differ."""
    columns = [
        (first.run.result.name, second.run.result.name),
        (first.variant[0], second.variant[0]),
        (first.variant[1] or "", second.variant[1] or ""),
    ]
    different = [pair for pair in columns if pair[0] != pair[1]]
    if not different:
        paths = [Path(side.run.directory) for side in (first, second)]
        different = [next(((a, b) for a, b in zip(*(_tails(p) for p in paths), strict=False) if a != b), ("A", "B"))]
    names = [" ".join(filter(None, side)) for side in zip(*different, strict=True)]
    return names[0], names[1]


def _tails(path: Path) -> list[str]:
    """Return the last part of a path, the last two, and so on."""
    parts = path.parts
    return ["/".join(parts[-count:]) for count in range(1, len(parts) + 1)]
