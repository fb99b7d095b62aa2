"""The drawing of a model: every tap and every edge is there, names are inert, large models are folded."""

import itertools
import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.report import layout as layout_module
from probekit.report.blocks import Block, blocks, folded, too_large
from probekit.report.drawing import DrawnCell, draw
from probekit.report.drawing_svg import shorten
from probekit.report.html import PALETTE
from probekit.results import GraphRecord, TapRecord

SVG = "{http://www.w3.org/2000/svg}"


def record(labels, edges, model="m"):
    taps = [
        TapRecord(model=model, tap=label, name=label, op="Conv", shape=[8], dtype="float32", layout="NC", depth=depth)
        for depth, label in enumerate(labels)
    ]
    return GraphRecord(taps=taps, edges=[[model, a, b] for a, b in edges])


def cell(share, text=None, probed=True):
    return DrawnCell(f"{90 * share:.1f} %" if text is None else text, share, round(10 * (1 - share)), "a hint", probed)


def chain(labels):
    return record(labels, itertools.pairwise(labels))


def drawn(graph, cells=None, **changes):
    labels = [tap.tap for tap in graph.taps]
    if cells is None:
        cells = {label: cell(1 - place / len(labels)) for place, label in enumerate(labels)}
    return draw(graph, "m", cells, "Test error of the probes", PALETTE, **changes)


def parts(drawing):
    return ET.fromstring(drawing.standalone())


def nodes(drawing):
    return [one for one in parts(drawing).findall(f"{SVG}g") if "node" in one.get("class", "").split()]


def edges(drawing):
    (group,) = (one for one in parts(drawing).findall(f"{SVG}g") if one.get("class") == "edges")
    (drawn,) = (path for path in group if path.get("class") != "heads")
    return re.findall("M[^M]+", drawn.get("d"))


def diodes(drawing):
    return sum(one.get("d").count("z") for one in parts(drawing).findall(f"{SVG}path") if one.get("class") == "diodes")


def texts(element):
    return [text for one in element.iter(f"{SVG}text") for text in one.itertext()]


# --- every tap, every edge


def test_each_tap_is_a_box_with_its_name_value_colour_and_tooltip():
    labels = ["input", "conv1", "fc"]
    cells = {"input": cell(1.0, "90.0 %"), "conv1": cell(0.5, "45.0 %"), "fc": cell(0.0, "0.0 %")}
    drawing = drawn(chain(labels), cells)
    found = nodes(drawing)
    assert [texts(one) for one in found] == [["input", "90.0 %"], ["conv1", "45.0 %"], ["fc", "0.0 %"]]
    assert [one.get("class") for one in found] == ["k0 node", "k5 node", "k10 node"]
    assert [(one.get("fill"), one.get("color")) for one in found] == [PALETTE[0], PALETTE[5], PALETTE[10]]
    assert [one.find(f"{SVG}title").text for one in found] == [f"{label}: a hint" for label in labels]
    assert drawing.notes == []
    assert drawing.details == ""


def test_skips_and_branches_are_all_drawn():
    joined = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("c", "e"), ("a", "e")]
    drawing = drawn(record("abcde", joined))
    assert len(edges(drawing)) == 6
    heads = parts(drawing).find(f".//{SVG}path[@class='heads']").get("d")
    assert heads.count("M") == 6


def test_a_diode_stands_at_each_probed_tap_only():
    cells = {"a": cell(0.5), "b": cell(0.5, probed=False)}
    drawing = drawn(chain("abc"), cells)
    assert diodes(drawing) == 1
    assert diodes(drawn(chain("abc"), {})) == 0


def test_a_tap_without_a_probe_has_a_name_and_no_colour():
    _, bare, valued = nodes(drawn(chain("abc"), {"a": cell(0.5), "c": DrawnCell("no value", None, None, "", False)}))
    assert texts(bare) == ["b"]
    assert texts(valued) == ["c", "no value"]
    assert bare.get("class") == valued.get("class") == "node"
    assert valued.find(f"{SVG}title") is None


def test_fewer_than_two_taps_or_nothing_joined_gives_no_drawing():
    assert drawn(record([], [])) is None
    assert drawn(record(["a"], [["a", "a"]])) is None
    assert drawn(record(["a", "b"], [])) is None


