"""Which metric heads have for their next step."""

import numpy as np
import pytest
import torch

from probekit.probes import axes as axes_module
from probekit.probes.axes import Axes
from probekit.probes.curved_rows import CurvedRows
from probekit.probes.descent import Descent
from probekit.probes.design import Held
from probekit.probes.losses import SOFTMAX, Answers
from probekit.probes.metric import Metric, SampledHessian
from probekit.probes.refresh import refreshed
from probekit.probes.stack import Heads, Start

CLASSES = 3


def started(rows, features, size=1.0, heads=1):
    """Return the axes of random rows, and heads at random parameters."""
    rng = np.random.default_rng(0)
    axes = Axes(Held(torch.from_numpy(rng.standard_normal((rows, features)).astype(np.float32))), 0)
    answers = Answers(SOFTMAX, torch.from_numpy(np.r_[:CLASSES, rng.integers(CLASSES, size=rows - CLASSES)]), CLASSES)
    W = torch.from_numpy(size * rng.standard_normal((heads, CLASSES, features)))
    start = Start(list(range(heads)), [1e-2] * heads, [0] * heads, [answers], W, torch.zeros(heads, CLASSES).double())
    found = Heads(start, rows, torch.float32, torch.device("cpu"))
    Descent(axes, torch.float32, [found]).restart()
    return found, axes


@pytest.mark.parametrize(("rows", "features", "kind"), [(20_000, 32, SampledHessian), (20_000, 400, Metric)])
def test_the_hessian_of_a_sample_comes_after_two_steps_where_it_is_worth_it(rows, features, kind):
    heads, axes = started(rows, features)
    assert type(refreshed(heads, axes)) is Metric
    heads.steps, heads.metric = 2, None
    assert type(refreshed(heads, axes)) is kind


def test_between_refreshes_the_metric_stays():
    heads, axes = started(20_000, 32)
    heads.steps = 2
    heads.metric = refreshed(heads, axes)
    for steps, same in ((3, True), (4, True), (5, False), (6, True)):
        heads.steps = steps
        assert (refreshed(heads, axes) is heads.metric) == same


@pytest.mark.parametrize(
    ("size", "known", "heads", "kind"),
    [(5.0, 100, 1, CurvedRows), (5.0, 0, 1, Metric), (0.0, 100, 1, Metric), (5.0, 100, 5, Metric)],
)
def test_rows_are_known_where_few_heads_are_certain_of_most(monkeypatch, size, known, heads, kind):
    monkeypatch.setattr(axes_module, "EXACT", 100)
    some, axes = started(400, 400, size, heads)
    some.steps = 19
    some.metric = refreshed(some, axes, known)
    assert type(some.metric) is Metric
    some.steps = 20
    assert type(refreshed(some, axes, known)) is kind
