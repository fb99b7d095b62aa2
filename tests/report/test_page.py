"""What a report says, before it has any format."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.errors import clean
from probekit.report.page import tables
from probekit.results import IntervalRecord


def test_the_best_tap_is_chosen_on_valid_and_reported_on_test(make, probe):
    (table,) = tables(make([probe("a", 0.10, 0.30), probe("b", 0.20, 0.20)], own=0.15))
    assert [row.best for row in table.rows] == [False, True]
    assert table.verdict == (
        "The best probe for digit, chosen on valid, is at b: 20.0 % of 10 test examples wrong, where always saying the "
        "commonest class gives 90.0 % and the model itself 15.0 %."
    )


def test_the_verdict_has_the_interval_of_every_task_with_its_kind(make, probe, tags):
    wilson = IntervalRecord(low=0.05, high=0.2, kind="wilson", over="examples", n=10)
    (table,) = tables(make([probe("a", 0.1, intervals={"error": {"train": wilson, "test": wilson}})]))
    assert "10.0 % of 10 test examples wrong (95 % interval 5.0 % to 20.0 %, Wilson), where" in table.verdict
    drawn = IntervalRecord(low=0.05, high=0.2, kind="percentile_bootstrap", over="groups", n=4)
    (table,) = tables(make([tags("a", {"x": 0.1}, intervals={"error": {"test": drawn}})]))
    told = "wrong (95 % interval 5.0 % to 20.0 %, bootstrap over 4 groups), over 1 label, where"
    assert told in table.verdict


def test_the_verdict_names_the_reduction_where_there_are_several(make, probe):
    (table,) = tables(make([probe("a", 0.1), probe("a", 0.2, reduction="flatten")]))
    assert "is at a (pool): 10.0 %" in table.verdict


def test_no_probe_is_called_best_that_is_no_better_than_chance(make, probe):
    (table,) = tables(make([probe("a", 0.92)]))
    assert table.verdict == (
        "No probe for digit does better than chance: always saying the commonest class gives 90.0 %; the one chosen on "
        "valid, at a, 92.0 % of 10 test examples wrong."
    )


def test_a_probe_that_missed_its_optimum_is_never_the_best(make, probe):
    (table,) = tables(make([probe("a", 0.1, status="missed"), probe("b", 0.5)]))
    assert [row.best for row in table.rows] == [False, True]
    (table,) = tables(make([probe("a", 0.1, status="missed")]))
    assert table.verdict == "No probe reached its optimum, so none is ranked."


def test_factors_models_and_probes_get_tables_of_their_own(make, probe):
    probes = [
        probe("a", 0.1),
        probe("a", 0.1, factor="parity"),
        probe("a", 0.1, model="b"),
        probe("a", 0.1, probe="other"),
        probe("a", 0.1, control="shuffled_labels"),
    ]
    titles = [table.title for table in tables(make(probes))]
    assert titles == [
        "default · digit · default", "default · parity · default", "b · digit · default", "default · digit · other",
    ]  # fmt: skip


def test_every_checkpoint_gets_a_table_whose_title_names_it(make, probe):
    probes = [probe("a", error, checkpoint=name) for name, error in [("1000", 0.5), ("2000", 0.3), ("final", 0.4)]]
    made = tables(make(probes))
    assert [table.title for table in made] == ["1000", "2000", "final"]
    assert [[row.probe.error["test"] for row in table.rows] for table in made] == [[0.5], [0.3], [0.4]]


def test_the_checkpoint_stands_behind_its_model(make, probe):
    probes = [probe("a", 0.1, model=model, checkpoint=checkpoint) for model in ("m", "n") for checkpoint in ("1", "2")]
    assert [table.title for table in tables(make(probes))] == ["m · 1", "m · 2", "n · 1", "n · 2"]


def test_one_checkpoint_alone_needs_no_title(make, probe):
    assert [table.title for table in tables(make([probe("a", 0.1, checkpoint="1000")]))] == [""]


def test_the_best_tap_is_that_of_each_checkpoint(make, probe):
    probes = [
        probe("a", 0.1, checkpoint="1"), probe("b", 0.2, checkpoint="1"), probe("a", 0.4, checkpoint="2"),
        probe("b", 0.3, checkpoint="2"),
    ]  # fmt: skip
    assert [[row.best for row in table.rows] for table in tables(make(probes))] == [[True, False], [False, True]]


def test_the_model_itself_is_that_of_the_same_checkpoint(make, probe):
    result = make([probe("a", 0.1, checkpoint="1"), probe("a", 0.1, checkpoint="2")], own=0.15)
    own = [result.model[0].model_copy(update={"checkpoint": name}) for name in ("2", "3")]
    first, second = tables(result.model_copy(update={"model": own}))
    assert (first.own, second.own) == (None, own[0])


def test_one_table_needs_no_title(make, probe):
    assert [table.title for table in tables(make([probe("a", 0.1), probe("b", 0.1)]))] == [""]


@pytest.mark.parametrize(("error", "share", "number"), [(0.9, 1, 0), (0.95, 1, 0), (0.45, 0.5, 5), (0.0, 0, 10)])
def test_colour_is_error_over_baseline(make, probe, error, share, number):
    (table,) = tables(make([probe("a", error)]))
    assert table.rows[0].share == pytest.approx(share)
    assert table.rows[0].bin == number


def test_without_a_baseline_error_nothing_is_better_than_it(make, probe):
    (table,) = tables(make([probe("a", 0.0)], baseline=0.0))
    assert table.rows[0].share == 1


@given(st.text())
def test_cleaned_text_holds_no_control_characters(text):
    assert not [c for c in clean(text) if unicodedata.category(c) in ("Cc", "Cs") or c in "\u202a\u202e\u2066\u2028"]


def test_plain_text_in_any_script_stays_as_it_is():
    assert clean("工具 🧪 שלום ü/x") == "工具 🧪 שלום ü/x"


# --- numbers and yes/no labels


def test_a_number_is_judged_by_the_largest_r2_on_valid(make, number):
    (table,) = tables(make([number("a", 0.7, 0.6), number("b", 0.9, 0.5), number("c", 0.2, 0.9, status="missed")]))
    assert [row.best for row in table.rows] == [True, False, False]
    assert table.verdict == (
        "The best probe for snr, chosen on valid, is at a: R² 0.700 (95 % interval 0.600 to 0.800, bootstrap) on "
        "10 test examples, where always saying the mean gives -0.010."
    )


@pytest.mark.parametrize(("r2", "share", "number_of_bin"), [(1, 0, 10), (0.5, 0.5, 5), (0, 1, 0), (-7, 1, 0)])
def test_colour_of_a_number_is_what_is_left_of_its_variance(make, number, r2, share, number_of_bin):
    (table,) = tables(make([number("a", r2)]))
    assert table.rows[0].share == pytest.approx(share)
    assert table.rows[0].bin == number_of_bin


def test_no_number_is_called_best_that_is_no_better_than_the_mean(make, number):
    (table,) = tables(make([number("a", -0.2)]))
    assert table.verdict.startswith("No probe for snr does better than chance: always saying the mean gives -0.010; ")


def test_yes_no_labels_are_told_as_answers_and_each_has_its_own_baseline(make, tags):
    (table,) = tables(make([tags("a", {"speech": 0.1, "music": 0.32}), tags("b", {"speech": 0.5, "music": 0.4})]))
    assert table.verdict == (
        "The best probe for tags, chosen on valid, is at a: 21.0 % of the answers for 10 test examples wrong, over 2 "
        "labels, where always giving each label's commoner answer gives 90.0 %."
    )
    assert table.labels == [("speech", 0.4), ("music", 0.4)]
    assert [[cell.error for cell in row.labels] for row in table.rows] == [[0.1, 0.32], [0.5, 0.4]]
    assert [cell.bin for cell in table.rows[0].labels] == [8, 2]
    assert [cell.bin for cell in table.rows[1].labels] == [0, 0]


def test_tasks_and_probe_kinds_are_never_in_one_table(make, probe, number, tags):
    probes = [
        probe("a", 0.1), number("a", 0.5), tags("a", {"x": 0.1}), probe("a", 0.2, probe="other"),
        number("a", 0.9, probe="other"),
    ]  # fmt: skip
    made = tables(make(probes))
    assert len(made) == 5
    assert all(len({(row.probe.task, row.probe.probe) for row in table.rows}) == 1 for table in made)
    assert all(row.best for table in made for row in table.rows)


def test_the_model_itself_may_predict_a_number(make, number):
    result = make([number("a", 0.7)], own=0.2)
    own = result.model[0].model_copy(
        update={
            "factor": "snr",
            "primary": "r2",
            "error": None,
            "scores": {"r2": {"train": 1, "valid": 1, "test": 0.8}},
        }
    )
    (table,) = tables(result.model_copy(update={"model": [own]}))
    assert table.verdict.endswith("gives -0.010 and the model itself 0.800.")
