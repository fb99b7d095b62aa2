"""The spec's section ``splits``: which examples are fitted on, chosen on and reported on."""

from __future__ import annotations

from pydantic import Field, model_validator

from probekit.sections import Name, Section, fault

TRAIN, VALID, TEST = "train", "valid", "test"


class ShareOf(Section):
    """A random share of the examples whose split column holds some value."""

    of: str | list[str] = Field(description="value, or values, of the split column")
    share: float = Field(gt=0, lt=1, description="share of them, drawn by the seed; the others stay where they are")


class Splits(Section):
    """Fractions drawn at random, or the values of a column. Splits act on examples, or on whole groups of them."""

    column: str | None = Field(None, description="the column that names each example's split; default: drawn at random")
    train: float | str | list[str] | None = Field(
        None, description="share of the examples (default 0.7), or the column's value or values (default 'train')"
    )
    valid: float | str | list[str] | ShareOf | None = Field(
        None,
        description="share of the examples (default 0.15), or with a column: its value or values (default 'valid'), "
        "a share of the training examples, or a share of the examples with another value",
    )
    test: float | str | list[Name] | None = Field(
        None,
        description="share of the examples (default 0.15), or the column's value (default 'test'); a list gives "
        "several test splits, each reported by its name, the first one as the error",
    )
    stratify: str | None = Field(None, description="the label factor whose classes every drawn split has alike")
    group: str | None = Field(None, description="the column whose values are kept whole in one split")
    limit: dict[Name, int] = Field(
        default_factory=dict, description="at most so many examples of a split, drawn by the seed"
    )
    allow_leakage: bool = Field(False, description="go on when an example or its content is in train and in test")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of all draws")

    @model_validator(mode="after")
    def _one_way(self) -> Splits:
        if self.column is None:
            shares = (self.train, self.valid, self.test)
            if any(not isinstance(share, float | int | None) for share in shares):
                raise fault("PK-Y29", "values of a column need 'column:'; without it, shares are numbers")
            if any(not 0 < share < 1 for share in self.shares()) or sum(self.shares()) > 1 + 1e-9:
                what = (
                    f"train, valid and test must each lie between 0 and 1 and add up to at most 1, got {self.shares()}"
                )
                raise fault("PK-Y30", what)
        elif isinstance(self.train, float) or isinstance(self.test, float):
            raise fault("PK-Y29", "with 'column:', train and test are values of it; only valid can be a share")
        elif isinstance(self.valid, float) and not 0 < self.valid < 1:
            raise fault("PK-Y30", f"valid must lie between 0 and 1, got {self.valid}")
        if self.stratify is not None and self.group is not None:
            raise fault("PK-Y29", "either stratify or group: whole groups cannot also have the classes alike")
        unknown = sorted(set(self.limit) - {TRAIN, VALID, *self.test_names()})
        if unknown or any(count < 1 for count in self.limit.values()):
            raise fault("PK-Y30", f"limit {self.limit}: names are train, valid, {', '.join(self.test_names())}, from 1")
        return self

    def shares(self) -> tuple[float, float, float]:
        """Return the shares of train, valid and test of a random split."""
        pairs = zip((self.train, self.valid, self.test), (0.7, 0.15, 0.15), strict=True)
        return tuple(float(share) if isinstance(share, float | int) else usual for share, usual in pairs)  # type: ignore[return-value]

    def test_names(self) -> list[str]:
        """Return the names of the test splits; a single one is called ``test``."""
        return self.test if isinstance(self.test, list) and len(self.test) > 1 else [TEST]
