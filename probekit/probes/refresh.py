"""Which metric heads have, and when it is made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.probes.curved_rows import CurvedRows, may_know_rows, most_curved
from probekit.probes.metric import Metric, SampledHessian, is_worth_sampling

if TYPE_CHECKING:
    from probekit.probes.axes import Axes
    from probekit.probes.stack import Heads

_REFRESH, _REFRESH_WIDE = (1, 2, 4, 7, 12), (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
_WIDE = 128
_REFRESH_SAMPLED = (2, 5, 9, 16, 30)
_REFRESH_CURVED = (20, 32, 50, 80, 130, 200)
"""The products of each two known rows cost several passes."""
_FEW_HEADS = 4
"""Of more heads some are soon done without a Hessian of their own."""
_EVERY = 20


def refreshed(heads: Heads, axes: Axes, known_rows: int = 0) -> Metric:
    """Return the metric of heads for their next step: the one that they have, until it has become old.

    Args:
        heads: at their parameters of now.
        axes: of X.
        known_rows: of whose curvature each may be known by itself.
    """
    sampled = _REFRESH_SAMPLED if len(heads) <= _FEW_HEADS else _REFRESH_SAMPLED[1:]
    if heads.steps >= sampled[0] and is_worth_sampling(heads, axes):
        if _is_due(heads, sampled) or not isinstance(heads.metric, SampledHessian):
            return SampledHessian(heads, axes)
    elif known_rows and heads.steps >= _REFRESH_CURVED[0] and may_know_rows(heads, axes):
        plain = not isinstance(heads.metric, CurvedRows)
        if heads.steps in _REFRESH_CURVED or (plain and _is_due(heads, ())):
            heads.metric = None  # the rows of the old one make room
            rows = most_curved(heads, known_rows)
            return Metric(heads, axes) if rows is None else CurvedRows(heads, axes, rows)
    elif _is_due(heads, _REFRESH if heads.columns <= _WIDE else _REFRESH_WIDE):
        return Metric(heads, axes)
    assert heads.metric is not None  # noqa: S101 - else it is due
    return heads.metric


def _is_due(heads: Heads, steps: tuple[int, ...]) -> bool:
    return heads.metric is None or heads.steps in steps or heads.steps % _EVERY == 0
