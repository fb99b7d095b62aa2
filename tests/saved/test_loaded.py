"""Saved probes against scikit-learn's own estimators with the same weights; which probe a name means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, r2_score

from probekit import load_probe
from probekit.components import Certificate, LinearMap, Tap
from probekit.errors import ProbekitWarning
from probekit.saved.loaded import LoadedProbe, sigmoid, softmax

RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def load(make_run, tmp_path_factory):
    """Save one probe and load it."""

    def made(linear, **more) -> LoadedProbe:
        run = make_run(tmp_path_factory.mktemp("run"))
        run.add(linear, **more)
        return load_probe(run.write(), "hidden", "animal")

    return made


def like_scikit(linear, classes):
    """Return scikit-learn's classifier with these weights; of two classes it has one row, the difference."""
    model = LogisticRegression()
    model.classes_ = np.array(classes)
    weights, bias = linear.weights, linear.bias
    if len(classes) == 2:
        weights, bias = weights[1:] - weights[:1], bias[1:] - bias[:1]
    model.coef_, model.intercept_, model.n_features_in_ = weights, bias, weights.shape[1]
    return model


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 6), width=st.integers(1, 6), scale=st.sampled_from([1, 1e3]), seed=st.integers(0, 999))
def test_classes_are_predicted_as_scikit_learn_does(load, linear, classes, width, scale, seed):
    names = [f"c{n}" for n in range(classes)]
    given_ = linear(classes, width, seed)
    X = np.random.default_rng(seed).normal(0, scale, size=(20, width))
    loaded, truth = load(given_, classes=names), like_scikit(given_, names)
    assert loaded.classes_.tolist() == names
    assert loaded.n_features_in_ == width
    np.testing.assert_array_equal(loaded.predict(X), truth.predict(X))
    np.testing.assert_allclose(loaded.predict_proba(X), truth.predict_proba(X), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(loaded.decision_function(X), truth.decision_function(X), rtol=1e-7, atol=1e-7)
    y = np.random.default_rng(seed + 1).choice(names, size=20)
    assert loaded.score(X, y) == pytest.approx(accuracy_score(y, truth.predict(X)))
    weights = np.arange(1, 21)
    assert loaded.score(X, y, weights) == pytest.approx(accuracy_score(y, truth.predict(X), sample_weight=weights))


@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        (Certificate("missed", 0.07, 0.031, 0.1), "off by up to 0.031 of chance"),
        (Certificate("missed", None, None, None), "nothing bounds its distance from it"),
    ],
)
def test_a_probe_that_missed_its_optimum_is_loaded_with_a_warning(load, linear, certificate, told):
    with pytest.warns(ProbekitWarning, match=rf"for 'animal' at 'hidden' is not proven .* \({told}\)"):
        loaded = load(linear(3, 4), certificate=certificate)
    assert loaded.record.certificate.status == "missed"


def test_a_probe_that_stopped_early_is_loaded_without_one(load, linear):
    assert load(linear(3, 4), certificate=Certificate("not_applicable", None, None, None)).n_features_in_ == 4


def test_two_classes_have_two_rows(load, linear):
    loaded = load(linear(2, 4), classes=("no", "yes"))
    assert loaded.coef_.shape == (2, 4)
    assert loaded.intercept_.shape == (2,)
    assert loaded.decision_function(np.zeros((3, 4))).shape == (3,)


def test_yes_no_labels_are_independent(load, linear):
    given_ = linear(3, 4)
    loaded, X = load(given_, task="multilabel"), RNG.normal(size=(30, 4))
    each = [
        like_scikit(LinearMap(np.stack([w * 0, w]), np.array([0, b])), [0, 1])
        for w, b in zip(given_.weights, given_.bias, strict=True)
    ]
    expected = np.stack([one.predict(X) for one in each], axis=1)
    assert loaded.predict(X).dtype == np.int64
    np.testing.assert_array_equal(loaded.predict(X), expected)
    np.testing.assert_allclose(
        loaded.predict_proba(X), np.stack([one.predict_proba(X)[:, 1] for one in each], axis=1), rtol=1e-9
    )
    y = np.where(RNG.random((30, 3)) < 0.8, expected, 1 - expected)
    assert loaded.score(X, y) == pytest.approx(accuracy_score(y, expected))
    assert loaded.decision_function(X).shape == (30, 3)


def test_a_number_is_predicted_as_a_regressor_does(load, linear):
    given_ = linear(1, 4)
    loaded, X = load(given_, classes=(), task="number"), RNG.normal(size=(30, 4))
    truth = LinearRegression()
    truth.coef_, truth.intercept_ = loaded.coef_, loaded.intercept_
    assert loaded.coef_.shape == (4,)
    assert isinstance(loaded.intercept_, float)
    np.testing.assert_allclose(loaded.predict(X), truth.predict(X), rtol=1e-12)
    y = RNG.normal(size=30)
    assert loaded.score(X, y) == pytest.approx(r2_score(y, truth.predict(X)))
    for name in ("predict_proba", "decision_function", "classes_"):
        assert not hasattr(loaded, name)
    with pytest.raises(AttributeError, match=r"of a number has no attribute 'predict_proba'"):
        loaded.predict_proba  # noqa: B018


