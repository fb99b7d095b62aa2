"""The main job from end to end, on the bundled digits."""

import csv
import json
import warnings

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.metrics import accuracy_score

from probekit import (
    Certificate,
    Console,
    FittedProbe,
    InputError,
    MachineError,
    Plugins,
    SpecError,
    load_result,
    load_spec,
    run_spec,
)
from probekit.components import LinearMap
from probekit.probes.linear import LinearProbe
from probekit.report.files import CsvReport
from probekit.report.markdown import MarkdownReport
from probekit.workers import FitWorkers

QUICK = ("taps=[image, relu_1, linear, logits]", "reductions=null", "probe={kind: linear, penalty: [0.1, 0.01]}")
PROBE_FIELDS = (
    "model checkpoint tap reduction factor probe control seed task scores primary error intervals by_label "
    "mistakes penalty features_raw features_used features_constant vector parameters reduction_parameters "
    "reduction_seconds rows certificate fit seconds"
).split()


def go(spec, directory, *settings, **options):
    plugins = Plugins()
    return run_spec(load_spec(spec, plugins, settings, **options), plugins, directory)


@pytest.fixture(scope="module")
def digits(specs, tmp_path_factory):
    return go(specs / "digits.yaml", tmp_path_factory.mktemp("run"), *QUICK)


def test_the_run_directory_holds_every_file(digits):
    names = {path.name for path in digits.directory.iterdir()}
    assert names == {
        "results.json", "results.csv", "confusions.csv", "predictions.safetensors", "probes.safetensors", "report.html",
    }  # fmt: skip


def test_results_have_exactly_the_designs_fields(digits):
    saved = json.loads((digits.directory / "results.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert list(saved) == [
        "schema_version", "name", "probes", "model", "graph", "comparisons", "contrasts", "information", "twins",
        "spreads", "findings", "provenance",
    ]  # fmt: skip
    for probe in saved["probes"]:
        assert list(probe) == PROBE_FIELDS
        assert set(probe["certificate"]) == {"status", "gap", "of_chance", "of_objective"}
        assert set(probe["error"]) == {"train", "valid", "test"}
        assert probe["scores"]["error"] == probe["error"]
        assert sum(probe["rows"].values()) == 1797
    assert load_result(digits.directory) == digits.result


def test_every_tap_is_probed_for_every_factor_in_depth_order(digits):
    taps = ["image", "relu_1", "linear", "logits"]
    identities = [(probe.tap, probe.factor) for probe in digits.result.probes]
    assert identities == [(tap, factor) for tap in taps for factor in ("digit", "parity")]


def test_the_linear_probe_reads_what_the_literature_says_it_can(digits):
    by_tap = {probe.tap: probe.error["test"] for probe in digits.result.probes if probe.factor == "digit"}
    # One pooled feature, the mean ink, tells hardly anything; the trained network's last layers tell nearly all.
    assert by_tap["image"] > 0.8
    assert by_tap["linear"] < 0.06
    assert by_tap["logits"] < 0.06
    assert all(probe.certificate.status == "proven" for probe in digits.result.probes)


def test_top5_error_is_there_from_six_classes_on(digits):
    for probe in digits.result.probes:
        assert ("top5_error" in probe.scores) == (probe.factor == "digit")


def test_the_models_own_error_is_the_networks(digits, specs):
    import onnxruntime
    from sklearn.datasets import load_digits

    data = load_digits()
    path = specs / "models" / "digits_convnet.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": (data.images[:, None] / 16).astype(np.float32)})
    own = {model.factor: model for model in digits.result.model}
    assert list(own) == ["digit"]
    assert own["digit"].error["train"] == pytest.approx(
        1 - accuracy_score(data.target[::2], logits[::2].argmax(axis=1))
    )
    rows = own["digit"].rows
    odd = 1 - accuracy_score(data.target[1::2], logits[1::2].argmax(axis=1))
    mixed = sum(own["digit"].error[split] * rows[split] for split in ("valid", "test")) / (rows["valid"] + rows["test"])
    assert mixed == pytest.approx(odd)