def test_other_models_and_unknown_taps_stay_out():
    one, other = chain(["a", "b"]), record(["a", "b", "c"], [("a", "b"), ("b", "c")], model="other")
    graph = GraphRecord(taps=[*one.taps, *other.taps], edges=[*one.edges, *other.edges, ["m", "a", "gone"]])
    assert [texts(node)[0] for node in nodes(draw(graph, "m", {}, "t", PALETTE))] == ["a", "b"]


def test_an_edge_against_the_order_is_drawn_upwards():
    drawing = drawn(record("abc", [("a", "b"), ("b", "c"), ("c", "a"), ("b", "b")]))
    assert len(edges(drawing)) == 3


def test_the_input_is_at_the_top():
    drawing = drawn(record(["input", "a", "b", "out"], [("input", "a"), ("input", "b"), ("a", "out"), ("b", "out")]))
    tops = [float(node.find(f"{SVG}rect").get("y")) for node in nodes(drawing)]
    assert tops[0] < tops[1] == tops[2] < tops[3]


def test_a_wide_drawing_is_scaled_to_the_page():
    labels = [f"name of a branch {number}" for number in range(30)]
    drawing = drawn(record(["in", *labels], [("in", label) for label in labels]))
    root = parts(drawing)
    assert drawing.width == int(root.get("width")) == 1088
    assert drawing.height == int(root.get("height"))
    _, _, width, height = map(float, root.get("viewBox").split())
    assert width > 3000
    assert height / width == pytest.approx(drawing.height / drawing.width, rel=0.02)


def test_sixty_taps_stay_small():
    labels = [f"stage{n // 10}.block{n}" for n in range(60)]
    graph = record(labels, [*itertools.pairwise(labels), *zip(labels, labels[3:], strict=False)])
    assert len(drawn(graph).svg) < 40_000


# --- names


HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "'onload='alert(1)",
    "javascript:alert(1)",
    "]]><img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "a\u202eb\x1b[31mc\x00\ufffe",
    "工具 🧪 שלום",
    "x" * 250 + "/" + "y" * 250,
    "",
    " ",
    "n0",
    "../..",
    "<<b>markup</b>>",
]


def test_hostile_names_are_shown_and_inert():
    cells = {label: DrawnCell(label, 0.5, 5, label, True) for label in HOSTILE}
    drawing = draw(chain(HOSTILE), "m", cells, HOSTILE[0], PALETTE)
    root = parts(drawing)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {"svg", "g", "path", "rect", "text", "title", "tspan"}
    attributes = {name for one in root.iter() for name in one.attrib}
    assert not {name for name in attributes if name.startswith("on")} | attributes & {"style", "id", "href"}
    assert not re.search(r"[\x00-\x1f\u202e\ufffe]", drawing.svg)
    assert not re.search(r"<script|<img|url\(|http", drawing.svg)
    titles = [one.text for one in root.iter(f"{SVG}title")]
    assert "<script>alert(1)</script>: <script>alert(1)</script>" in titles
    assert "a\\u202eb\\u001b[31mc\\u0000\\ufffe: a\\u202eb\\u001b[31mc\\u0000\\ufffe" in titles
    assert len(nodes(drawing)) == len(HOSTILE)
    assert all(len(text or "") <= 26 for text in texts(root))


def test_a_long_name_is_shortened_in_the_middle_and_whole_in_the_tooltip():
    name = "begin" + "x" * 490 + "end"
    node = nodes(drawn(chain(["a", name])))[1]
    assert texts(node)[0] == "beginxxxxxxxx…xxxxxxxxxend"
    assert node.find(f"{SVG}title").text.startswith(name)


