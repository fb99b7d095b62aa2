"""The digits spec with controls, end to end."""

import csv

import pytest
from safetensors import safe_open
from scipy.stats import binomtest
from sklearn.datasets import load_digits

from probekit import Console, Plugins, load_probe, load_result, load_spec, run_spec
from probekit.predictions import identity_of, label_name, load_predictions

TASK = "control_task by label"
TAPS = ("image", "linear")


@pytest.fixture(scope="module")
def outcome(specs, tmp_path_factory):
    plugins = Plugins()
    settings = (
        "taps=[image, linear]", "probe={kind: linear, penalty: 0.01}", "reports=[terminal, csv, html]",
        "model.output={factor: digit}",
    )  # fmt: skip
    loaded = load_spec(specs / "digits_controls.yaml", plugins, settings)
    return run_spec(loaded, plugins, tmp_path_factory.mktemp("controls"), Console(width=120))


def errors(outcome, tap, factor, control):
    wanted = (tap, factor, control)
    return [one.error for one in outcome.result.probes if (one.tap, one.factor, one.control) == wanted]


def test_every_tap_has_a_probe_for_each_factor_control_and_seed(outcome):
    asked = [
        ("digit", None, 0), ("parity", None, 0), ("digit", "shuffled_labels", 0), ("parity", "shuffled_labels", 0),
        *(("parity", TASK, seed) for seed in range(5)),
    ]  # fmt: skip
    found = [(one.tap, one.factor, one.control, one.seed) for one in outcome.result.probes]
    assert found == [(tap, *one) for tap in TAPS for one in asked]
    assert outcome.failures == []
    assert load_result(outcome.directory) == outcome.result


def test_the_test_error_on_shuffled_labels_is_chance(outcome):
    for tap in TAPS:
        for factor, chance in [("digit", 0.9), ("parity", 0.5)]:
            (error,) = errors(outcome, tap, factor, "shuffled_labels")
            assert binomtest(round(error["test"] * 629), 629, chance).pvalue > 1e-3
            assert error["train"] < error["test"]


def test_facts_of_labels_are_those_of_the_true_ones(outcome):
    truth = load_digits().target[::2]
    facts = outcome.result.provenance["labels"]["parity"]
    assert facts["counts"]["train"] == [int((truth % 2 == answer).sum()) for answer in (0, 1)]
    controls = outcome.result.provenance["controls"]
    assert [(one["factor"], one["control"], one["seed"]) for one in controls] == [
        ("digit", "shuffled_labels", 0), ("parity", "shuffled_labels", 0), *(("parity", TASK, n) for n in range(5)),
    ]  # fmt: skip
    assert all(one["values"] == 10 and one["seen"]["test"] == 1 for one in controls[2:])


def test_labels_of_controls_are_saved_beside_the_predictions(outcome):
    predictions = load_predictions(outcome.directory)
    for probe in outcome.result.probes:
        rows = predictions.rows("test", probe.factor, probe.control, probe.seed)
        labels = predictions.codes(probe.factor, probe.control, probe.seed)
        wrong = labels[rows] != predictions.predicted[identity_of(probe)][rows]
        assert wrong.mean() == pytest.approx(probe.error["test"])
    with safe_open(outcome.directory / "predictions.safetensors", "numpy") as file:
        assert f"label.{label_name('parity', TASK, 4)}" in file.keys()  # noqa: SIM118 - it is no mapping


def test_the_models_own_prediction_is_compared_with_the_true_labels(outcome):
    (own,) = outcome.result.model
    assert own.error["test"] < 0.1


def test_a_saved_probe_is_that_of_the_true_labels_unless_a_control_is_named(outcome):
    assert load_probe(outcome.directory, "image", "parity").record.control is None
    found = load_probe(outcome.directory, "image", "parity", control=TASK, seed=3)
    assert (found.record.control, found.record.seed) == (TASK, 3)


def test_reports_show_selectivity_beside_the_error(outcome):
    with (outcome.directory / "results.csv").open(newline="") as stream:
        rows = {(row["tap"], row["factor"], row["control"], row["seed"]): row for row in csv.DictReader(stream)}
    for tap in TAPS:
        control = [error["test"] for error in errors(outcome, tap, "parity", TASK)]
        (truth,) = errors(outcome, tap, "parity", None)
        expected = sum(control) / 5 - truth["test"]
        assert float(rows[tap, "parity", "", "0"][f"selectivity.{TASK}"]) == pytest.approx(expected)
        assert f"{100 * expected:+.1f} pp" in outcome.printed["terminal"]
    assert "shuffled, train" in outcome.printed["terminal"]


def test_chance_on_controls_is_no_warning(outcome):
    assert not any("does no better than" in text for text in outcome.result.provenance["warnings"])
