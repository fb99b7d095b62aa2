"""The spec's sections ``rows`` (what one feature row is), ``store`` (where features are kept) and ``memory``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from probekit.errors import described
from probekit.sections import Section, SpecPath, fault


class Rows(Section):
    """What one row of features is: an example, or one position of it (a token, a time step, a pixel)."""

    per: Literal["example", "position"] = Field("example", description="one feature row per example or per position")
    mask: str | None = Field(
        None,
        description="with per: position: the dataset's input or column, (examples, positions), that is 0 where there "
        "is no position; default: every position is one",
    )
    group: str | None = Field(
        None,
        description="a column: rows of one value are no independent evidence, so that intervals draw whole groups; "
        "default: the example where rows are positions",
    )

    @model_validator(mode="after")
    def _mask_for_positions(self) -> Rows:
        if self.mask is not None and self.per == "example":
            raise fault(
                "PK-Y29", "'mask' is for per: position", "give the mask to a reduction: {kind: pool, mask: ...}"
            )
        return self


class Store(Section):
    """Where features are kept, and how. Text stands for ``{path: TEXT}``."""

    path: SpecPath | None = Field(
        None, description="a folder; default: the variable PROBEKIT_STORE, else the user's cache folder"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="of the features on disk; what a narrower one cannot hold is refused"
    )
    durability: Literal["full", "fast"] = Field(
        "full", description="'full' survives a loss of power; 'fast' leaves the writing to the operating system"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str | dict | Store):
            raise fault("PK-Y04", f"expected a folder or a mapping, got {described(value)}")
        return {"path": value} if isinstance(value, str) else value


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}


def parse_size(value: Any) -> Any:
    """Return a number of bytes: an integer, or text such as ``8GiB``.

    >>> parse_size("8GiB"), parse_size("1.5 GB"), parse_size(1024)
    (8589934592, 1500000000, 1024)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    size = r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([A-Za-z]*)"
    found = re.fullmatch(size, value) if isinstance(value, str) else None
    if found is None or found[2].upper() not in _UNITS:
        raise fault("PK-Y04", f"expected a size, got {described(value)}", "write 8GiB, or a number of bytes")
    return int(Decimal(found[1]) * _UNITS[found[2].upper()])


_Input = Annotated[int, Field(ge=1)] | str
Size = Annotated[int, Field(ge=1), BeforeValidator(parse_size, json_schema_input_type=_Input)]
"""A number of bytes, or text with a unit."""