def test_extreme_scores_neither_overflow_nor_become_nan():
    scores = np.array([[1e307, -1e307, -np.inf], [800.0, 799.0, -800.0]])
    np.testing.assert_allclose(softmax(scores).sum(axis=1), 1)
    assert softmax(scores)[0].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(sigmoid(np.array([-np.inf, -1e4, 0, 1e4, np.inf])), [0, 0, 0.5, 1, 1])
    assert sigmoid(np.array(-500.0)) == pytest.approx(np.exp(-500.0))


def test_class_names_that_are_numbers_may_be_given_as_numbers(load, linear):
    loaded, X = load(linear(3, 4), classes=("0", "1", "2")), RNG.normal(size=(8, 4))
    assert loaded.score(X, loaded.predict(X).astype(int)) == 1


@pytest.mark.parametrize(
    ("X", "text"),
    [
        (np.zeros(4), r"X has shape \(4,\), expected \(rows, features\)"),
        (np.zeros((2, 3)), r"X has 3 features, but LoadedProbe is expecting 4 features as input"),
        (np.array([[0.0] * 4, [np.nan] * 4]), r"NaN or infinity, first in row 1"),
    ],
)
def test_features_that_do_not_fit_are_refused(load, linear, X, text):
    with pytest.raises(ValueError, match=text):
        load(linear(3, 4)).predict(X)


def test_a_truth_that_does_not_fit_is_refused(load, linear):
    loaded, X = load(linear(3, 4)), np.zeros((2, 4))
    with pytest.raises(ValueError, match=r"no value that is a class: '3.0'; the classes are 'cat', 'dog', 'eel'"):
        loaded.score(X, [3.0, 3.0])
    with pytest.raises(ValueError, match=r"y has shape \(3,\), the predictions have \(2,\)"):
        loaded.score(X, ["cat"] * 3)


# --- which probe -----------------------------------------------------------------------------------------------------


@pytest.fixture
def many(made_run, linear):
    """Two models, two reductions at one tap, a control."""
    for model in ("resnet", "vgg"):
        for reduction in ("pool", "subset"):
            made_run.add(linear(3, 4, len(reduction)), model=model, reduction=reduction)
    made_run.add(linear(3, 4, 7), model="resnet", reduction="pool", control="shuffled", seed=1)
    made_run.add(linear(3, 4, 8), model="resnet", reduction="pool", control="shuffled", seed=2)
    tap = Tap("graph/relu_7", "Relu", (4,), "float32")
    made_run.add(linear(3, 4, 9), model="resnet", tensor=tap, reduction="pool", factor="size")
    return made_run.write()


def test_what_is_named_is_found(many, linear):
    found = load_probe(many, "hidden", "animal", model="vgg", reduction="subset")
    assert (found.record.model, found.record.reduction, found.record.control) == ("vgg", "subset", None)
    np.testing.assert_array_equal(found.coef_, linear(3, 4, 6).weights)


def test_several_matches_name_what_decides(many, refused):
    (problem,) = refused(lambda: load_probe(many, "hidden", "animal"))
    assert problem == (
        "PK-X12",
        "4 probes for 'animal' at 'hidden' differ in model: resnet, vgg; reduction: pool, subset; name model= "
        "(--model) and reduction= (--reduction)",
    )
    (problem,) = refused(lambda: load_probe(many, "hidden", "animal", model="resnet", control="shuffled"))
    assert problem[1].endswith("differ in seed: 1, 2; name seed= (--seed)")


def test_a_control_is_loaded_only_by_its_name(many):
    found = load_probe(many, "hidden", "animal", model="resnet", control="shuffled", seed=2)
    assert found.record.seed == 2


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"tap": "hiden"}, "no saved probe has the tap 'hiden'; did you mean 'hidden'?"),
        ({"factor": "zzz"}, "no saved probe has the factor 'zzz'; factors: animal, size"),
        ({"reduction": "pol"}, "no saved probe has the reduction 'pol'; did you mean 'pool'?"),
        ({"model": "zzz"}, "no saved probe has the model 'zzz'; models: resnet, vgg"),
        ({"probe": "x"}, "no saved probe has the probe 'x'; probes: default"),
        ({"checkpoint": "1"}, "no saved probe has the checkpoint '1'; checkpoints: (none)"),
        ({"control": "majority"}, "no saved probe has the control 'majority'; controls: (none), shuffled"),
    ],
)
def test_an_unknown_name_is_refused_with_the_choices(many, refused, names, text):
    (problem,) = refused(lambda: load_probe(**{"run": many, "tap": "hidden", "factor": "animal", **names}))
    assert problem == ("PK-X11", text)


def test_a_tap_is_found_by_its_tensors_name_too(made_run, linear):
    made_run.add(linear(3, 4), tensor=Tap("graph/relu_7", "Relu", (4,), "float32"))
    run = made_run.write()
    made = load_probe(run, "graph/relu_7", "animal")
    assert made.recipe.tensor == "graph/relu_7"


def test_a_run_with_controls_only_says_so(made_run, linear, refused):
    made_run.add(linear(3, 4), control="shuffled")
    (problem,) = refused(lambda: load_probe(made_run.write(), "hidden", "animal"))
    assert problem == ("PK-X11", "there is no probe of the true labels here; name control=: shuffled")
