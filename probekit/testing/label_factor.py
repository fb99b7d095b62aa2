"""The conformance of label factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from probekit.components import Examples, Labels
from probekit.errors import listed
from probekit.testing.checks import expect, expect_named, refusal
from probekit.testing.component import ComponentConformance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array, LabelFactor
    from probekit.sections import Component


class LabelFactorConformance(ComponentConformance):
    """What a label factor must hold to. Give ``factor`` and ``columns``, among which are those that it reads.

    Example:
        ::

            class TestMyFactor(LabelFactorConformance):
                @pytest.fixture
                def factor(self):
                    return MyFactor(column="word")

                @pytest.fixture
                def columns(self):
                    return {"word": np.array(["a", "b", "b", "c"])}
    """

    @pytest.fixture
    def factor(self) -> LabelFactor:
        """The label factor, as a spec would configure it."""
        raise NotImplementedError("override the fixture 'factor'")

    @pytest.fixture
    def columns(self) -> Mapping[str, Array]:
        """A dataset's columns, four examples or more, of two labels or more; ``id`` may be left out."""
        raise NotImplementedError("override the fixture 'columns'")

    @pytest.fixture
    def component(self, factor: LabelFactor) -> Component:
        """The label factor."""
        return factor

    def test_labels_fit_their_task(self, factor: LabelFactor, columns: Mapping[str, Array]) -> None:
        """``label`` gives ``Labels`` whose codes have the shape, dtype and range of their task, and class names of text
        that differ.

        Probes are fitted to the codes as they are; a code beyond the classes, or a row too few, breaks the fit.
        """
        given = Examples(columns).columns
        labels = factor.label(given)
        expect(isinstance(labels, Labels), f"label() gives {type(labels).__name__}", "return probekit.Labels")
        names, codes, count = labels.classes, np.asarray(labels.codes), len(given["id"])
        expect(len(codes) == count, f"{len(codes)} labels for {count} examples", "one label an example")
        texts = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        expect(texts, f"the classes are {names}", "give texts, each once")
        if labels.task == "number":
            expect(
                codes.ndim == 1 and codes.dtype == np.float64, f"codes are {_shown(codes)}", "give (examples,), float64"
            )
            expect(not np.isinf(codes).any() and not names, "codes are infinite, or have classes", "NaN where missing")
        else:
            shape = (count,) if labels.task == "classes" else (count, len(names))
            todo = f"give {shape}, int64, -1 where the label is missing"
            expect(codes.shape == shape and codes.dtype == np.int64, f"codes are {_shown(codes)}", todo)
            most = len(names) - 1 if labels.task == "classes" else 1
            inside = codes.size and codes.min() >= -1 and codes.max() <= most
            expect(inside, f"codes lie in {codes.min()} to {codes.max()}, of {len(names)} classes", todo)
            if labels.task == "multilabel":
                partly = ((codes < 0).any(axis=1) != (codes < 0).all(axis=1)).any()
                expect(not partly, "a row has some labels missing only", "a row of -1 where any is missing")
        expect(labels.known().any(), "no example has a label", "give columns with labels")

    def test_labels_follow_the_examples(self, factor: LabelFactor, columns: Mapping[str, Array]) -> None:
        """The same columns give the same labels, and columns in another order the same labels in that order.

        An example's label must not depend on where it stands, nor on what was labelled before.
        """
        given = Examples(columns).columns
        first, again = factor.label(given), factor.label(given)
        todo = "number the classes by their names, as Labels.of does, and keep no state"
        expect(_text(first) == _text(again), "two calls give different labels", todo)
        order = np.random.default_rng(0).permutation(len(given["id"]))
        order = order[::-1] if (order == np.arange(len(order))).all() else order
        moved = factor.label(Examples({name: np.asarray(column)[order] for name, column in given.items()}).columns)
        expect(
            moved.classes == first.classes,
            f"in another order the classes are {moved.classes}, not {first.classes}",
            todo,
        )
        expect(
            _text(moved) == [_text(first)[row] for row in order], "in another order examples have other labels", todo
        )

    def test_columns_stay_as_they_are(self, factor: LabelFactor, columns: Mapping[str, Array]) -> None:
        """``label`` changes no column: the other factors, the splits and the controls read the same ones."""
        given = Examples(columns).columns
        before = {name: [repr(value) for value in column] for name, column in given.items()}
        factor.label(given)
        after = {name: [repr(value) for value in column] for name, column in given.items()}
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        expect(not changed, f"label() changes the columns {listed(changed)}", "copy a column before changing it")

    def test_a_column_that_is_missing_is_refused(self, factor: LabelFactor, columns: Mapping[str, Array]) -> None:
        """A dataset without the column that the factor reads is refused with a UserError that names it."""
        read = _Recorded(Examples(columns).columns)
        factor.label(read)
        needed = [name for name in read.seen if name in columns and name != "id"]
        if not needed:
            pytest.skip("the factor reads no column but id")
        for name in needed:
            others = {f"{key}_" if key == name else key: column for key, column in columns.items()}
            request, todo = (
                f"data without the column {name!r}",
                "read it as columns[name], which refuses and names the nearest",
            )

            def ask(given: Mapping[str, Array] = others) -> object:
                return factor.label(Examples(given).columns)

            expect_named(refusal(ask, request, todo), repr(name), request, todo)


class _Recorded(dict[str, "Array"]):
    """Columns that remember which were read."""

    def __init__(self, columns: Mapping[str, Array]) -> None:
        super().__init__(columns)
        self.seen: dict[str, None] = {}

    def __getitem__(self, name: str) -> Array:
        self.seen[name] = None
        return super().__getitem__(name)


def _shown(codes: Array) -> str:
    return f"{codes.shape}, {codes.dtype}"


def _text(labels: Labels) -> list[str]:
    """Return each example's label by the names of its classes."""
    if labels.task == "classes":
        return ["" if code < 0 else labels.classes[code] for code in labels.codes.tolist()]
    return [repr(code) for code in labels.codes.tolist()]
