"""The page: complete, in its order, whatever the result."""

import json
import re

import pytest

from probekit.errors import ProbekitWarning
from probekit.report import charts, html
from probekit.report.html import HtmlReport
from probekit.results import GraphRecord, TapRecord

NAMES = [f"block{i // 6}.{part}{i % 6}" for i, part in enumerate(("conv", "norm", "relu", "conv", "norm", "add") * 200)]


@pytest.fixture
def uncharted(monkeypatch):
    """Empty charts, without a process."""
    monkeypatch.setattr(html, "render", lambda wanted: [b'<svg viewBox="0 0 9 9"/>' for _ in wanted])


@pytest.fixture
def undrawn(uncharted, monkeypatch):
    """Neither charts nor drawings."""
    monkeypatch.setattr(html, "draw", lambda *_: None)


# --- what it says, in which order


def test_the_parts_stand_in_their_order(of_run, uncharted):
    names = ("image", *NAMES[:5])
    page = HtmlReport().render(of_run(names, factors=("digit", "parity"), checkpoints=("1", "2")))
    order = [
        "<h1>", 'class="grey"', 'class="card verdict"', 'class="card warn"', 'class="tiles"', 'id="depth"',
        'class="chart"',
        'id="model"', 'class="model"', 'id="training"', 'class="many"', 'id="factors"', 'id="taps"', 'id="details"',
        'id="reproduce"', 'id="provenance"', 'id="data"', 'id="results"',
    ]  # fmt: skip
    places = [page.index(one) for one in order]
    assert places == sorted(places)


def test_the_verdict_goes_on_with_findings_and_none_is_said_twice(of_run, undrawn, text_of):
    text = text_of(HtmlReport().render(of_run(NAMES[:4])))
    assert (
        "test examples wrong (95 % interval 34.0 % to 38.0 %, Wilson over 629 examples), where always saying the "
        "commonest class gives 90.0 % and the model itself 12.0 %." in text
    )
    assert text.count("It stops improving at the last tap.") == 1
    assert "said by the verdict" not in text
    assert "notice: The gain over the input is 80 points." in text
    assert "warning: Train is far below valid. → block0.relu2, block0.conv3" in text


def test_every_link_within_the_page_leads_somewhere(of_run, uncharted, read):
    warnings = ["tap block0.conv0 (pool): the probe for digit chose", "tap nowhere (pool): x", "no tap at all"]
    page = HtmlReport().render(of_run(NAMES[:4], warnings=warnings))
    attributes = read(page).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    inner = [value for _, name, value in attributes if name == "href" and value.startswith("#")]
    assert inner
    assert {value[1:] for value in inner} <= set(ids)
    assert {value for _, name, value in attributes if name == "href" and not value.startswith("#")} == {
        "results.json", "results.csv", "confusions.csv",
    }  # fmt: skip


def test_tiles_have_the_key_numbers(of_run, undrawn, text_of):
    text = text_of(HtmlReport().render(of_run(NAMES[:9])))
    for tile in (
        "18.0 %best probe error (16.0 to 20.0)",
        "12.0 %model error",
        "90.0 %chance",
        "90.0 %input error",
        "2.0 swall time",
    ):
        assert tile in text


def test_a_probe_that_missed_its_optimum_is_marked_wherever_it_stands(make, probe, uncharted, monkeypatch, text_of):
    drawn = []
    monkeypatch.setattr(html, "draw", lambda graph, model, cells, *_: drawn.append(cells))
    record = {"model": "default", "shape": [1], "dtype": "float32", "layout": "NF"}
    taps = [
        TapRecord(**record, tap=tap, name=tap, op=op, depth=depth)
        for depth, (tap, op) in enumerate([("image", "Input"), ("fc", "Gemm"), ("late", "Gemm")])
    ]
    probes = [probe("image", 0.6, status="missed"), probe("fc", 0.1), probe("late", 0.05, status="missed")]
    text = text_of(HtmlReport().render(make(probes).model_copy(update={"graph": GraphRecord(taps=taps, edges=[])})))
    (cells,) = drawn
    assert (cells["late"].text, cells["late"].share, cells["late"].bin) == ("missed", None, None)
    assert (cells["late"].hint, cells["fc"].text, cells["fc"].bin is None) == ("5.0 % (missed)", "10.0 %", False)
    assert "60.0 % (missed)input error" in text
    assert "late · 5.0 % (missed)" in text
    assert "fc · 10.0 %" in text


