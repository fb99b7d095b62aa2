"""``probekit export``: what it prints, what it writes, what it refuses."""

import numpy as np
import onnxruntime
import pytest

from probekit import Plugins, load_probe, load_spec, run_spec
from probekit.backends.onnx import OnnxBackend

SPEC = """\
probekit: 1
model: {{kind: onnx, path: "{model}"}}
data: {{kind: digits}}
taps: [relu_1, linear]
reductions: {{pool: {{kind: pool}}, max: {{kind: pool, how: max}}}}
labels: {{digit: {{kind: column, column: label}}}}
splits:
  {{column: half, train: even, valid: {{of: odd, share: 0.3}}, test: odd, limit: {{train: 60, valid: 30, test: 30}}}}
probe: {{kind: linear, penalty: 0.1}}
reports: [json]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, specs):
    """A run directory with the probes of two taps."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "s.yaml").write_text(SPEC.format(model=specs / "models" / "digits_convnet.onnx"))
    run_spec(load_spec(folder / "s.yaml", Plugins()), Plugins(), folder / "run")
    return folder / "run"


def test_the_model_gets_one_more_output(main, run, tmp_path):
    out = tmp_path / "with_probe.onnx"
    code, told, err = main("export", str(run), "--tap", "linear", "--factor", "digit", "-o", str(out))
    assert (code, err) == (0, "")
    first, second = told.splitlines()
    assert first == f"{out}: output 'probekit/digit' (10 probabilities of 'digit')"
    assert second.startswith("largest difference from the saved probe on 4 made rows: ")
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["logits", "probekit/digit"]


def test_an_early_exit_of_a_named_reduction(main, run, tmp_path):
    out = tmp_path / "exit.onnx"
    arguments = ("--tap", "relu_1", "--factor", "digit", "--reduction", "max", "-o", str(out), "--early-exit")
    assert main("export", str(run), *arguments)[0] == 0
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["probekit/digit"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--tap", "relu_1", "--factor", "digit"), 2, "PK-X12 2 probes for 'digit' at 'relu_1' differ in reduction"),
        (
            ("--tap", "liner", "--factor", "digit"),
            2,
            "PK-X11 no saved probe has the tap 'liner'; did you mean 'linear'",
        ),
        (("--tap", "linear", "--factor", "digit", "--model-path", "no.onnx"), 3, "PK-M01"),
    ],
)
def test_what_is_refused_has_its_code_and_leaves_nothing(main, run, tmp_path, arguments, code, text):
    out = tmp_path / "out" / "m.onnx"
    out.parent.mkdir()
    got, _, err = main("export", str(run), *arguments, "-o", str(out))
    assert got == code
    assert err.startswith(f"error {text}") or text in err
    assert list(out.parent.iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(main, tmp_path):
    code, _, err = main("export", str(tmp_path), "--tap", "x", "--factor", "y", "-o", str(tmp_path / "m.onnx"))
    assert code == 3
    assert err.startswith("error PK-X10 no saved probes")


def test_what_is_exported_is_what_is_loaded(main, run, tmp_path):
    out = tmp_path / "m.onnx"
    main("export", str(run), "--tap", "linear", "--factor", "digit", "-o", str(out))
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)
    probabilities = session.run(["probekit/digit"], {"image": images})[0]
    probe = load_probe(run, "linear", "digit")
    with OnnxBackend(path=probe.recipe.model.backend["path"]).open(["linear"]) as plain:
        features = plain({"image": images})["linear"]
    np.testing.assert_allclose(probabilities, probe.predict_proba(features), atol=1e-5)
