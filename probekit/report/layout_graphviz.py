"""A program that lays a diagram out with Graphviz: JSON from standard input to JSON on standard output.

It runs by itself, because Graphviz holds the interpreter's lock and cannot be interrupted, and it imports nothing else
of probekit. Names never reach Graphviz: boxes are called n0, n1 and so on, and no label is set.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

_POINTS = 72
"""In an inch. One point is drawn as one px."""
_SETTINGS = {
    "rankdir": "TB",
    "nodesep": 8 / _POINTS,
    "ranksep": 32 / _POINTS,
    "nslimit": 1,  # these three bound the search, which else takes a minute for 40 boxes that are all joined
    "nslimit1": 1,
    "mclimit": 0.3,
}
_FRAME_MARGIN = 13
_STRAIGHT = 4
"""How much more it matters that lines between neighbours in execution order are short and straight."""


def solve(request: dict[str, Any]) -> dict[str, Any]:
    """Return where the boxes, lines and frames of a request go: the fields of both are those of ``diagram``."""
    import pygraphviz

    graph = pygraphviz.AGraph(strict=True, directed=True)
    graph.graph_attr.update(_SETTINGS)
    graph.node_attr.update(shape="box", fixedsize="true", label="")
    graph.edge_attr.update(dir="none", tailport="s", headport="n")
    for number, (width, height) in enumerate(request["sizes"]):
        graph.add_node(f"n{number}", width=width / _POINTS, height=height / _POINTS)
    for a, b in request["edges"]:
        graph.add_edge(f"n{a}", f"n{b}", weight=_STRAIGHT if b == a + 1 else 1)
    clusters = [
        graph.add_subgraph([f"n{number}" for number in members], name=f"cluster{k}", label="", margin=_FRAME_MARGIN)
        for k, members in enumerate(request["clusters"])
    ]
    graph.layout(prog="dot")
    _, _, width, height = _numbers(graph.graph_attr["bb"])

    def point(text: str) -> tuple[float, float]:
        x, y = _numbers(text)
        return x, height - y

    frames = []
    for cluster in clusters:
        left, bottom, right, top = _numbers(cluster.graph_attr["bb"])
        frames.append((left, height - top, right, height - bottom))
    return {
        "centres": [point(graph.get_node(f"n{number}").attr["pos"]) for number in range(len(request["sizes"]))],
        "routes": [
            [point(one) for one in graph.get_edge(f"n{a}", f"n{b}").attr["pos"].split()] for a, b in request["edges"]
        ],
        "frames": frames,
        "width": width,
        "height": height,
    }


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    """Answer one request; the first argument is after how many seconds the system is to end this program."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(sys.argv[1]))
    json.dump(solve(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
