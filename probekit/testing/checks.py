"""What all checks share: how one fails, how a refusal is looked at, how near two arrays are."""

from __future__ import annotations

import re
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from pydantic.fields import FieldInfo

from probekit.backends.differences import relative_difference
from probekit.errors import UserError
from probekit.features.extraction import SAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from probekit.components import Array
    from probekit.sections import Component

_CODE = re.compile(r"[A-Z]{2,}-[A-Z]*\d+")


def expect(holds: object, fact: str, todo: str) -> None:
    """Fail the check unless something holds.

    Args:
        holds: what is asked for.
        fact: what was found instead, with its value.
        todo: what the author does about it.

    Raises:
        AssertionError: it does not hold.
    """
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(f"{fact}; {todo}")


@contextmanager
def no_crash(doing: str, todo: str) -> Iterator[None]:
    """Fail the check on any exception but a failed check: with what was being done, and the exception.

    Raises:
        AssertionError: something else was raised.
    """
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{doing} raises {type(error).__name__}: {error}; {todo}") from error


def refusal(call: Callable[[], object], request: str, todo: str) -> UserError:
    """Return the UserError with which a request is refused, all of whose problems have a code.

    Args:
        call: makes the request.
        request: what it is, for messages.
        todo: what the author does about another answer.

    Raises:
        AssertionError: the request is accepted, another exception is raised, or a problem has no code.
    """
    try:
        call()
    except UserError as error:
        codes = [problem.code for problem in error.problems]
        expect(
            codes and all(_CODE.fullmatch(code) for code in codes),
            f"{request} is refused with the codes {codes}",
            "raise probekit.InputError(probekit.Problem('PK-M01', ...)): a code stands for one kind of fault",
        )
        return error
    except Exception as error:
        text = f"{request} ends in {type(error).__name__}: {error}, which a user sees as a crash"
        raise AssertionError(f"{text}; {todo}") from error
    raise AssertionError(f"{request} is accepted; {todo}")


def expect_named(error: UserError, name: str, request: str, todo: str) -> None:
    """Fail the check unless a refusal's message holds a name."""
    __tracebackhide__ = True
    expect(name in str(error), f"{request} is refused with {str(error)!r}, which does not say {name!r}", todo)


def difference(one: Any, other: Any) -> float:
    """Return how far two arrays are apart, as a share of the largest value; see :func:`relative_difference`."""
    return relative_difference(np.asarray(one), np.asarray(other))


def expect_near(one: Any, other: Any, fact: str, todo: str, tolerance: float = SAME) -> None:
    """Fail the check unless two arrays have one shape and agree within rounding.

    Args:
        one: an array.
        other: another; differences count as shares of its largest absolute value.
        fact: what is compared.
        todo: what the author does about it.
        tolerance: the largest share, 1e-4 by default, as a run accepts between two passes.
    """
    __tracebackhide__ = True
    shapes = np.shape(one), np.shape(other)
    expect(shapes[0] == shapes[1], f"{fact}: the shapes are {shapes[0]} and {shapes[1]}", todo)
    apart = difference(one, other)
    expect(apart <= tolerance, f"{fact}: they differ by {apart:.1e} of the largest value", todo)


def equal_arrays(one: Array, other: Array) -> bool:
    """Return whether two arrays have one dtype, shape and content; NaN equals NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))


def path_fields(component: Component) -> dict[str, Path]:
    """Return the files that a component's own fields name and that are there, by field."""
    found = {}
    for name, info in type(component).model_fields.items():
        value = getattr(component, name)
        if isinstance(value, str) and (_is_path(info) or _holds_path(info.annotation)) and Path(value).exists():
            found[name] = Path(value)
    return found


def _is_path(info: Any) -> bool:
    extra = info.json_schema_extra if isinstance(info, FieldInfo) else None
    return isinstance(extra, dict) and extra.get("format") == "path"


def _holds_path(annotation: Any) -> bool:
    return any(_is_path(part) or _holds_path(part) for part in get_args(annotation))


def absent_beside(path: Path) -> Path:
    """Return a file that is not there, with a name that is nearly that of one that is."""
    absent = path.with_name(f"{path.stem}x{path.suffix}")
    return absent if not absent.exists() else path.with_name(f"{path.stem}{uuid.uuid4().hex[:4]}{path.suffix}")


def storable(value: Any) -> bool:
    """Return whether a value is plain enough for a result's JSON: no NaN, no infinity, no foreign types."""
    import json

    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