def test_predictions_give_the_errors_of_the_results(digits):
    with safe_open(digits.directory / "predictions.safetensors", "numpy") as file:
        facts = json.loads(file.metadata()["probekit"])
        keys, splits = facts["predictions"], facts["splits"]
        split = file.get_tensor("split")
        ids = [bytes(row).rstrip(b"\0").decode() for row in file.get_tensor("id")]
        assert len(ids) == len(set(ids)) == 1797
        probes = {(p.tap, p.factor): p for p in digits.result.probes}
        seen = 0
        for key, identity in keys.items():
            labels, predicted = file.get_tensor(f"label.{identity['factor']}"), file.get_tensor(f"predicted.{key}")
            owner = probes[identity["tap"], identity["factor"]] if "tap" in identity else digits.result.model[0]
            for number, name in enumerate(splits):
                part = split == number
                assert np.mean(labels[part] != predicted[part]) == pytest.approx(owner.error[name])
                if "tap" in identity:
                    mean = file.get_tensor(f"loss.{key}")[part].mean()
                    assert mean == pytest.approx(owner.scores["cross_entropy"][name], rel=1e-4)
            seen += 1
    assert seen == len(digits.result.probes) + len(digits.result.model)


def test_the_csv_says_what_the_json_says(digits):
    with (digits.directory / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["tap"], row["factor"]) for row in rows] == [(p.tap, p.factor) for p in digits.result.probes]
    for row, probe in zip(rows, digits.result.probes, strict=True):
        assert float(row["error.test"]) == probe.error["test"]
        assert float(row["penalty"]) == probe.penalty


def test_the_graph_joins_the_taps_in_order(digits):
    assert digits.result.graph.edges == [
        ["default", "image", "relu_1"],
        ["default", "relu_1", "linear"],
        ["default", "linear", "logits"],
    ]


def test_provenance_says_where_it_comes_from(digits, specs):
    provenance = digits.result.provenance
    assert provenance["spec"]["text"] == (specs / "digits.yaml").read_text()
    assert provenance["spec"]["settings"] == list(QUICK)
    assert provenance["splits"]["train"] == 899
    assert sum(provenance["labels"]["digit"]["counts"]["train"]) == 899
    assert provenance["labels"]["parity"]["baseline"]["test"] == pytest.approx(0.5, abs=0.05)
    model = provenance["models"]["default"]
    assert model["runtime"]["providers"][-1] == "CPUExecutionProvider"
    assert len(model["fingerprint"]) == len(model["data"]) == 32
    assert "'taps=[image, relu_1, linear, logits]'" in provenance["command"]


def test_the_same_spec_gives_the_same_numbers(digits, specs, tmp_path):
    again = go(specs / "digits.yaml", tmp_path / "again", *QUICK, "reports=[csv]")
    assert [p.model_dump(exclude={"seconds"}) for p in again.result.probes] == [
        p.model_dump(exclude={"seconds"}) for p in digits.result.probes
    ]
    assert again.result.model == digits.result.model
    first, second = (run.directory / "predictions.safetensors" for run in (digits, again))
    assert first.read_bytes() == second.read_bytes()


def test_fits_in_processes_of_their_own_are_the_same_to_the_last_bit(specs, tmp_path, monkeypatch):
    monkeypatch.setattr("probekit.workers.WORTH_SECONDS", 0.0)
    submitted = []
    submit = FitWorkers.submit
    monkeypatch.setattr(FitWorkers, "submit", lambda self, task: submitted.append(task.place) or submit(self, task))
    found = []
    for count in (1, 2):
        plugins, console = Plugins(), Console(isolate=True, processes=count)
        outcome = run_spec(load_spec(specs / "digits.yaml", plugins, QUICK), plugins, tmp_path / str(count), console)
        assert len(submitted) == (4 if count == 2 else 0)
        found.append([one.model_dump(exclude={"seconds"}) for one in outcome.result.probes])
        found.append((outcome.directory / "predictions.safetensors").read_bytes())
    assert found[:2] == found[2:]


def test_another_seed_gives_other_splits(digits, specs, tmp_path):
    other = go(specs / "digits.yaml", tmp_path / "other", *QUICK, "splits.seed=1", "reports=[csv]")
    assert other.result.probes[0].seed == 1
    assert other.result.model[0].error["valid"] != digits.result.model[0].error["valid"]


