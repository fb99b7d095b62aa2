"""What can be tapped in a model, for ``probekit taps``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from probekit.components import Backend
from probekit.errors import SpecError, clean
from probekit.features.runner import Runner
from probekit.spec import load_spec
from probekit.spec.messages import problems_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from probekit.components import Tap
    from probekit.plugins import Plugins


def list_taps(model: str, plugins: Plugins, settings: Sequence[str], *, trust_code: bool) -> dict[str, tuple[Tap, ...]]:
    """Return everything in the graph of each model: of an .onnx file, or of a spec's models.

    A framework that has to run a model to know it is given the first examples of the spec's data.

    Raises:
        UserError: the spec, the model or the data cannot be used.
    """
    import numpy as np

    if Path(model).suffix == ".onnx":
        fields = {"kind": "onnx", "path": model}
        try:
            backend = plugins.find("backend", "onnx").model_validate(fields)
        except ValidationError as error:
            raise SpecError(*(one.problem for one in problems_of(error.errors(), fields, plugins))) from None
        assert isinstance(backend, Backend)  # noqa: S101 - the category says so
        return {model: backend.graph().taps}
    spec = load_spec(model, plugins, settings, trust_code=trust_code).spec
    examples = spec.data.open()
    rows = np.arange(min(2, len(examples)))
    return {name: one.graph(Runner(one, examples).example(rows)).taps for name, one in spec.named_models().items()}


def tap_lines(title: str, taps: Sequence[Tap], width: int) -> Iterator[str]:
    """Give the lines of a table that fits ``width`` where the names allow; what cannot be tapped stands at the end."""
    if title:
        yield title
    usable, rest = [t for t in taps if not t.untappable], [t for t in taps if t.untappable]
    rows = [("depth", "name", "op", "shape", "dtype", "layout", "features per row")]
    for tap in usable:
        sizes = tap.shape or ()
        shape = "unknown" if tap.shape is None else "(" + ", ".join("?" if s is None else str(s) for s in sizes) + ")"
        known = tap.shape is not None and None not in sizes
        features = f"{math.prod(s or 0 for s in sizes):,}" if known else "?"
        rows.append((str(tap.depth), clean(tap.name), clean(tap.op), shape, tap.dtype, tap.layout, features))
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    if sum(widths) + 12 > width:
        # Long names get a line of their own, so that the columns stay readable.
        widths[1] = 0
    for row in rows if usable else []:
        if not widths[1]:
            yield row[1]
        cells = [cell.ljust(size) for i, (cell, size) in enumerate(zip(row, widths, strict=True)) if i != 1 or size]
        yield ("    " if not widths[1] else "") + "  ".join(cells).rstrip()
    if usable and rest:
        yield ""
    if rest:
        yield f"{len(rest)} {'tensor' if len(rest) == 1 else 'tensors'} cannot be tapped:"
        reasons: dict[str, list[str]] = {}
        for tap in rest:
            reasons.setdefault(tap.untappable, []).append(clean(tap.name))
        for reason, names in reasons.items():
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            yield f"  {clean(reason)}: {shown}"
