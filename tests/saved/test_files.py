"""What stands in ``probes.safetensors``, and what comes back out of it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from probekit import UserError, load_probe
from probekit.components import LinearMap
from probekit.reductions.pca import PcaReduction
from probekit.saved.files import FILE, folded
from probekit.saved.programs import STEPS, ForeignStepError, program_from_json, program_to_json
from probekit.steps import (
    BatchFirst,
    Flatten,
    Last,
    MatMul,
    Max,
    Mean,
    Positions,
    Select,
    Slice,
    Std,
    Take,
    program_digest,
)

RNG = np.random.default_rng(0)
EVERY = (
    BatchFirst(1), Mean((2, 3), "kept"), Max((1,)), Std((2,)), Select(1, -1), Last(1, "kept"), Positions((1,), None),
    Slice(1, 0, -2), Flatten(), Take(np.array([3, 1])), MatMul(RNG.normal(size=(2, 3)).astype(np.float32)),
)  # fmt: skip


def facts(run):
    with safe_open(run / FILE, "numpy") as file:
        assert list(file.metadata()) == ["probekit"]
        return json.loads(file.metadata()["probekit"], parse_constant=pytest.fail), list(file.keys())


def test_every_step_comes_back_as_it_was():
    arrays = {}

    def keep(array):
        arrays[f"a{len(arrays)}"] = array
        return f"a{len(arrays) - 1}"

    written = json.loads(json.dumps(program_to_json(EVERY, keep)))
    again = program_from_json(written, arrays)
    assert {type(step).__name__ for step in EVERY} == set(STEPS)
    assert program_digest(again) == program_digest(EVERY)


def test_a_plugins_own_step_is_not_written():
    class Mine(Flatten):
        pass

    with pytest.raises(ForeignStepError, match=r"Mine is a plugin's own"):
        program_to_json((Mine(),), lambda _: "")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_a_linear_reduction_is_folded_in(outputs, kept, seed):
    rng = np.random.default_rng(seed)
    probe = LinearMap(rng.normal(size=(outputs, kept)), rng.normal(size=outputs))
    probe.bias[0] = -np.inf
    reduction = LinearMap(rng.normal(size=(kept, 9)), rng.normal(size=kept))
    rows = rng.normal(size=(6, 9))
    expected = (rows @ reduction.weights.T + reduction.bias) @ probe.weights.T + probe.bias
    both = folded(probe, reduction)
    np.testing.assert_allclose(rows @ both.weights.T + both.bias, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kept", [3, 8])
def test_principal_components_are_folded_in(made_run, linear, kept):
    rows = RNG.normal(5, 2, size=(50, 8)).astype(np.float32)
    fitted = PcaReduction(features=kept).fit(rows)
    probe = linear(3, kept)
    made_run.add(probe, width=8, fitted_reduction=fitted, reduction="parts")
    loaded = load_probe(made_run.write(), "hidden", "animal")
    assert loaded.coef_.shape == (3, 8)
    logits = fitted(rows) @ probe.weights.T + probe.bias
    np.testing.assert_allclose(loaded.decision_function(rows), logits, rtol=1e-4, atol=1e-5)


def test_what_is_not_linear_is_left_out_with_its_reason(made_run, linear, refused):
    made_run.add(None, probe="bent")
    made_run.add(linear(3, 4), probe="straight", reduction="kernel", fitted_reduction=lambda rows: rows)
    run = made_run.write()
    told, tensors = facts(run)
    assert tensors == []
    assert [one["left_out"] for one in told["probes"]] == [
        "the probe is not linear",
        "the reduction 'kernel' is learned and not linear",
    ]
    (problem,) = refused(lambda: load_probe(run, "hidden", "animal", probe="bent"))
    assert problem == (
        "PK-X13",
        "the probe for 'animal' at 'hidden' is not saved: the probe is not linear; load the probe of another kind or "
        "reduction",
    )


def test_arrays_of_programs_are_kept_once(made_run, linear):
    for number in range(2):
        take = Take(np.array([0, 5, 7]))
        one = made_run.add(linear(3, 3), program=(Flatten(), take), factor=f"f{number}", reduction="subset")
        made_run.add(linear(3, 3), raw=one, factor=f"g{number}", reduction="subset")
    told, tensors = facts(made_run.write())
    assert [name for name in tensors if name.startswith("step")] == ["step.0"]
    assert len(told["features"]) == 2
    assert len(told["labels"]) == 1
    assert [one["features"] for one in told["probes"]] == [0, 0, 1, 1]


def test_a_class_without_examples_keeps_its_bias(made_run, linear):
    probe = linear(3, 4)
    probe.bias[1] = -np.inf
    made_run.add(probe)
    loaded = load_probe(made_run.write(), "hidden", "animal")
    assert loaded.intercept_[1] == -np.inf
    proba = loaded.predict_proba(RNG.normal(size=(5, 4)))
    assert (proba[:, 1] == 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_the_same_probes_give_the_same_bytes(make_run, linear, tmp_path):
    written = []
    for name in ("a", "b"):
        made = make_run(tmp_path / name)
        for number in range(5):
            made.add(linear(3, 4, number), factor=f"f{number}", program=(Flatten(), Take(np.arange(4))))
        written.append((made.write() / FILE).read_bytes())
    assert written[0] == written[1]


def test_identity_and_certificate_are_told(made_run, linear):
    made_run.add(linear(2, 4), classes=("no", "yes"), checkpoint="100", control="shuffled", seed=3)
    loaded = load_probe(made_run.write(), "hidden", "animal", control="shuffled")
    assert loaded.record.certificate.status == "proven"
    assert loaded.record.penalty == 0.1
    assert repr(loaded) == (
        "LoadedProbe(model='default', checkpoint='100', tap='hidden', reduction='flatten', factor='animal', "
        "probe='default', control='shuffled', seed=3)"
    )


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_folder_without_probes_is_refused(tmp_path, refused):
    (problem,) = refused(lambda: load_probe(tmp_path, "hidden", "animal"))
    assert problem[0] == "PK-X10"
    assert str(tmp_path / FILE) in problem[1]


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 1), flip=st.integers(0, 400))
def test_a_damaged_file_is_refused_or_harmless(tmp_path_factory, make_run, linear, cut, flip):
    made = make_run(tmp_path_factory.mktemp("damaged"))
    made.add(linear(3, 4))
    path = made.write() / FILE
    content = bytearray(path.read_bytes())
    content[flip] ^= 0x20
    path.write_bytes(content[: int(len(content) * cut)] if cut < 0.9 else content)
    codes = []
    try:
        assert load_probe(made.folder, "hidden", "animal").coef_.shape == (3, 4)
    except UserError as error:
        codes = [problem.code for problem in error.problems]
    assert set(codes) <= {"PK-X10", "PK-X11", "PK-X12", "PK-X13"}


def test_weights_of_another_shape_are_refused(made_run, linear, refused):
    made_run.add(linear(3, 4), width=5)
    (problem,) = refused(lambda: load_probe(made_run.write(), "hidden", "animal"))
    assert problem[0] == "PK-X10"
    assert "weights (3, 4) for 3 outputs of 5 features" in problem[1]