SPEC = """
probekit: 1
model: {kind: onnx, path: "${MODEL}"}
data: {kind: digits}
labels: {digit: {kind: column, column: label}}
splits: {column: half, train: even, valid: {of: odd, share: 0.5}, test: odd}
probe: {kind: linear, penalty: 0.1}
reports: [csv]
"""


@pytest.fixture
def small(specs, tmp_path):
    """Run a spec of a few lines with some of its lines replaced."""

    def run(*settings, **more):
        path = tmp_path / "small.yaml"
        path.write_text(SPEC)
        environ = {"MODEL": str(specs / "models" / "digits_convnet.onnx")}
        return go(path, tmp_path / "run", *settings, environ=environ, **more)

    return run


def test_everything_is_tapped_and_pooled_by_default(small):
    result = small().result
    assert [tap.tap for tap in result.graph.taps][:3] == ["image", "conv2d", "relu"]
    used = {probe.tap: (probe.reduction, probe.features_used) for probe in result.probes}
    assert used["relu_1"] == ("default", 32)
    assert used["linear"] == ("flatten", 64)


def test_a_grid_of_reductions_and_probes_is_run_on_every_tap(small):
    result = small(
        "taps=[max_pool2d, linear]",
        "reductions={pool: {kind: pool}, max: {kind: pool, how: max}, some: {kind: subset, features: 20}, "
        "far: {kind: project, features: 16}, parts: {kind: pca, features: 10, of: {kind: pool}}}",
        "probe=null",
        "probes={strong: {kind: linear, penalty: 1}, weak: {kind: linear, penalty: 0.01}}",
    ).result
    found = {(p.tap, p.reduction, p.probe): p.features_used for p in result.probes}
    widths = {"pool": 32, "max": 32, "some": 20, "far": 16, "parts": 10}
    expected = {("max_pool2d", name, probe): width for name, width in widths.items() for probe in ("strong", "weak")}
    # A vector cannot be pooled; it keeps the reductions that fit it.
    expected |= {("linear", name, p): w for name, w in (("some", 20), ("far", 16)) for p in ("strong", "weak")}
    assert found == expected


def test_several_models_stand_side_by_side(small, specs):
    path = specs / "models" / "digits_convnet.onnx"
    result = small(
        "model=null",
        f"models.a={{kind: onnx, path: {path}}}",
        f"models.b={{kind: onnx, path: {path}}}",
        "taps=[linear]",
    ).result
    first, second = result.probes
    assert (first.model, second.model) == ("a", "b")
    assert first.error == second.error
    assert set(result.provenance["models"]) == {"a", "b"}


def test_several_test_splits_are_reported_by_name(small):
    settings = ["splits={column: label, train: ['0', '1', '2', '3'], valid: 0.2, test: ['4', '5']}"]
    settings.append(
        "labels={parity: {kind: group, column: label, groups: {even: '0, 2, 4', odd: '1, 3, 5'}, missing: drop}}"
    )
    with warnings.catch_warnings():
        result = small("taps=[linear]", *settings).result
    (probe,) = result.probes
    assert set(probe.scores["error"]) == {"train", "valid", "4", "5"}
    assert probe.error["test"] == probe.scores["error"]["4"]
    assert set(probe.error) == {"train", "valid", "test"}
    assert any("classes are not in '4'" in text for text in result.provenance["warnings"])


def test_a_limit_cuts_the_rows_and_nothing_else(small):
    result = small("taps=[linear]", "splits.limit={train: 300, test: 100}").result
    assert result.probes[0].rows["train"] == 300
    assert result.probes[0].rows["test"] == 100


def test_a_probe_that_fails_loses_only_itself(small, monkeypatch):
    usual = LinearProbe.fit

    def fit(self, features, targets, context=None):
        if features.shape[1] == 64:
            raise FloatingPointError("no luck")
        return usual(self, features, targets, context)

    monkeypatch.setattr(LinearProbe, "fit", fit)
    outcome = small("taps=[linear, logits]")
    assert [probe.tap for probe in outcome.result.probes] == ["logits"]
    assert outcome.failures == [
        "model default, tap linear, reduction flatten, probe default, factor digit: FloatingPointError: no luck"
    ]
    assert outcome.result.provenance["warnings"][-1] == f"the fit failed: {outcome.failures[0]}"