@given(st.text(), st.integers(3, 40))
def test_shortened_text_keeps_its_ends(text, most):
    short = shorten(text, most)
    assert len(short) == min(len(text), most)
    assert short[: most // 2] == text[: most // 2]


def test_a_screen_reader_is_told_what_there_is():
    root = parts(drawn(chain(["input", "conv", "logits"])))
    assert root.get("role") == "img"
    assert root.get("aria-label") == (
        "Test error of the probes. 3 taps and 2 edges between them, input at the top, logits last in execution order."
    )


# --- blocks


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["image", "conv1", "relu1", "fc"], []),
        (["add_1", "add_2", "add_3"], []),
        (["in", "stem_conv", "stem_relu", "head_fc", "head_out"], ["stem", "head"]),
        (["in", "layer1.0.conv1", "layer1.0.bn", "layer1.0", "layer1.1.conv1", "layer1.1"], ["layer1.0", "layer1.1"]),
        (["in", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"], ["layer1", "layer2"]),
        (["in", "m.b1.conv", "m.b1.bn", "m.b5.conv", "m.b5.bn", "m", "n.a", "n.b", "n", "pool", "fc"], ["m", "n"]),
        (["/conv/Conv", "/part1/part1.0/conv1/Conv", "/part1/part1.0/relu/Relu", "/fc/Gemm"], ["/part1/part1.0"]),
        (["in", *(f"blocks.{n}" for n in range(20)), "out"], []),
        (["net.a.x", "net.a.y", "net.b.x", "net.b.y", "net.c"], ["net.a", "net.b"]),
    ],
)  # fmt: skip
def test_blocks_are_what_neighbours_share(labels, expected):
    assert [block.name for block in blocks(labels)] == expected


NAMES = st.lists(st.text("ab01./_", min_size=1, max_size=8), unique=True, min_size=1, max_size=30)


@given(NAMES)
def test_blocks_are_runs_of_taps_that_begin_alike_and_none_overlap(labels):
    found = blocks(labels)
    assert found == sorted(found)
    assert all(before.stop <= after.start for before, after in itertools.pairwise(found))
    for block in found:
        assert len(block) > 1
        assert all(label.startswith(block.name) for label in labels[block.start : block.stop])


def test_blocks_get_frames_that_carry_their_names():
    labels = ["in", "layer1.conv", "layer1.relu", "layer2.conv", "layer2.relu"]
    (group,) = (one for one in parts(drawn(chain(labels))).findall(f"{SVG}g") if one.get("class") == "frames")
    assert texts(group) == ["layer1", "layer2"]


def test_names_in_a_frame_leave_out_what_it_says_where_they_are_long():
    block = "/model/encoder/layer.0/attention"
    drawing = drawn(chain(["in", f"{block}/MatMul_output_0", f"{block}/Add_output_0", "out"]))
    assert [texts(node)[0] for node in nodes(drawing)] == ["in", "MatMul_output_0", "Add_output_0", "out"]


# --- folding


def vit(count):
    parts_of = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2"]
    return ["image", *(f"blocks.{n}.{part}" for n in range(count) for part in parts_of), "norm", "head"]


def test_a_large_model_is_folded_by_its_blocks_and_says_so():
    labels = vit(40)
    drawing = drawn(chain(labels))
    assert drawing.notes == [
        "Folded: 283 taps in 43 boxes by the beginnings of their names; a box of several taps shows the worst and the "
        "best of them."
    ]
    found = nodes(drawing)
    assert len(found) == 43
    assert texts(found[1])[0] == "blocks.0 · 7 taps"
    assert diodes(drawing) == 43
    listed = ET.fromstring(drawing.details).findall("details")
    assert [one.find("summary").text for one in listed] == [f"blocks.{n}: 7 taps" for n in range(40)]
    words = " ".join(text for one in listed for text in one.itertext())
    assert all(label in words for label in labels if label.startswith("blocks"))
    assert 'blocks.39.mlp.fc2 <span class="k10 cell">' in drawing.details


def test_a_folded_box_shows_its_worst_and_its_best_tap():
    labels = vit(30)
    shares = dict.fromkeys(labels, 0.5) | {"blocks.3.attn.qkv": 0.9, "blocks.3.mlp.act": 0.1}
    drawing = drawn(chain(labels), {label: cell(share) for label, share in shares.items()})
    folded_box = nodes(drawing)[4]
    assert texts(folded_box) == ["blocks.3 · 7 taps", "81.0 %", "9.0 %"]
    assert [one.get("class") for one in folded_box.findall(f"{SVG}g")] == ["k1 value", "k9 value"]
    assert folded_box.find(f"{SVG}title").text == (
        "blocks.3: 7 taps; worst 81.0 % at blocks.3.attn.qkv; best 9.0 % at blocks.3.mlp.act"
    )
    alike = nodes(drawing)[1]
    assert texts(alike) == ["blocks.0 · 7 taps", "45.0 %"]


