"""The model's own error on a label factor, beside the probes'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probekit.errors import InputError, Problem, absent_file, listed
from probekit.probes.metrics import balanced_error

if TYPE_CHECKING:
    from probekit.components import FloatArray, IntArray, Labels, ModelOutput


def classes_of_output(output: ModelOutput, labels: Labels, entries: int) -> IntArray:
    """Return the factor's class of each entry of the model's output, -1 for an entry that is none of them.

    Raises:
        InputError: ``PK-L24``, the classes cannot be mapped, or the factor has yes/no labels.
    """
    if labels.task == "multilabel":
        what = f"the factor {output.factor!r} has yes/no labels, which an argmax does not tell"
        raise InputError(Problem("PK-L24", what, "name a factor with classes, or a number", "model.output.factor"))
    field = "model.output.classes"
    codes = {name: code for code, name in enumerate(labels.classes)}
    if output.classes_file is not None:
        path = Path(output.classes_file)
        if not path.is_file():
            raise InputError(absent_file(path, "model.output.classes_file"))
        names = path.read_text(encoding="utf-8").split("\n")
        names = names[:-1] if names[-1] == "" and len(names) == entries + 1 else names
        field = "model.output.classes_file"
    elif output.classes == "integers":
        words = [name for name in labels.classes if not name.isdigit() or int(name) >= entries]
        if words:
            what = f"the classes {listed(words)} are no positions in an output of {entries} entries"
            raise InputError(Problem("PK-L24", what, "set classes: sorted, or list them in the output's order", field))
        names = [str(entry) for entry in range(entries)]
    else:
        names = list(labels.classes if output.classes == "sorted" else output.classes)
    if len(names) != entries:
        what = f"{len(names)} classes for an output of {entries} entries"
        raise InputError(Problem("PK-L24", what, "list one class an entry, in the output's order", field))
    mapped = np.array([codes.get(name, -1) for name in names], dtype=np.int64)
    if (mapped < 0).all():
        what = f"no class of the output {listed(names)} is one of the factor's {listed(labels.classes)}"
        raise InputError(Problem("PK-L24", what, field=field))
    return mapped


def number_of_output(output: FloatArray, factor: str) -> FloatArray:
    """Return the number that the model predicts for each row, shape (rows,), of its output, shape (rows, entries).

    Raises:
        InputError: ``PK-L24``, the output has several entries.
    """
    if output.shape[1] != 1:
        what = f"an output of {output.shape[1]} entries for the number {factor!r}"
        hint = "name a tensor of one entry an example, or leave output out"
        raise InputError(Problem("PK-L24", what, hint, "model.output.name"))
    return output[:, 0]


def predict(output: FloatArray, mapped: IntArray) -> IntArray:
    """Return the class of each row's largest entry, -1 where that entry is no class of the factor.

    Args:
        output: shape (rows, entries).
        mapped: shape (entries,).
    """
    return np.asarray(mapped[output.argmax(axis=1)])


def score_model(output: FloatArray, mapped: IntArray, codes: IntArray) -> dict[str, float]:
    """Return the model's error, balanced error and, over more than five entries, top-5 error.

    Args:
        output: shape (rows, entries); only its order counts, so that logits and probabilities serve alike.
        mapped: the class of each entry.
        codes: shape (rows,), no -1 among them.
    """
    predicted = predict(output, mapped)
    scores = {"error": float(np.mean(predicted != codes)), "balanced_error": balanced_error(predicted, codes)}
    if output.shape[1] > 5:
        top = np.argpartition(-output, 4, axis=1)[:, :5]
        scores["top5_error"] = float(np.mean(~(mapped[top] == codes[:, None]).any(axis=1)))
    return scores
