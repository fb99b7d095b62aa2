"""Which examples are fitted on, chosen on and reported on."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.data.tables import column as find_column
from probekit.errors import InputError, ProbekitWarning, Problem, listed
from probekit.spec.splits import TEST, TRAIN, VALID, ShareOf, Splits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Columns, IntArray, Labels


def split_examples(splits: Splits, columns: Columns, labels: Mapping[str, Labels]) -> dict[str, IntArray]:
    """Return the rows of each split, sorted: ``train``, ``valid`` and the test splits.

    Args:
        splits: the spec's section.
        columns: the dataset's.
        labels: of all factors; the one that ``stratify`` names is used, which must have classes.

    Raises:
        InputError: ``PK-L13`` an empty split, ``PK-L10`` one id in train and in test, ``PK-L11`` a group in several
            splits, ``PK-L16`` no such column, ``PK-L27`` ``stratify`` names a factor without classes.
    """
    rng = np.random.default_rng(splits.seed)
    count = len(columns["id"])
    if count == 0:
        raise InputError(Problem("PK-L13", "the dataset has no example"))
    strata = _strata(splits.stratify, labels)
    groups = find_column(columns, splits.group).astype(str) if splits.group is not None else None
    if splits.column is None:
        parts = _draw(splits, count, strata, groups)
    else:
        parts = _by_column(splits, find_column(columns, splits.column).astype(str), strata, groups)
    for name, most in splits.limit.items():
        if len(parts[name]) > most:
            parts[name] = rng.choice(parts[name], most, replace=False)
    parts = {name: np.sort(rows) for name, rows in parts.items()}
    for name, rows in parts.items():
        if not len(rows):
            values = listed(sorted(Counter(find_column(columns, splits.column).astype(str)))) if splits.column else ""
            hint = f"values of column {splits.column!r}: {values}" if values else f"{count} examples are too few"
            raise InputError(Problem("PK-L13", f"split {name!r} has no example", hint, "splits"))
    refuse_shared(parts, columns["id"].astype(str), "id", "PK-L10", allow=splits.allow_leakage)
    if groups is not None:
        refuse_shared(parts, groups, f"group of column {splits.group!r}", "PK-L11", allow=splits.allow_leakage)
    return parts


def _strata(stratify: str | None, labels: Mapping[str, Labels]) -> IntArray | None:
    if stratify is None:
        return None
    if labels[stratify].task != "classes":
        what = f"the factor {stratify!r} is a {labels[stratify].task}: it has no classes"
        hint = "name a factor of kind column, group or bins, or leave the key out"
        raise InputError(Problem("PK-L27", what, hint, "splits.stratify"))
    return labels[stratify].codes


def refuse_shared(
    parts: Mapping[str, IntArray], keys: Any, what: str, code: str, *, allow: bool, names: Any = None
) -> None:
    """Refuse what stands in two splits, or warn where leakage is allowed.

    Args:
        parts: rows of each split.
        keys: one value a row; two rows with one value are the same thing.
        what: how a message calls such a value.
        code: the fault's code.
        allow: warn instead.
        names: what a message shows for each row; default: the key.
    """
    shown = keys if names is None else names
    seen = {name: {keys[row]: shown[row] for row in rows} for name, rows in parts.items()}
    done: list[str] = []
    for name, values in seen.items():
        for other in done:
            shared = [shown for key, shown in values.items() if key in seen[other]]
            if shared and not allow:
                text = f"{len(shared)} times the same {what} in {other!r} and {name!r}: {listed(shared, 3)}"
                raise InputError(Problem(code, text, "mend the data, or set splits.allow_leakage: true", "splits"))
            if shared:
                text = f"leakage allowed: {len(shared)} times the same {what} in {other!r} and {name!r}"
                warnings.warn(text, ProbekitWarning, stacklevel=2)
        done.append(name)


def _draw(splits: Splits, count: int, strata: IntArray | None, groups: Any) -> dict[str, IntArray]:
    rows = np.arange(count)
    train, valid, test = (_size(share, rows, groups) for share in splits.shares())
    kept, test_rows = _part(rows, test, strata, groups, splits.seed)
    kept, valid_rows = _part(kept, valid, strata, groups, splits.seed + 1)
    if sum(splits.shares()) < 1 - 1e-9 and train < _size(1, kept, groups):
        _, kept = _part(kept, train, strata, groups, splits.seed + 2)
    return {TRAIN: kept, VALID: valid_rows, TEST: test_rows}


def _size(share: float, rows: IntArray, groups: Any) -> int:
    """Return how many examples, or groups where there are any, a share of the rows is; one at least."""
    whole = len(rows) if groups is None else len(np.unique(groups[rows]))
    return max(1, round(share * whole))


def _part(rows: IntArray, size: int, strata: IntArray | None, groups: Any, seed: int) -> tuple[IntArray, IntArray]:
    """Split rows into (the others, ``size`` random examples or groups of them)."""
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    state = seed % 2**32
    stratify = strata[rows] if strata is not None else None
    if stratify is not None and np.any(stratify < 0) and np.any(stratify >= 0):
        # Examples without a label are drawn by themselves: they are no class that must be in every split.
        lost = np.random.default_rng(seed).permutation(rows[stratify < 0])
        few = round(size * len(lost) / len(rows))
        others, part = _part(rows[stratify >= 0], size - few, strata, groups, seed)
        return np.concatenate([others, lost[few:]]), np.concatenate([part, lost[:few]])
    try:
        if groups is not None:
            shuffle = GroupShuffleSplit(1, test_size=size, random_state=state)
            others, part = next(shuffle.split(rows, groups=groups[rows]))
            return rows[others], rows[part]
        others, part = train_test_split(rows, test_size=size, stratify=stratify, random_state=state)
    except ValueError as error:
        what = f"{len(rows)} examples cannot be split: {error}"
        raise InputError(Problem("PK-L13", what, field="splits")) from None
    return others, part


def _by_column(splits: Splits, values: Any, strata: IntArray | None, groups: Any) -> dict[str, IntArray]:
    def rows_of(wanted: str | list[str]) -> IntArray:
        return np.flatnonzero(np.isin(values, [wanted] if isinstance(wanted, str) else wanted))

    train = rows_of(splits.train if isinstance(splits.train, str | list) else TRAIN)
    names = splits.test_names()
    test_values = splits.test if isinstance(splits.test, str | list) else TEST
    tests = {TEST: rows_of(test_values)} if names == [TEST] else {name: rows_of(name) for name in names}
    if isinstance(splits.valid, float):
        train, valid = _part(train, _size(splits.valid, train, groups), strata, groups, splits.seed)
    elif isinstance(splits.valid, ShareOf):
        pool = rows_of(splits.valid.of)
        _, valid = _part(pool, _size(splits.valid.share, pool, groups), strata, groups, splits.seed)
        train = np.setdiff1d(train, valid)
        tests = {name: np.setdiff1d(rows, valid) for name, rows in tests.items()}
    else:
        valid = rows_of(splits.valid if splits.valid is not None else VALID)
    return {TRAIN: train, VALID: valid, **tests}
