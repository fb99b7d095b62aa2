"""Layouts: nothing overlaps, lines keep clear of boxes, few of them cross, and Graphviz is given a bounded time."""

import itertools
import math
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.report import layout as layout_module
from probekit.report.diagram import Diagram
from probekit.report.layout import lay_out
from probekit.report.layout_layers import layered

WIDTH, HEIGHT = 90.0, 36.0


def diagram(edges, clusters=(), sizes=None):
    count = 1 + max(itertools.chain(*edges))
    return Diagram(sizes or [(WIDTH, HEIGHT)] * count, sorted(edges), [list(members) for members in clusters])


def chain(count):
    return diagram([(i, i + 1) for i in range(count - 1)])


def resnet(count):
    """A stem and blocks of conv, relu, conv and a sum with what came in."""
    edges, last = [], 0
    for block in range(count):
        conv, relu, second, add = range(4 * block + 1, 4 * block + 5)
        edges += [(last, conv), (conv, relu), (relu, second), (second, add), (last, add)]
        last = add
    return diagram(edges, [range(4 * b + 1, 4 * b + 5) for b in range(count)])


def inception(count):
    """A stem of three and modules of four branches, of 1, 2, 3 and 2 taps, that are concatenated; an auxiliary head."""
    edges, clusters, last = [(0, 1), (1, 2)], [], 2
    for _ in range(count):
        first = last + 1
        one, a, b, c, d, e, pool, projected, joined = range(first, first + 9)
        edges += [(last, one), (one, joined), (last, a), (a, b), (b, joined), (last, c), (c, d), (d, e), (e, joined)]
        edges += [(last, pool), (pool, projected), (projected, joined)]
        clusters.append(range(first, joined + 1))
        last = joined
    middle = clusters[count // 2][-1]
    edges += [(middle, last + 1), (last + 1, last + 2)]
    return diagram(edges, clusters)


def unet(depth):
    """Ways down and up with a skip at every level."""
    last = 2 * depth
    return diagram([(i, i + 1) for i in range(last)] + [(i, last - i) for i in range(depth - 1)])


def densenet(blocks, layers):
    """Blocks in which every layer feeds all that follow."""
    groups = [range(block * layers, (block + 1) * layers) for block in range(blocks)]
    inside = [pair for group in groups for pair in itertools.combinations(group, 2)]
    return diagram([*inside, *((group[-1], group[-1] + 1) for group in groups[:-1])], groups)


def vit(count):
    """Blocks of 11: norm, query, key, value, scores, weighted sum, projection, sum, norm, perceptron, sum."""
    edges, last = [], 0
    for block in range(count):
        norm, q, k, v, scores, attention, projection, add, second, mlp, out = range(11 * block + 1, 11 * block + 12)
        edges += [(last, norm), (norm, q), (norm, k), (norm, v), (q, scores), (k, scores), (scores, attention)]
        edges += [(v, attention), (attention, projection), (projection, add), (last, add)]
        edges += [(add, second), (second, mlp), (mlp, out), (add, out)]
        last = out
    return diagram(edges, [range(11 * b + 1, 11 * b + 12) for b in range(count)])


def boxes(drawn, made):
    return [
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(made.centres, drawn.sizes, strict=True)
    ]


def touch(a, b, by=0.2):
    return a[0] < b[2] - by and b[0] < a[2] - by and a[1] < b[3] - by and b[1] < a[3] - by


def overlaps(drawn, made):
    return sum(touch(a, b) for a, b in itertools.combinations(boxes(drawn, made), 2))


def polyline(route):
    """Return points on the curves, by Bernstein's polynomials; shape (points, 2)."""
    t = np.linspace(0, 1, 13)[:, None]
    parts = []
    for start in range(0, len(route) - 1, 3):
        a, b, c, d = np.array(route[start : start + 4])
        parts.append((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d)
    return np.concatenate(parts)


def through(drawn, made):
    """Return how many times an edge passes through a box that is none of its ends."""
    found = 0
    for ends, route in zip(drawn.edges, made.routes, strict=True):
        x, y = polyline(route).T
        for number, (left, top, right, bottom) in enumerate(boxes(drawn, made)):
            inside = (x > left + 1) & (x < right - 1) & (y > top + 1) & (y < bottom - 1)
            found += number not in ends and bool(inside.any())
    return found


def turns(a, b, c):
    return np.sign(
        (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    )


def crossings(drawn, made):
    """Return how many pairs of edges without a common end cross."""
    lines = [polyline(route) for route in made.routes]
    found = 0
    for (e, one), (f, other) in itertools.combinations(zip(drawn.edges, lines, strict=True), 2):
        if set(e) & set(f) or one[:, 1].max() < other[:, 1].min() or other[:, 1].max() < one[:, 1].min():
            continue
        p, q, r, s = one[:-1, None], one[1:, None], other[None, :-1], other[None, 1:]
        found += bool(((turns(p, q, r) * turns(p, q, s) < 0) & (turns(r, s, p) * turns(r, s, q) < 0)).any())
    return found


def check(drawn, made):
    """Assert what holds of every layout."""
    at = boxes(drawn, made)
    assert overlaps(drawn, made) == 0
    assert through(drawn, made) == 0
    for (a, b), route in zip(drawn.edges, made.routes, strict=True):
        assert at[a][3] < at[b][1], "an edge leads down"
        for (x, y), (left, top, right, bottom) in ((route[0], at[a]), (route[-1], at[b])):
            assert left - 1 <= x <= right + 1
            assert top - 1 <= y <= bottom + 1
    for members, frame in zip(drawn.clusters, made.frames, strict=True):
        for number, box in enumerate(at) if frame else ():
            assert touch(box, frame) == (number in members)
    corners = np.array(at)
    assert (corners[:, :2] >= -0.5).all()
    assert (corners[:, 2:] <= np.array([made.width, made.height]) + 0.5).all()


GRAPHS = {
    "chain": (chain(30), 0, 0),
    "resnet": (resnet(8), 0, 0),
    "inception": (inception(5), 0, 0),
    "unet": (unet(5), 0, 0),
    "densenet": (densenet(4, 6), 20, 20),
    "vit": (vit(12), 0, 0),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphviz_draws_the_usual_networks_clearly(name):
    drawn, most, _ = GRAPHS[name]
    made = lay_out(drawn)
    assert made.fallback == ""
    check(drawn, made)
    assert crossings(drawn, made) <= most
    assert None not in made.frames


@pytest.mark.parametrize("name", GRAPHS)
def test_the_fallback_draws_the_usual_networks_clearly(name):
    drawn, _, most = GRAPHS[name]
    made = layered(drawn)
    check(drawn, made)
    assert crossings(drawn, made) <= most


def test_a_chain_is_straight():
    for made in (layered(chain(40)), lay_out(chain(40))):
        assert len({round(x, 1) for x, _ in made.centres}) == 1
        assert all(len({round(x, 1) for x, _ in route}) == 1 for route in made.routes)


def test_a_box_without_edges_is_placed_too():
    drawn = Diagram([(50.0, 20.0)] * 3, [(0, 2)], [])
    check(drawn, layered(drawn))
    check(drawn, lay_out(drawn))


def test_all_to_all_is_drawn_by_the_fallback():
    drawn = densenet(1, 24)
    check(drawn, layered(drawn))


def longest_path(drawn):
    """Return each box's depth by trying every edge until nothing changes."""
    depth = [0] * len(drawn.sizes)
    for _ in drawn.sizes:
        for a, b in drawn.edges:
            depth[b] = max(depth[b], depth[a] + 1)
    return depth


@st.composite
def diagrams(draw):
    count = draw(st.integers(2, 14))
    pairs = list(itertools.combinations(range(count), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30))
    size = st.tuples(st.integers(20, 160), st.sampled_from([24, 36, 40]))
    sizes = [(float(w), float(h)) for w, h in draw(st.lists(size, min_size=count, max_size=count))]
    cuts = sorted(draw(st.sets(st.integers(0, count), max_size=5)))
    clusters = [list(range(a, b)) for a, b in itertools.pairwise(cuts) if b - a > 1]
    return Diagram(sizes, sorted(edges), clusters)


@given(diagrams())
@settings(max_examples=100, deadline=None)
def test_the_fallback_is_valid_for_any_graph(drawn):
    made = layered(drawn)
    check(drawn, made)
    assert all(math.isfinite(number) for point in itertools.chain(made.centres, *made.routes) for number in point)
    rows = sorted({y for _, y in made.centres})
    assert [rows.index(y) for _, y in made.centres] == longest_path(drawn)
    assert made == layered(drawn)


def test_a_frame_that_would_hold_another_box_is_left_out():
    drawn = diagram([(0, 1), (1, 2)], [[0, 2]])
    assert layered(drawn).frames == [None]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return a function that puts another program in the place of the one that calls Graphviz."""

    def put(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        monkeypatch.setattr(layout_module, "_PROGRAM", path)

    return put


@pytest.mark.parametrize(
    ("text", "seconds", "reason"),
    [
        ("import time; time.sleep(60)", 0.3, "pygraphviz took longer than 0.3 s"),
        ("raise SystemExit(3)", 5, "pygraphviz failed"),
        ("import os; os.abort()", 5, "pygraphviz failed"),
        ("print('{}')", 5, "pygraphviz gave an incomplete layout"),
        ("print('not JSON')", 5, "pygraphviz gave an incomplete layout"),
        ("print('[1, 2]')", 5, "pygraphviz gave an incomplete layout"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", 5, "pygraphviz failed"),
        (
            'print(\'{"centres": [[NaN, 0], [0, 0]], "routes": [], "frames": [], "width": 1, "height": 1}\')',
            5,
            "pygraphviz gave an incomplete layout",
        ),
    ],
)
def test_whatever_graphviz_does_there_is_a_layout_and_a_reason(program, text, seconds, reason):
    program(text)
    made = lay_out(chain(2), seconds)
    assert made.fallback == reason
    check(chain(2), made)


def test_without_pygraphviz_the_fallback_says_so(monkeypatch):
    monkeypatch.setattr(layout_module.importlib.util, "find_spec", lambda name: None)
    assert lay_out(chain(2)).fallback == "pygraphviz is not installed"


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no alarms on this system")
def test_the_program_ends_by_itself_when_nobody_ends_it():
    command = [sys.executable, "-P", str(layout_module._PROGRAM), "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as waiting:
        assert waiting.wait(30) == -signal.SIGALRM
