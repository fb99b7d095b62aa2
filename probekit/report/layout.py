"""Lays a diagram out: by Graphviz in a program of its own for a bounded time, else by probekit's own layout."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probekit.report.diagram import Layout
from probekit.report.layout_layers import layered

if TYPE_CHECKING:
    from probekit.report.diagram import Diagram, Point

SECONDS = 5.0
_PROGRAM = Path(__file__).with_name("layout_graphviz.py")


class _FailedError(Exception):
    """Graphviz gave no layout; the text says why."""


def lay_out(diagram: Diagram, seconds: float = SECONDS) -> Layout:
    """Return where everything in a diagram goes.

    Args:
        diagram: at least one box.
        seconds: how long Graphviz may take before :func:`layered` does it.
    """
    try:
        return _by_graphviz(diagram, seconds)
    except _FailedError as error:
        return replace(layered(diagram), fallback=str(error))


def _by_graphviz(diagram: Diagram, seconds: float) -> Layout:
    if importlib.util.find_spec("pygraphviz") is None:
        raise _FailedError("pygraphviz is not installed")
    # -P, because the modules beside the program are named like some of the standard library.
    command = [sys.executable, "-P", str(_PROGRAM), str(math.ceil(seconds) + 1)]
    try:
        done = subprocess.run(  # noqa: S603 - a program of probekit's own, without a shell
            command, input=json.dumps(asdict(diagram)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
            encoding="utf-8", timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _FailedError(f"pygraphviz took longer than {seconds:g} s") from None
    except (OSError, ValueError, subprocess.CalledProcessError):
        raise _FailedError("pygraphviz failed") from None
    try:
        return _read(json.loads(done.stdout), diagram)
    except (KeyError, TypeError, ValueError):
        raise _FailedError("pygraphviz gave an incomplete layout") from None


def _read(answer: dict[str, Any], diagram: Diagram) -> Layout:
    """Return the answer as a layout.

    Raises:
        KeyError, TypeError, ValueError: something is missing or is no number.
    """
    made = Layout(
        centres=_points(answer["centres"], len(diagram.sizes)),
        routes=[_points(route, None) for route in answer["routes"]],
        frames=[(float(a), float(b), float(c), float(d)) for a, b, c, d in answer["frames"]],
        width=float(answer["width"]),
        height=float(answer["height"]),
    )
    if len(made.routes) != len(diagram.edges) or len(made.frames) != len(diagram.clusters):
        raise ValueError("another number of edges or clusters")
    if not all(map(math.isfinite, itertools.chain((made.width, made.height), *answer["frames"]))):
        raise ValueError("a size is no number")
    if any(len(route) < 4 or len(route) % 3 != 1 for route in made.routes):
        raise ValueError("no cubic curves")
    return made


def _points(values: list[list[float]], count: int | None) -> list[Point]:
    points = [(float(x), float(y)) for x, y in values]
    if count not in (None, len(points)) or not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise ValueError("not the points that were asked for")
    return points
