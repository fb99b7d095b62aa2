"""What reports say of controls, against numbers made by hand."""

import csv
import io

import pytest

from probekit.components import is_control_task
from probekit.report.controls import control_cells
from probekit.report.files import CsvReport
from probekit.report.page import shown_difference, tables
from probekit.report.terminal import TerminalReport

TASK = "control_task by word"


def shuffled(probe, tap, train, **changes):
    """Return the result of a probe on permuted labels, by its training error."""
    error = {"train": train, "valid": 0.9, "test": 0.88}
    return probe(tap, 0.88, error=error, scores={"error": error}, control="shuffled_labels", **changes)


@pytest.fixture
def controlled(make, probe):
    """Two taps with permuted labels of two seeds and a control task of three."""
    probes = []
    for tap, error, trains, tasks in [
        ("early", 0.20, (0.40, 0.50), (0.30, 0.34, 0.41)),
        ("late", 0.05, (0.0, 0.1), (0.75, 0.85, 0.65)),
    ]:
        probes += [probe(tap, error)]
        probes += [shuffled(probe, tap, train, seed=seed) for seed, train in enumerate(trains)]
        probes += [probe(tap, task, control=TASK, seed=seed) for seed, task in enumerate(tasks)]
    return make(probes)


def test_controls_have_no_tables_of_their_own(controlled):
    (table,) = tables(controlled)
    assert table.title == ""
    assert table.controls == ["shuffled_labels", TASK]
    assert [row.probe.tap for row in table.rows] == ["early", "late"]
    assert [row.best for row in table.rows] == [False, True]
    assert table.verdict.startswith("The best probe for digit, chosen on valid, is at late: 5.0 %")


def test_selectivity_is_the_accuracy_on_the_task_less_the_mean_accuracy_on_the_control(controlled):
    (table,) = tables(controlled)
    for row, expected in zip(table.rows, [(1 - 0.20) - (1 - 0.35), (1 - 0.05) - (1 - 0.75)], strict=True):
        task = row.controls[1]
        assert task.name == TASK
        assert task.selectivity == pytest.approx(expected)
        assert row.selectivity == task.selectivity
    cell = table.rows[0].controls[1]
    assert (cell.split, cell.value, cell.low, cell.high, cell.seeds) == ("test", pytest.approx(0.35), 0.30, 0.41, 3)


def test_shuffled_labels_are_told_by_their_training_error_and_give_no_selectivity(controlled):
    (table,) = tables(controlled)
    cells = [row.controls[0] for row in table.rows]
    assert [(cell.name, cell.split, cell.seeds, cell.selectivity) for cell in cells] == [
        ("shuffled_labels", "train", 2, None)
    ] * 2
    assert [cell.value for cell in cells] == pytest.approx([0.45, 0.05])
    assert [(cell.low, cell.high) for cell in cells] == [(0.40, 0.50), (0.0, 0.1)]


def test_selectivity_of_numbers_is_a_difference_of_r2(make, number):
    (table,) = tables(make([number("a", 0.8), number("a", 0.3, control=TASK), number("a", 0.1, control=TASK, seed=1)]))
    (cell,) = table.rows[0].controls
    assert cell.value == pytest.approx(0.2)
    assert cell.selectivity == pytest.approx(0.8 - 0.2)


def test_selectivity_of_yes_no_labels_is_of_their_mean_error(make, tags):
    probes = [tags("a", {"x": 0.1, "y": 0.2}), tags("a", {"x": 0.5, "y": 0.3}, control=TASK)]
    (table,) = tables(make(probes))
    assert table.rows[0].selectivity == pytest.approx(0.40 - 0.15)


def test_a_control_stands_beside_the_probe_of_the_same_place_only(make, probe):
    probes = [
        probe("a", 0.1), probe("b", 0.1), probe("a", 0.1, reduction="flatten"), probe("a", 0.1, factor="parity"),
        probe("a", 0.1, probe="other"), probe("a", 0.1, model="m"), probe("a", 0.1, checkpoint="1"),
        probe("a", 0.7, control=TASK),
    ]  # fmt: skip
    beside = [(row.probe, row.controls) for table in tables(make(probes)) for row in table.rows]
    assert [one is probes[0] for one, cells in beside if cells] == [True]
    assert len(beside) == 7


