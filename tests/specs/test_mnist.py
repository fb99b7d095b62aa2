"""The paper's MNIST experiments (sections 3.4 to 3.6): cut, and under ``-m slow`` as docs/reproduction.md has them."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from probekit import Plugins, load_spec, run_spec

TEN = [
    "input", "conv1_preact", "conv1_postact", "conv1_postpool", "conv2_preact", "conv2_postact", "conv2_postpool",
    "fc1_preact", "fc1_postact", "logits",
]  # fmt: skip
WIDTHS = [784, 25088, 25088, 6272, 12544, 12544, 3136, 512, 512, 10]


def go(path, directory, mnist, checkpoints, *settings):
    environ = {"MNIST": str(mnist), "MNIST_CONVNET": str(checkpoints)}
    plugins = Plugins()
    loaded = load_spec(path, plugins, settings, environ=environ, trust_code=True)
    return run_spec(loaded, plugins, directory).result


def errors(result, **wanted):
    return {
        one.tap: one.error["test"]
        for one in result.probes
        if all(getattr(one, name) == value for name, value in wanted.items())
    }


@pytest.fixture(scope="module")
def cut(specs, mnist, cut_checkpoints, tmp_path_factory):
    """Five of the ten taps on 400 training images, of a network that has seen 3,000 images."""
    return go(
        specs / "mnist_convnet.yaml", tmp_path_factory.mktemp("convnet"), mnist, cut_checkpoints,
        "splits.limit={train: 400, valid: 150, test: 800}",
        "taps=[{match: input, as: input}, {match: conv1, as: conv1_preact}, {match: relu1, as: conv1_postact}, "
        "{match: pool2, as: conv2_postpool}, {match: logits, as: logits}]",
        "probes.optimum.penalty=0.1", "probes.paper.early={max_epochs: 6}", "reports=[json]",
    )  # fmt: skip


def test_both_checkpoints_have_both_probes_at_raw_features(cut):
    taps = ["input", "conv1_preact", "conv1_postact", "conv2_postpool", "logits"]
    found = {(one.checkpoint, one.probe, one.tap, one.features_raw) for one in cut.probes}
    width = dict(zip(TEN, WIDTHS, strict=True))
    assert found == {
        (checkpoint, probe, tap, width[tap])
        for checkpoint in ("initial", "trained") for probe in ("optimum", "paper") for tap in taps
    }  # fmt: skip
    for one in cut.probes:
        assert one.certificate.status == ("proven" if one.probe == "optimum" else "not_applicable")
        assert one.rows == {"train": 400, "valid": 150, "test": 800}


def test_a_wide_tap_that_is_read_in_every_pass_gives_the_same_probe(specs, mnist, cut_checkpoints, tmp_path):
    # Three copies in float32 of 1,750 rows with 25,088 features are 502 MiB.
    settings = (
        "splits.limit={train: 200, valid: 100, test: 1450}", "taps=[{match: relu1, as: conv1_postact}]",
        "probes.optimum.penalty=0.1", "probes.paper.early={max_epochs: 3}", "reports=[json]",
        f"model.checkpoints={{initial: {cut_checkpoints / 'initial.safetensors'}}}",
    )  # fmt: skip
    held, streamed = (
        go(
            specs / "mnist_convnet.yaml", tmp_path / memory, mnist, cut_checkpoints, *settings, f"memory={memory}"
        ).probes
        for memory in ("4GiB", "484MiB")
    )
    assert [one.fit.streamed for one in held] == [False, False]
    assert [one.fit.streamed for one in streamed] == [True, True]
    # Both optima are proven to 1e-4 of the entropy of the labels, log 10 at most.
    first, second = (
        next(one.fit.path[0].objective for one in some if one.probe == "optimum") for some in (held, streamed)
    )
    assert first == pytest.approx(second, abs=1e-4 * np.log(10))
    for one, other in zip(held, streamed, strict=True):
        assert one.error["test"] == pytest.approx(other.error["test"], abs=0.005)


def test_an_untrained_relu_helps_and_training_helps_at_the_end(cut):
    for probe in ("optimum", "paper"):
        initial, trained = (errors(cut, probe=probe, checkpoint=moment) for moment in ("initial", "trained"))
        assert initial["conv1_postact"] < initial["conv1_preact"] - 0.02
        assert initial["conv2_postpool"] < initial["input"] - 0.03
        assert trained["logits"] < initial["logits"] - 0.05
        assert trained["input"] == initial["input"]


def test_the_model_itself_is_at_chance_before_training(cut):
    by_checkpoint = {one.checkpoint: one.error["test"] for one in cut.model}
    assert by_checkpoint["initial"] > 0.7
    assert by_checkpoint["trained"] < 0.2


@pytest.fixture(scope="module")
def others(specs, mnist, cut_checkpoints, tmp_path_factory):
    return go(
        specs / "mnist_other_objectives.yaml", tmp_path_factory.mktemp("others"), mnist, cut_checkpoints,
        "splits.limit={train: 800, valid: 300, test: 800}",
        "taps=[{match: input, as: input}, {match: pool2, as: conv2_postpool}, {match: relu3, as: fc1_postact}, "
        "{match: logits, as: logits}]",
        "probe={kind: linear, penalty: [0.1, 0.01]}", "reports=[json]",
    )  # fmt: skip


def test_five_factors_are_asked_of_one_extraction(others, mnist):
    assert {(one.factor, one.task) for one in others.probes} == {
        ("digit", "classes"), ("parity", "classes"), ("loop", "classes"), ("ink", "number"), ("slant", "number"),
    }  # fmt: skip
    columns = np.genfromtxt(mnist / "columns.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    fours = np.mean(columns["digit"] == 4)
    (rows,) = {one.rows["test"] for one in others.probes if one.factor == "loop"}
    assert rows == pytest.approx(800 * (1 - fours), abs=40)


def test_every_factor_and_tap_has_an_answer(others):
    answers = {(one.factor, one.tap): one.answer for one in others.information}
    taps = {one.tap for one in others.probes}
    assert set(answers) == {(name, tap) for name in ("digit", "parity", "loop", "ink", "slant") for tap in taps}
    assert answers["digit", "logits"] == answers["digit", "input"] == "yes"
    # Some features are 0 in nearly all of 800 rows: of a few test rows far out, one may decide a mean of nats or an R².
    worst = {"digit": 0.3, "parity": 0.3, "loop": 0.3}
    for one in others.probes:
        assert one.factor not in worst or one.error["test"] < worst[one.factor]
    assert {one.task for one in others.probes if one.factor == "slant"} == {"number"}
    said = " ".join(others.provenance["warnings"])
    for one in others.probes:
        if one.task == "number":
            told_of = f"tap {one.tap} (default): the probe for {one.factor} predicts" in said
            assert one.scores["r2"]["test"] > 0 or told_of
    told = [one for one in others.findings if one.kind == "information"]
    assert len(told) == 5


def test_ink_is_linear_in_the_input_and_less_so_with_depth(others):
    r2 = {one.tap: one.scores["r2"]["test"] for one in others.probes if one.factor == "ink"}
    assert r2["input"] > 0.99  # the mean of the pixels is linear in them
    assert r2["logits"] < r2["fc1_postact"] - 0.1


def assert_random_labels_are_learned_by_heart(result, rows):
    by_size = {
        factor: {int(one.reduction): one.error for one in result.probes if one.factor == factor}
        for factor in ("digit", "random")
    }
    sizes = sorted(by_size["random"])
    train = [by_size["random"][size]["train"] for size in sizes]
    assert all(later <= earlier for earlier, later in itertools.pairwise(train))
    assert train[0] > 0.7
    assert all(by_size["random"][size]["train"] == 0 for size in sizes if size >= 3 * rows)
    for size in sizes:
        errors = by_size["random"][size]["test"]
        test_rows = next(one.rows["test"] for one in result.probes)
        assert binomtest(round(errors * test_rows), test_rows, 0.9).pvalue > 1e-4, size
    # Of the true digits the same fits are right: an error of 0 on train says nothing, the one on test does.
    assert by_size["digit"][sizes[-1]]["train"] == 0
    assert by_size["digit"][sizes[-1]]["test"] < 0.2
    told = [one for one in result.findings if one.kind == "overfitting" and one.factor == "random"]
    assert told
    assert {one.severity for one in told} == {"warning"}
    assert any(f"for {rows:,} training rows" in one.sentence for one in told)


def test_random_labels_are_learned_by_heart(specs, mnist, tmp_path):
    result = go(
        specs / "random_labels.yaml", tmp_path, mnist, tmp_path,
        "splits.limit={train: 300, valid: 300, test: 1000}", "reductions.10000=null", "reductions.30=null",
        "reports=[json]",
    )  # fmt: skip
    assert_random_labels_are_learned_by_heart(result, 300)


@pytest.fixture(scope="module")
def checkpoints(specs, need):
    folder = specs / "data" / "mnist_convnet"
    need((folder / "trained.safetensors").is_file(), "python specs/models/mnist_convnet.py")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_figure_3(specs, mnist, checkpoints, tmp_path):
    result = go(
        specs / "mnist_convnet.yaml", tmp_path, mnist, checkpoints,
        "splits.limit={train: 10000, valid: 2500, test: 5000}", "reports=[json]",
    )  # fmt: skip
    for probe in ("optimum", "paper"):
        initial, trained = (errors(result, probe=probe, checkpoint=moment) for moment in ("initial", "trained"))
        assert list(initial) == list(trained) == TEN
        # From 8 % of the pixels to about 2 % through random layers.
        assert 0.06 < initial["input"] < 0.12
        assert min(initial.values()) < 0.04
        steps = {later: initial[earlier] - initial[later] for earlier, later in itertools.pairwise(TEN)}
        assert max(steps, key=steps.get) == "conv1_postact"
        # After training no step is worse by more than half a point, and the last tap is about as good as any.
        values = list(trained.values())
        assert all(later < earlier + 0.005 for earlier, later in itertools.pairwise(values))
        assert trained["logits"] < 0.02
        assert trained["logits"] < min(values) + 0.003


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_section_3_6(specs, mnist, checkpoints, tmp_path):
    result = go(specs / "mnist_other_objectives.yaml", tmp_path, mnist, checkpoints, "reports=[json]")
    # Of a few test images some values at the border are far beyond those in training: numbers do not bear that.
    assert {one.answer for one in result.information if one.tap != "conv1_postpool"} == {"yes"}
    score = {(one.factor, one.tap): one.headline()["test"] for one in result.probes}
    for factor in ("digit", "parity", "loop"):
        assert score[factor, "fc1_postact"] < score[factor, "input"] / 3
    for factor in ("ink", "slant"):
        assert score[factor, "logits"] < score[factor, "input"]


@pytest.mark.slow
def test_section_3_4(specs, mnist, tmp_path):
    result = go(specs / "random_labels.yaml", tmp_path, mnist, tmp_path, "reports=[json]")
    assert_random_labels_are_learned_by_heart(result, 1000)