def test_a_probe_short_of_its_optimum_is_told_and_not_ranked(small):
    outcome = small("taps=[linear]", "probe={kind: linear, penalty: 1.0e-6, max_passes: 1}", "reports=[terminal]")
    (probe,) = outcome.result.probes
    assert probe.certificate.status == "missed"
    (finding,) = [one for one in outcome.result.findings if one.kind == "missed"]
    assert finding.sentence.startswith(
        "The probe for digit is not proven to be at its optimum and is not ranked: linear ("
    )
    assert probe.fit.reason in finding.sentence
    assert "".join(outcome.printed["terminal"].split()).count("notproven") == 1
    assert "No probe reached its optimum, so none is ranked." in outcome.printed["terminal"]


def test_taps_wider_than_the_training_rows_are_told_in_one_line(small):
    warned = small("taps=[conv2d, max_pool2d, linear]", "reduction={kind: flatten}").result.provenance["warnings"]
    assert warned == [
        "model default: more features than the 899 training rows at 'conv2d (1024)'; there a probe can fit any labels, "
        "so that its train error says nothing"
    ]


def test_when_every_probe_fails_the_run_and_its_reports_say_so(small, tmp_path, monkeypatch):
    monkeypatch.setattr(LinearProbe, "fit", lambda *_: 1 / 0)
    where = "model default, tap linear, reduction flatten, probe default, factor digit: ZeroDivisionError"
    outcome = small("taps=[linear]", "reports=[csv, markdown, terminal, html]")
    assert [text.startswith(where) for text in outcome.failures] == [True]
    assert "No probe was fitted." in outcome.printed["terminal"]
    assert "No probe was fitted" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    saved = load_result(tmp_path / "run")
    assert saved.probes == []
    assert saved.failures() == outcome.failures
    shown = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "PARTIAL: 1 fit failed" in shown
    assert "No probe was fitted" in shown
    assert "ZeroDivisionError" in shown
    assert (tmp_path / "run" / "results.csv").is_file()


def test_results_stay_where_a_report_cannot_be_written(small, tmp_path):
    (tmp_path / "run" / "report.md").mkdir(parents=True)
    with pytest.raises(MachineError, match=r"cannot write to .*; free some space or name another folder"):
        small("taps=[linear]", "reports=[markdown]")
    result = load_result(tmp_path / "run")
    assert [probe.tap for probe in result.probes] == ["linear"]
    assert "The best probe" in MarkdownReport().render(result)


def test_a_tap_with_too_many_features_is_refused_with_the_numbers(small):
    with pytest.raises(SpecError) as caught:
        small("taps=[conv2d, relu_1]", "reduction={kind: flatten}", "max_features=2000")
    assert [str(problem) for problem in caught.value.problems] == [
        "--set max_features=2000: max_features: tap 'relu_1' has 2048 features under 'default', the limit is 2000; "
        "use {kind: pool} or {kind: subset, features: 1000}, or raise max_features"
    ]


def test_what_is_found_in_a_run_is_told_at_its_place_in_the_spec(specs, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(SPEC + "taps:\n  - linear\n  - linaer\n  - {op: Rellu}\n")
    with pytest.raises(SpecError) as caught:
        go(path, tmp_path / "run", environ={"MODEL": str(specs / "models" / "digits_convnet.onnx")})
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:11:5: taps[1]: the model has no tensor 'linaer'; did you mean 'linear'?",
        f"{path}:12:10: taps[2].op: no tensor that can be tapped comes from 'Rellu'; did you mean 'Relu'?",
    ]


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(small, tmp_path, monkeypatch):
    (tmp_path / "run").write_text("a file stands where the folder should")
    monkeypatch.setattr("probekit.run.ask", lambda *_: pytest.fail("it ran"))
    with pytest.raises(MachineError, match="cannot write to"):
        small()


def test_leakage_is_refused_and_told_when_allowed(small):
    same = "splits={column: half, train: even, valid: even, test: odd%s}"
    with pytest.raises(InputError, match="times the same id in 'train' and 'valid'"):
        small("taps=[linear]", same % "")
    result = small("taps=[linear]", same % ", allow_leakage: true").result
    assert any(text.startswith("leakage allowed: 899 times the same id") for text in result.provenance["warnings"])
    # What knowing the training labels alone loses: near the entropy of ten classes.
    (told,) = result.information
    assert told.gain / told.of_chance == pytest.approx(np.log(10), rel=0.05)


