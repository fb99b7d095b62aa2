"""What a fit may hold, planned before it is taken.

Every figure is a bound on what the code at hand holds at once, so that a plan is kept; most fits take half of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import torch

from probekit.errors import InputError, Problem
from probekit.probes import axes, closed_form
from probekit.probes.axes import SKETCH_RANK, sketch_rows
from probekit.probes.closed_form import gram_bytes
from probekit.probes.curved_rows import MOST_COLUMNS, known_bytes, known_rows
from probekit.probes.losses import SQUARES
from probekit.probes.stack import SHORTEST_HISTORY, history_for
from probekit.probes.standardise import BLOCK_BYTES, block_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST_PAIRS = 3
_SHARE_OF_DEVICE = 0.9
"""Of what a GPU has left; the rest is for what its libraries take."""
_FEW_COLUMNS = 64
_BLOCKS = 3
"""As it was read, standardised, and what is gathered of several shards."""
_PRODUCTS = 64 << 20
"""Bytes of a block in float64 and its products, in a proof."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a fit holds.

    Args:
        hold: whether the standardised rows are held; else each pass reads them anew.
        columns: of heads that are iterated together.
        history: pairs that L-BFGS keeps.
        at_once: rows that are read at a time.
        known_rows: of whose curvature each may be known by itself; see :mod:`probekit.probes.curved_rows`.
        gram: whether numbers are solved by a Gram matrix; see :mod:`probekit.probes.closed_form`.
        needed: bytes that this takes at most, beside the features that are given.
    """

    hold: bool
    columns: int
    history: int
    at_once: int
    known_rows: int
    gram: bool
    needed: int


@dataclass(frozen=True)
class Job:
    """How large a fit is.

    Args:
        rows: training rows.
        features: of each.
        columns: of all heads together.
        widest: columns of the widest head.
        numbers: columns of heads that ask for a number.
        kinds: of loss and width, other than that of numbers: heads of each are iterated apart.
    """

    rows: int
    features: int
    columns: int
    widest: int
    numbers: int = 0
    kinds: int = 1

    def exact(self, *, hold: bool) -> bool:
        """Return whether all principal axes are computed; see :class:`probekit.probes.axes.Axes`."""
        return self.features <= axes.EXACT or (self.rows <= axes.EXACT and hold)

    def fixed(self, *, hold: bool, at_once: int) -> int:
        """Return the bytes that do not depend on how many heads are iterated together."""
        values, least = self.rows * self.features, min(self.rows, self.features)
        blocks = _BLOCKS * 4 * min(at_once, self.rows) * self.features + min(_PRODUCTS, 12 * values)
        held = 0
        if hold:  # in float32, then turned, or beside a copy in bfloat16
            held = 4 * values + max(4 * self.rows * least if self.exact(hold=hold) else 0, 2 * values)
        if self.features <= axes.EXACT:
            found = 5 * 8 * self.features**2
        elif self.exact(hold=hold):
            found = 20 * values
        else:
            rank = min(SKETCH_RANK, self.rows)
            found = 4 * sketch_rows(self.rows, self.features) * self.features + 6 * 8 * rank * self.features
        # The best weights of every head, and on the valid rows once more in float32.
        return blocks + held + found + self.columns * self.features * (8 + 8)

    def gram(self, *, hold: bool) -> int:
        """Return the bytes of the Gram matrix that numbers are solved by; 0 where there is none."""
        wanted = self.numbers and self.features <= closed_form.MOST and not self.exact(hold=hold)
        return gram_bytes(self.features) if wanted else 0

    def column(self, history: int, *, hold: bool) -> int:
        """Return the bytes of one column of a head that is iterated, in float64 at the worst."""
        width = min(self.rows, self.features) if self.exact(hold=hold) and hold else self.features
        pairs = 2 * 8 * history * width
        # While heads are dropped the pairs are copied; a proof has nine vectors of all features.
        return 8 * 10 * width + pairs + max(pairs, 8 * 9 * self.features) + 8 * 12 * self.rows


def job_of(rows: int, features: int, asked: Sequence[tuple[str, int]], penalties: int) -> Job:
    """Return how large a fit is.

    Args:
        rows: training rows.
        features: of each.
        asked: the loss and the columns of one head of everything that is asked.
        penalties: λ of each.
    """
    numbers = [columns for loss, columns in asked if loss == SQUARES.name]
    kinds = {one for one in asked if one[0] != SQUARES.name}
    columns = [columns for _, columns in asked]
    return Job(rows, features, sum(columns) * penalties, max(columns), sum(numbers) * penalties, len(kinds))


def room(device: torch.device, memory: int | None) -> int | None:
    """Return the bytes that a fit may take: what the user allows, and no more than a GPU has left.

    Args:
        device: where rows and heads lie.
        memory: what the user allows; None: no bound.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what earlier fits gave back is not counted as free else
        left = int(_SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0])
    elif device.type == "mps":
        torch.mps.empty_cache()
        left = int(_SHARE_OF_DEVICE * (torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()))
    else:
        return memory
    return left if memory is None else min(memory, left)