def test_a_probe_that_missed_its_optimum_marks_the_cell(make, probe):
    for truth, control in [("missed", "proven"), ("proven", "missed")]:
        (table,) = tables(make([probe("a", 0.1, status=truth), probe("a", 0.6, control=TASK, status=control)]))
        assert table.rows[0].controls[0].missed
    (table,) = tables(make([probe("a", 0.1, status="missed"), shuffled(probe, "a", 0.3)]))
    assert not table.rows[0].controls[0].missed


def test_a_control_without_its_probe_has_no_row(make, probe):
    result = make([probe("a", 0.1), probe("b", 0.6, control=TASK)])
    (table,) = tables(result)
    assert [row.probe.tap for row in table.rows] == ["a"]
    assert table.controls == []
    (cell,) = control_cells(result.probes)["default", None, "b", "pool", "digit", "default"]
    assert cell.selectivity is None


def test_a_plugins_control_is_told_by_its_test_error(make, probe):
    (table,) = tables(make([probe("a", 0.1), probe("a", 0.6, control="other")]))
    (cell,) = table.rows[0].controls
    assert (cell.split, cell.value, cell.selectivity) == ("test", 0.6, None)
    assert not is_control_task("control_task")
    assert not is_control_task("control_tasks by x")


# --- the terminal and the files ---------------------------------------------------------------------------------------


def lines(result, width):
    return TerminalReport().render(result, width=width).splitlines()


def test_a_wide_terminal_shows_selectivity(controlled):
    text = lines(controlled, 100)
    assert "selectivity" in text[0]
    assert "+15.0 pp" in next(line for line in text if line.startswith("early"))
    assert "+70.0 pp" in next(line for line in text if line.startswith("late"))
    assert max(map(len, text)) <= 100


def test_a_terminal_of_less_than_100_columns_does_not(controlled):
    assert not any("selectivity" in line or " pp" in line for line in lines(controlled, 99))


def test_without_a_control_task_the_terminal_shows_what_is_learned_by_heart(make, probe):
    text = lines(make([probe("a", 0.1), shuffled(probe, "a", 0.125), probe("b", 0.2)]), 120)
    assert "shuffled, train" in text[0]
    assert "12.5 %" in text[1]
    assert "█" in text[2]
    assert "shuffled" not in "".join(lines(make([probe("a", 0.1)]), 120))


def test_what_missed_its_optimum_is_marked(make, probe):
    text = lines(make([probe("a", 0.1), probe("a", 0.6, control=TASK, status="missed")]), 120)
    assert "+50.0 pp (missed)" in text[1]


def test_names_of_controls_cannot_break_out(make, probe):
    hostile = "control_task by a\u202eb\x1b[31m[red]"
    text = "\n".join(lines(make([probe("a", 0.1), probe("a", 0.6, control=hostile)]), 120))
    assert "\x1b" not in text
    assert "+50.0 pp" in text
    text = "\n".join(lines(make([probe("a", 0.1), probe("a", 0.6, control="x\x1b[31m")]), 120))
    assert "\x1b" not in text


def test_the_csv_has_a_line_for_each_control_and_selectivity_beside_the_true_labels(controlled):
    rows = list(csv.DictReader(io.StringIO(CsvReport().render(controlled))))
    assert len(rows) == 12
    told = {(row["tap"], row["control"], row["seed"]): row[f"selectivity.{TASK}"] for row in rows}
    assert float(told["early", "", "0"]) == pytest.approx(0.15)
    assert float(told["late", "", "0"]) == pytest.approx(0.70)
    assert {value for (_, control, _), value in told.items() if control} == {""}


def test_without_control_tasks_the_csv_has_no_such_column(make, probe):
    header = CsvReport().render(make([probe("a", 0.1), shuffled(probe, "a", 0.2)])).split("\n")[0]
    assert "selectivity" not in header


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.123, "error", "+12.3 pp"),
        (-0.5, "error", "-50.0 pp"),
        (-0.0001, "error", "+0.0 pp"),
        (-0.0001, "r2", "+0.000"),
        (-1.25, "r2", "-1.250"),
    ],
)
def test_differences_have_a_sign(value, metric, text):
    assert shown_difference(value, metric) == text