@pytest.mark.usefixtures("own_store")
def test_progress_is_told_stage_by_stage(specs, tmp_path):
    told = []
    plugins = Plugins()
    loaded = load_spec(specs / "digits.yaml", plugins, (*QUICK, "reports=[csv]"))
    run_spec(loaded, plugins, tmp_path, Console(tell=lambda *step: told.append(step[:4])))
    assert told[0] == ("default: forward", 64, 1797)
    assert [step for step in told if step[1] == step[2]] == [
        ("default: forward", 1797, 1797),
        ("probes", 4, 4, ""),
    ]
    assert told[-1] == ("probes", 4, 4, "")
    for number, tap in enumerate(("image", "relu_1", "linear", "logits"), start=1):
        detail = f"tap {number} of 4, default {tap} ({'default' if tap in {'image', 'relu_1'} else 'flatten'})"
        assert ("probes", number - 1, 4, detail) in told


class Ridge(FittedProbe):
    """A ridge regression to the classes."""

    penalty, certificate, seconds = 1.0, Certificate("proven", 0.0, 0.0, 0.0), 0.0

    def __init__(self, linear):
        self.linear = linear

    def logits(self, features):
        return self.linear(features)


def ridge(features, target):
    x = np.asarray(features).astype(np.float64)[target.train]
    rows = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = np.eye(len(target.classes))[target.codes[target.train]]
    w = np.linalg.solve(rows.T @ rows + np.eye(rows.shape[1]), rows.T @ y).T
    return Ridge(LinearMap(w[:, :-1], w[:, -1]))


def test_a_run_that_was_interrupted_while_it_fitted_goes_on_and_says_so(small, tmp_path, monkeypatch):
    fitted, stop = [], [2]

    def fit(self, features, targets, context=None):
        fitted.append(features.shape[1])
        if stop and len(fitted) > stop[0]:
            raise KeyboardInterrupt
        return [ridge(features, target) for target in targets]

    monkeypatch.setattr(LinearProbe, "fit", fit)
    taps = "taps=[image, max_pool2d, linear, logits]"
    with pytest.raises(KeyboardInterrupt):
        small(taps)
    run = tmp_path / "run"
    assert [path.name for path in run.iterdir()] == ["fits"]
    assert len(list((run / "fits").iterdir())) == 2
    stop.clear()
    resumed = small(taps)
    assert fitted == [1, 32, 64, 64, 10]
    assert not (run / "fits").exists()
    assert resumed.result.provenance["fits"] == {"resumed": 2}
    predictions = (run / "predictions.safetensors").read_bytes()
    whole = small(taps)
    assert whole.result.provenance["fits"] == {"resumed": 0}
    assert fitted[5:] == [1, 32, 64, 10]
    assert resumed.result.probes == whole.result.probes
    assert resumed.result.provenance["warnings"] == whole.result.provenance["warnings"]
    assert (run / "predictions.safetensors").read_bytes() == predictions


def test_what_is_kept_is_told_whatever_stops_the_fits(specs, tmp_path, monkeypatch):
    fitted, said = [], []

    def fit(self, features, targets, context=None):
        fitted.append(features.shape[1])
        if len(fitted) == 2:
            raise MemoryError("9 GiB")
        return [ridge(features, target) for target in targets]

    monkeypatch.setattr(LinearProbe, "fit", fit)
    plugins = Plugins()
    loaded = load_spec(specs / "digits.yaml", plugins, QUICK)
    with pytest.raises(MemoryError):
        run_spec(loaded, plugins, tmp_path / "run", Console(say=said.append))
    assert said == [f"1 fit is kept in {str(tmp_path / 'run' / 'fits')!r}; the same command goes on from there"]


def test_fits_are_kept_until_the_reports_are_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(LinearProbe, "fit", lambda _, x, targets, context=None: [ridge(x, one) for one in targets])
    monkeypatch.setattr(CsvReport, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small("taps=[linear]")
    assert len(list((tmp_path / "run" / "fits").iterdir())) == 1
