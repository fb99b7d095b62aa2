"""The spec's section ``splits``: which examples are fitted on, chosen on and reported on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from probekit.errors import listed, nearest
from probekit.sections import Name, Section, fault, faults_below

TRAIN, VALID, TEST = "train", "valid", "test"
_Fault = tuple[tuple[str | int, ...], PydanticCustomError]
Values = str | Annotated[list[str], Field(min_length=1)]


class ShareOf(Section):
    """A random share of the examples whose split column holds some value."""

    of: Values = Field(description="value, or values, of the split column")
    share: float = Field(gt=0, lt=1, description="share of them, drawn by the seed; the others stay where they are")


class Splits(Section):
    """Fractions drawn at random, or the values of a column. Splits act on examples, or on whole groups of them."""

    column: str | None = Field(None, description="the column that names each example's split; default: drawn at random")
    train: float | Values | None = Field(
        None, description="share of the examples, or with a column: its value or values; default: 0.7, or 'train'"
    )
    valid: float | Values | ShareOf | None = Field(
        None,
        description="share of the examples, or with a column: its value or values, a share of the training examples, "
        "or a share of the examples with another value; default: 0.15, or 'valid'",
    )
    test: float | str | Annotated[list[Name], Field(min_length=1)] | None = Field(
        None,
        description="share of the examples, or with a column: its value; a list gives several test splits, each "
        "reported by its name, the first one as the error; default: 0.15, or 'test'",
    )
    stratify: str | None = Field(None, description="the label factor whose classes every drawn split has alike")
    group: str | None = Field(None, description="the column whose values are kept whole in one split")
    limit: dict[Name, int] = Field(
        default_factory=dict, description="at most so many examples of a split, drawn by the seed"
    )
    allow_leakage: bool = Field(
        False,
        description="go on, with a warning, when an id, a content or a group is in two splits, or one content has two "
        "labels",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of all draws")

    @model_validator(mode="after")
    def _one_way(self) -> Splits:
        faults = self._wrong_shares() if self.column is None else self._wrong_values()
        if self.stratify is not None and self.group is not None:
            what = "either stratify or group: whole groups cannot also have the classes alike"
            faults.append((("group",), fault("PK-Y29", what, "keep one")))
        known = [TRAIN, VALID, *self.test_names()]
        for name, count in self.limit.items():
            if name not in known:
                faults.append((("limit", name), fault("PK-Y26", f"no split {name!r}", nearest(name, known, "splits"))))
            elif count < 1:
                faults.append((("limit", name), fault("PK-Y30", f"must be at least 1, got {count}")))
        if faults:
            raise faults_below(*faults)
        return self

    def _wrong_shares(self) -> list[_Fault]:
        shares = dict(zip((TRAIN, VALID, TEST), self.shares(), strict=True))
        given = {name: getattr(self, name) for name in shares}
        faults: list[_Fault] = []
        for name, value in given.items():
            if not isinstance(value, float | None):
                hint = "add column: NAME for values of a column"
                faults.append(((name,), fault("PK-Y29", "must be a number without 'column:'", hint)))
            elif not 0 < shares[name] < 1:
                faults.append(((name,), fault("PK-Y30", f"must lie between 0 and 1, got {value:g}")))
        if not faults and sum(shares.values()) > 1 + 1e-9:
            parts = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            faults.append(((), fault("PK-Y30", f"the shares add up to {sum(shares.values()):g}, more than 1: {parts}")))
        return faults

    def _wrong_values(self) -> list[_Fault]:
        faults: list[_Fault] = []
        for name in (TRAIN, TEST):
            value = getattr(self, name)
            if isinstance(value, float):
                what = f"must be a value of column {self.column!r} as text, got the number {value:g}"
                faults.append(((name,), fault("PK-Y29", what, f"quote it: '{value:g}'")))
        if isinstance(self.valid, float) and not 0 < self.valid < 1:
            faults.append(((VALID,), fault("PK-Y30", f"must lie between 0 and 1, got {self.valid:g}")))
        names = self.test_names()
        twice = [name for index, name in enumerate(names) if name in (*names[:index], TRAIN, VALID)]
        if twice:
            what = f"the names of test splits must differ, also from train and valid: {listed(twice)}"
            faults.append(((TEST,), fault("PK-Y27", what)))
        return faults

    def shares(self) -> tuple[float, float, float]:
        """Return the shares of train, valid and test of a random split."""
        pairs = zip((self.train, self.valid, self.test), (0.7, 0.15, 0.15), strict=True)
        return tuple(float(share) if isinstance(share, float | int) else usual for share, usual in pairs)  # type: ignore[return-value]

    def test_names(self) -> list[str]:
        """Return the names of the test splits; a single one is called ``test``."""
        return self.test if isinstance(self.test, list) and len(self.test) > 1 else [TEST]