def plan_memory(job: Job, memory: int | None, *, may_hold: bool = True) -> MemoryPlan:
    """Return what fits into a number of bytes: first fewer heads together, then less of the rest, then no rows held.

    Args:
        job: how large the fit is.
        memory: bytes; None: no bound.
        may_hold: whether the rows may be held at all.

    Raises:
        InputError: ``PK-R03``, not even one head fits.
    """
    longest = history_for(job.rows)
    histories = sorted({min(most, longest) for most in (longest, SHORTEST_HISTORY, _FEWEST_PAIRS)}, reverse=True)
    blocks = [block_rows(job.features, BLOCK_BYTES >> shift) for shift in (0, 2, 4)]
    least = {
        hold: job.fixed(hold=hold, at_once=blocks[-1]) + job.column(histories[-1], hold=hold) * job.widest
        for hold in ((True, False) if may_hold else (False,))
    }
    if may_hold and least[True] <= least[False]:
        del least[False]
    for hold in least:
        for history, at_once in product(histories, blocks):
            fixed, each = job.fixed(hold=hold, at_once=at_once), job.column(history, hold=hold)
            if memory is None:
                return _plan(
                    job, MemoryPlan(hold, job.columns, history, at_once, 0, False, fixed + each * job.columns), None
                )
            # Many heads together are worth more than a long history, up to a few.
            last = (hold, history, at_once) == (list(least)[-1], histories[-1], blocks[-1])
            fewest = job.widest if last else min(job.columns, max(job.widest, _FEW_COLUMNS))
            if memory >= fixed + each * fewest:
                # A Gram matrix spares numbers more passes than more heads together would.
                left = memory - job.gram(hold=hold)
                count = min(job.columns, ((left if left >= fixed + each * fewest else memory) - fixed) // each)
                return _plan(job, MemoryPlan(hold, count, history, at_once, 0, False, fixed + each * count), memory)
    what = (
        f"one head of {job.widest} columns, {job.features} features and {job.rows} rows is fitted in "
        f"{-(-min(least.values()) >> 20)} MiB, {(memory or 0) >> 20} MiB are left"
    )
    raise InputError(Problem("PK-R03", what, "raise memory:, or reduce the features", "memory"))


def _plan(job: Job, plan: MemoryPlan, memory: int | None) -> MemoryPlan:
    """Return the plan with a Gram matrix for numbers, and as many known rows, as what is left of the memory holds."""
    gram = job.gram(hold=plan.hold)
    if gram and (memory is None or plan.needed + gram <= memory):
        plan = replace(plan, gram=True, needed=plan.needed + gram)
    if job.exact(hold=plan.hold) or job.widest > MOST_COLUMNS or not job.kinds:
        return plan
    spare = None if memory is None else (memory - plan.needed) // job.kinds
    count = known_rows(job.rows, spare, job.features)
    return replace(plan, known_rows=count, needed=plan.needed + job.kinds * known_bytes(count, job.features))