def test_every_number_stands_in_the_page(make, probe, undrawn, text_of):
    probes = [probe("conv1", 0.123, 0.456), probe("fc", 0.0789, 0.0321, status="missed")]
    text = text_of(HtmlReport().render(make(probes, own=0.0654, warnings=["mind the gap"])))
    for number in (
        "12.3 %", "45.6 %", "7.9 %", "3.2 %", "6.5 %", "90.0 %", "640", "missed: not ranked", "mind the gap",
        "probekit run <b>.yaml", "2026-01-01 00:00 UTC",
    ):  # fmt: skip
        assert number in text


def test_intervals_steps_and_information_are_told_with_their_kind_and_n(of_run, undrawn, text_of):
    text = text_of(HtmlReport().render(of_run(NAMES[:4])))
    for shown in (
        "95 % Wilson intervals over 629 examples", "-1.2*", "McNemar's exact test", "Holm's correction", "cannot tell",
        "Against block0.conv0: -1.2 points (-3.0 to +0.2), p = 0.034;", "13 wrong only here, 21 only there",
        "Information: yes; 0.644 nats a row", "Loss on valid by λ: 1: 2.303 · 0.1: 1.935 ·", "(64, 8, 8)",
        "/net/block0.conv0_output_0",
        "from block0.conv0", "cross entropy in nats0.1",
    ):  # fmt: skip
        assert shown in text


def test_balanced_error_is_shown_where_classes_are_uneven(of_run, undrawn):
    heads = [">balanced</th>" in HtmlReport().render(of_run(NAMES[:2], counts=counts))
             for counts in ([63] * 10, [500, *[10] * 9])]  # fmt: skip
    assert heads == [False, True]


def test_controls_stand_beside_the_probes_that_they_control(make, probe, undrawn):
    controls = [("shuffled_labels", 0.88), ("control_task by word", 0.35)]
    probes = [probe("a", 0.2), *(probe("a", error, control=name) for name, error in controls)]
    page = HtmlReport().render(make(probes))
    assert page.count('<details class="tap') == 1
    for shown in (
        ">shuffled_labels</th>", ">control_task by word</th>", "<td>+15.0 pp",
        "Control control_task by word: 35.0 % on test.",
        "selectivity, the accuracy on the task less",
    ):  # fmt: skip
        assert shown in page


def test_columns_without_anything_to_tell_are_left_out(make, probe, undrawn):
    page = HtmlReport().render(make([probe("a", 0.1), probe("b", 0.2)]))
    for column in ("95 % interval", "step", "information", "optimum", "reduction"):
        assert f">{column}</th>" not in page
    assert "Every probe is proven to be at its optimum." in page


def test_the_page_shows_numbers_labels_and_fits(make, number, tags, fit, undrawn, text_of):
    probes = [
        number("conv", 0.612, fit=fit(0.9, 0.8, 0.85, notes=["best epoch <3>"])),
        number("fc", 0.3, status="missed", fit=fit(0.7, end="smallest", reason="the budget <ended>")),
        tags("conv", {"speech": 0.123, "mu<b>sic": 0.345}),
    ]
    text = text_of(HtmlReport().render(make(probes)))
    for shown in (
        "0.612", "0.512 to 0.712", "percentile bootstrap intervals over 10 examples",
        "Loss on valid by λ: 1: 0.9 · 0.1: 0.8 · 0.01: 0.85.",
        "the smallest λ of its path", "missed because the budget <ended>", "exact",
        "By label", "mu<b>sic", "12.3 %", "34.5 %",
        "0.002", "Scores are means over 2 labels", "best epoch <3>", "Worst labels: mu<b>sic 34.5 %; speech 12.3 %",
    ):  # fmt: skip
        assert shown in text


def test_few_checkpoints_are_charts_and_a_table_many_are_a_table(of_run, uncharted, text_of):
    few = HtmlReport().render(of_run(NAMES[:3], checkpoints=tuple(f"step<{i}>" for i in range(3))))
    assert few.count('class="chart"') == 1 + 3
    assert "step<2>" in text_of(few)
    assert "At checkpoint step<2>" in text_of(few)
    many = HtmlReport().render(of_run(NAMES[:3], checkpoints=tuple(f"s{i}" for i in range(13))))
    assert many.count('class="chart"') == 1
    assert len(re.findall(r'<th scope="col">s\d+</th>', many)) == 13