def test_folded_taps_without_values_are_boxes_without_colours():
    drawing = drawn(chain(vit(30)), {})
    assert [one.get("class") for one in nodes(drawing)] == ["node"] * 33


@pytest.mark.parametrize("name", ["layer{}", "layer.{}", "layer_{}", "a{}.b.c", "{}"])
def test_a_thousand_taps_in_a_row_are_folded_whatever_their_names(name):
    labels = [name.format(number) for number in range(1000)]
    drawing = drawn(chain(labels))
    assert drawing.notes[0].startswith("Folded: 1,000 taps")
    assert 3 <= len(nodes(drawing)) <= 150
    assert len(drawing.svg) + len(drawing.details) < 250_000


def test_edges_between_all_pairs_are_folded_early():
    labels = [f"t{number}" for number in range(40)]
    drawing = drawn(record(labels, itertools.combinations(labels, 2)))
    assert drawing.notes[0].startswith("Folded: 40 taps")
    assert len(drawing.notes) == 1
    assert not too_large(20, 190)
    assert too_large(24, 276)
    assert too_large(151, 150)
    assert not too_large(150, 1000)
    assert too_large(150, 1001)


@given(NAMES.flatmap(lambda names: st.tuples(st.just(names), st.integers(1, 4))))
@settings(deadline=None, max_examples=30)
def test_folding_keeps_every_tap_and_leaves_a_drawing_that_is_not_too_large(given_):
    names, times = given_
    labels = [f"{name}{number}" for number in range(times) for name in names]
    pairs = list(itertools.combinations(range(len(labels)), 2))
    if not too_large(len(labels), len(pairs)):
        return
    found = folded(labels, pairs)
    assert [place for box in found for place in range(box.start, box.stop)] == list(range(len(labels)))
    of = [number for number, box in enumerate(found) for _ in range(len(box))]
    assert not too_large(len(found), len({(of[a], of[b]) for a, b in pairs if of[a] != of[b]}))
    assert all(isinstance(box, Block) and box.name for box in found)


# --- the engine, and sameness


def test_a_slow_graphviz_is_ended_and_the_drawing_says_so(tmp_path, monkeypatch):
    slow = tmp_path / "slow.py"
    slow.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(layout_module, "_PROGRAM", slow)
    drawing = drawn(chain("abc"), seconds=0.2)
    assert drawing.notes == ["Laid out by the fallback: pygraphviz took longer than 0.2 s."]
    assert len(nodes(drawing)) == 3
    assert len(edges(drawing)) == 2


SCRIPT = """
import hashlib, itertools
from probekit.report.drawing import DrawnCell, draw
from probekit.results import GraphRecord, TapRecord
labels = [f"stage{n // 6}.tap{n}" for n in range(40)]
fields = {"model": "m", "op": "", "shape": None, "dtype": "", "layout": ""}
taps = [TapRecord(**fields, tap=label, name=label, depth=n) for n, label in enumerate(labels)]
edges = [["m", *pair] for pair in {*itertools.pairwise(labels), *zip(labels, labels[3:]), *zip(labels, labels[7:])}]
cells = {label: DrawnCell(label, 0.5, 5, "", True) for label in set(labels)}
graph, palette = GraphRecord(taps=taps, edges=edges), [("#000", "#fff")] * 11
made = [draw(graph, "m", cells, "t", palette, seconds) for seconds in (30, 1e-4)]
assert [len(one.notes) for one in made] == [0, 1]
print([hashlib.sha256(one.svg.encode()).hexdigest() for one in made])
"""


def test_two_processes_draw_the_same_bytes(monkeypatch):
    printed = []
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        command = [sys.executable, "-W", "error", "-c", SCRIPT]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert printed[0] == printed[1]
    assert len(printed[0]) > 100


def test_the_file_can_be_converted():
    convert = pytest.importorskip("vl_convert")
    drawing = draw(chain(HOSTILE), "m", {}, "t", PALETTE)
    assert convert.svg_to_png(drawing.standalone()).startswith(b"\x89PNG")
