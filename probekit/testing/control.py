"""The conformance of controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from probekit.components import Examples, LabelControl, ModelControl, Target
from probekit.errors import UserError, listed
from probekit.testing.checks import equal_arrays, expect, no_crash, refusal, storable
from probekit.testing.component import ComponentConformance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array, Backend, Columns, Control, IntArray
    from probekit.sections import Component

_ROWS = 120


class ControlConformance(ComponentConformance):
    """What a control must hold to. Give ``control``, and ``backend`` where it is a ModelControl.

    Example:
        ::

            class TestMyControl(ControlConformance):
                @pytest.fixture
                def control(self):
                    return MyControl(by="word")
    """

    @pytest.fixture
    def control(self) -> Control:
        """The control, as a spec would configure it."""
        raise NotImplementedError("override the fixture 'control'")

    @pytest.fixture
    def columns(self, control: Control) -> Mapping[str, Array]:
        """The columns that it reads, 120 values each; default: words that come again, for each that it needs."""
        words = np.array([f"word{number}" for number in np.random.default_rng(4).integers(0, 12, _ROWS)], dtype=object)
        return dict.fromkeys(control.needed_columns().values(), words) if isinstance(control, LabelControl) else {}

    @pytest.fixture
    def backend(self) -> Backend | None:
        """A model for a ModelControl: one of a backend with ``with_random_weights``, or what the control needs."""
        return None

    @pytest.fixture
    def component(self, control: Control) -> Component:
        """The control."""
        return control

    def test_draws_replace_labels_alone(self, control: Control, columns: Mapping[str, Array]) -> None:
        """``draw`` gives codes of the same shape and dtype: labels where the target has one, none elsewhere, and of
        classes none that no training row gets. A task that it says nothing about is refused with a UserError.

        Controls share the passes of the true labels, and so must have their rows and classes.
        """
        for target, parts, table in _asked(control, columns):
            codes = _draw(control, target, parts, table)
            fact = f"the draw for {target.factor!r}"
            todo = "begin with target.codes.copy() and write labels of the target into the rows of parts"
            same = codes.shape == target.codes.shape and codes.dtype == target.codes.dtype
            expect(same, f"{fact} is {codes.shape}, {codes.dtype}", todo)
            made = Target(target.factor, target.classes, codes, target.train, target.valid, task=target.task)
            expect(equal_arrays(made.known(), target.known()), f"{fact} labels other rows", todo)
            known = codes[target.known()]
            if target.task == "number":
                continue
            most = len(target.classes) - 1 if target.task == "classes" else 1
            expect(known.min() >= 0 and known.max() <= most, f"{fact} has codes {known.min()} to {known.max()}", todo)
            strange = set(np.unique(known).tolist()) - set(np.unique(codes[target.train]).tolist())
            expect(not strange, f"{fact} gives other rows the classes {strange}, which no training row has", todo)

    def test_draws_depend_on_the_generator_alone(self, control: Control, columns: Mapping[str, Array]) -> None:
        """One seed gives the same labels again; another seed, or another factor's name, gives others.

        A control that is drawn anew in each run, or is the same for every seed, tells nothing of its spread.
        """
        for target, parts, table in _asked(control, columns):
            first, again = (_draw(control, target, parts, table, seed=1) for _ in range(2))
            todo = "draw with the generator that is given, and with nothing else"
            expect(equal_arrays(first, again), f"seed 1 gives two draws for {target.factor!r}", todo)
            others = [_draw(control, target, parts, table, seed=seed) for seed in (2, 3)]
            moved = any(not equal_arrays(first, other) for other in others)
            expect(moved, f"seeds 1, 2 and 3 give one draw for {target.factor!r}", todo)
            expect(not equal_arrays(first, target.codes), f"the draw for {target.factor!r} is the truth itself", todo)

    def test_draws_leave_what_they_are_given(self, control: Control, columns: Mapping[str, Array]) -> None:
        """``draw`` and ``facts`` change neither target, rows nor columns: they belong to the true labels."""
        for target, parts, table in _asked(control, columns):
            before = [target.codes.copy(), *(part.copy() for part in parts.values())]
            texts = {name: list(column) for name, column in table.items()}
            _draw(control, target, parts, table)
            after = [target.codes, *parts.values()]
            same = all(equal_arrays(one, other) for one, other in zip(before, after, strict=True))
            same = same and texts == {name: list(column) for name, column in table.items()}
            expect(same, f"a draw for {target.factor!r} changes what it was given", "copy before changing")

    def test_needed_columns_are_those_that_are_read(self, control: Control, columns: Mapping[str, Array]) -> None:
        """``draw`` reads no column but ``id`` and those of ``needed_columns``, whose keys are fields of the section.

        A missing column is told before the run by that key; others are not handed to it.
        """
        if not isinstance(control, LabelControl):
            pytest.skip("a ModelControl reads no columns")
        needed = control.needed_columns()
        strange = set(needed) - set(type(control).model_fields)
        expect(not strange, f"needed_columns has the keys {strange}, which are no fields", "map field to column")
        for target, parts, table in _asked(control, columns):
            only = {name: table[name] for name in {"id", *needed.values()}}
            todo = "name in needed_columns() every column that draw and facts read"
            with no_crash(f"a draw for {target.factor!r} with the columns {listed(only)}", todo):
                _draw(control, target, parts, only)

    def test_facts_are_plain(self, control: Control, columns: Mapping[str, Array]) -> None:
        """``facts`` gives plain values by name; they stand in the result, as JSON."""
        if not isinstance(control, LabelControl):
            pytest.skip("a ModelControl tells no facts")
        for target, parts, table in _asked(control, columns):
            told = control.facts(target, parts, table)
            expect(isinstance(told, dict) and storable(told), f"facts() is {told!r}", "give plain values by name")

    def test_its_name_and_seeds_are_told(self, control: Control) -> None:
        """``control_name`` is the same every time, and ``all_seeds`` are as many as ``seeds`` says.

        Results are found by both.
        """
        name, seeds = control.control_name(), list(control.all_seeds())
        expect(name and control.control_name() == name, f"control_name() is {name!r}", "give a text of the fields")
        whole = len(set(seeds)) == control.seeds and seeds[0] == control.seed
        expect(whole, f"all_seeds() is {seeds} for seed {control.seed} and seeds {control.seeds}", "count on from seed")

    def test_a_twin_is_another_model_with_the_same_taps(self, control: Control, backend: Backend | None) -> None:
        """``twin`` of one seed is one model, of another seed another one, and not the model itself; a backend that has
        none is refused with a UserError, and nothing is built or read.
        """
        if not isinstance(control, ModelControl):
            pytest.skip("a LabelControl has no twin")
        if backend is None:
            pytest.skip("no 'backend' is given")
        todo = "raise InputError with PK-M57 where there is no twin"
        try:
            one = control.twin(backend, 1)
        except UserError:
            refusal(lambda: control.twin(backend, 1), f"a twin of kind {backend.kind!r}", todo)
            return
        prints = [backend.fingerprint(), one.fingerprint(), control.twin(backend, 2).fingerprint()]
        expect(len(set(prints)) == 3, f"the fingerprints of the model and two twins are {prints}", "draw by the seed")
        again = control.twin(backend, 1).fingerprint()
        expect(again == prints[1], f"seed 1 gives {prints[1]!r}, then {again!r}", "draw by the seed alone")


def _targets() -> list[tuple[Target, dict[str, IntArray]]]:
    """Return a target of each task, with the rows of its parts; some rows have no label."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, _ROWS)
    classes[::10] = -1
    tags = rng.integers(0, 2, (_ROWS, 3))
    tags[::10] = -1
    numbers = rng.standard_normal(_ROWS)
    numbers[::10] = np.nan
    known = np.flatnonzero(classes >= 0)
    parts = {"train": known[:60], "valid": known[60:80], "test": known[80:]}
    rows = parts["train"], parts["valid"]
    return [
        (Target("classes", ("a", "b", "c"), classes, *rows), parts),
        (Target("tags", ("a", "b", "c"), tags, *rows, task="multilabel"), parts),
        (Target("number", (), numbers, *rows, task="number"), parts),
    ]


def _asked(control: Control, columns: Mapping[str, Array]) -> list[tuple[Target, dict[str, IntArray], Columns]]:
    """Return what a LabelControl says something about; it refuses the others with a UserError."""
    if not isinstance(control, LabelControl):
        pytest.skip("a ModelControl draws no labels")
    found: list[tuple[Target, dict[str, IntArray], Columns]] = []
    reasons: list[str] = []
    for target, parts in _targets():
        table = {"id": np.arange(_ROWS).astype(str), **Examples(columns).columns}
        with no_crash(f"a draw for the task {target.task!r}", "raise InputError with PK-L28 for what has no meaning"):
            try:
                _draw(control, target, parts, table)
            except UserError as error:
                reasons.append(str(error))
                continue
        found.append((target, parts, table))
    expect(found, f"the control refuses every task: {'; '.join(reasons)}", "give the fixture 'columns' that it needs")
    return found


def _draw(control: Control, target: Target, parts: Mapping[str, IntArray], columns: Columns, seed: int = 0) -> Array:
    assert isinstance(control, LabelControl)  # noqa: S101 - for the type checker
    return np.asarray(control.draw(target, parts, columns, control.generator(target.factor, seed)))