def test_factors_stand_beside_each_other(of_run, undrawn):
    page = HtmlReport().render(of_run(NAMES[:3], factors=("a<1>", "b")))
    part = page[page.index('id="factors"') : page.index('id="taps"')]
    assert part.count('<th scope="row">') == 3
    assert part.count('<td class="k') == 6
    assert part.count(' best">') == 2
    assert part.count("<small>?</small>") == 2


def test_a_partial_run_says_so_on_top(make, probe, undrawn):
    page = HtmlReport().render(
        make([probe("a", 0.1)], warnings=["the fit failed: model default, tap b, reduction pool: x"])
    )
    assert page.index("PARTIAL") < page.index('class="card verdict"')


def test_the_table_in_the_page_can_be_read_by_programs(of_run, with_everything, undrawn, read):
    page = HtmlReport().render(of_run(NAMES[:3]))
    (attributes, text), = [one for one in read(page).scripts if one[0].get("id") == "results"]  # fmt: skip
    assert attributes["type"] == "application/json"
    table = json.loads("".join(text))
    first = table["same"] | dict(zip(table["columns"], table["rows"][0], strict=True))
    assert (first["tap"], first["test"], first["seed"]) == ("block0.conv0", 0.9, 0)
    controlled = HtmlReport().render(with_everything(of_run(NAMES[:3])))
    (_, text), = [one for one in read(controlled).scripts if one[0].get("id") == "results"]  # fmt: skip
    assert json.loads("".join(text)) == table


# --- at the edges


@pytest.mark.parametrize("probes", ["none", "one", "missed", "one class"])
def test_there_is_a_page_for_every_result(make, probe, uncharted, probes, text_of):
    result = {
        "none": make([]),
        "one": make([probe("a", 0.1)]),
        "missed": make([probe("a", 0.1, status="missed"), probe("b", 0.2, status="missed")]),
        "one class": make([probe("a", 0.0)], baseline=0.0),
    }[probes]
    text = text_of(HtmlReport().render(result))
    said = {
        "none": "No probe was fitted",
        "missed": "No probe reached its optimum",
        "one class": "does better than chance",
    }
    assert said.get(probes, "10.0 %") in text
    assert "Reproduce" in text


def test_without_charts_the_page_says_so_and_goes_on(make, probe, monkeypatch, text_of):
    def fails(wanted):
        raise charts.ChartError("it took longer than 60 s")

    monkeypatch.setattr(html, "render", fails)
    with pytest.warns(ProbekitWarning, match="no charts: it took longer"):
        text = text_of(HtmlReport().render(make([probe("a", 0.1)])))
    assert "The charts could not be drawn: it took longer than 60 s. The tables below hold the same numbers." in text
    assert "10.0 %" in text


def test_without_a_drawing_the_page_says_so_and_goes_on(of_run, undrawn, monkeypatch, text_of):
    monkeypatch.setattr(html, "draw", lambda *_: 1 / 0)
    with pytest.warns(ProbekitWarning, match="could not be drawn: ZeroDivisionError"):
        page = HtmlReport().render(of_run(NAMES[:3]))
    assert "The model could not be drawn: ZeroDivisionError" in text_of(page)
    assert 'id="taps"' in page


def test_many_classes_are_not_listed(make, probe, undrawn):
    result = make([probe("a", 0.1)])
    names = [f"class{i}" for i in range(10_000)]
    labels = {"digit": {**result.provenance["labels"]["digit"], "classes": names, "counts": {"test": [1] * 10_000}}}
    page = HtmlReport().render(result.model_copy(update={"provenance": {**result.provenance, "labels": labels}}))
    assert "9,980 more" in page
    assert len(page) < 40_000


def test_many_warnings_are_folded(make, probe, undrawn):
    page = HtmlReport().render(make([probe("a", 0.1)], warnings=[f"warning number {i}" for i in range(500)]))
    assert '<details class="long"><summary>488 more</summary>' in page
