"""Which specs may ask for a model with random weights."""

from pathlib import Path

import pytest

from probekit.plugins import Plugins
from probekit.spec.load import SOFT, check_spec

ONNX, TORCH, PROGRAM = (
    "{kind: onnx, path: a.onnx}",
    "{kind: torch, factory: ./n.py:make}",
    "{kind: torch, program: p.pt2}",
)
BOTH = f"models: {{int8: {ONNX}, fp32: {TORCH}}}"


@pytest.mark.parametrize(
    ("model", "control", "told"),
    [
        (f"model: {TORCH}", "random_weights", []),
        (f"model: {TORCH}", "{kind: random_weights, seeds: 3, seed: 7, factors: [d], models: [default]}", []),
        (BOTH, "{kind: random_weights, models: [fp32]}", []),
        (
            f"models: {{a: {TORCH}, b: {TORCH}}}",
            "{kind: random_weights, models: [a]}, {kind: random_weights, models: [b]}", [],
        ),
        (
            f"model: {ONNX}", "random_weights",
            ["PK-M57 spec.yaml:5:12: controls[0]: a model of kind 'onnx' cannot be made anew with random weights"],
        ),
        (
            f"model: {PROGRAM}", "random_weights",
            ["PK-M57 spec.yaml:5:12: controls[0]: a program of torch.export holds its own weights"],
        ),
        (BOTH, "random_weights", ["PK-M57 spec.yaml:5:12: controls[0]: model 'int8': a model of kind 'onnx'"]),
        (
            BOTH, "{kind: random_weights, models: [fp23]}",
            ["PK-Y26 spec.yaml:5:44: controls[0].models[0]: no model 'fp23'; did you mean 'fp32'?"],
        ),
        (
            f"model: {TORCH}", "random_weights, {kind: random_weights, seeds: 2}",
            ["PK-Y27 spec.yaml:5:28: controls[1]: 'random_weights' with seed 0 for 'd' stands twice"],
        ),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_made_anew_is_refused_before_anything_runs(
    model: str, control: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = "data: {kind: digits}\nlabels: {d: {kind: column}}"
    Path("spec.yaml").write_text(f"probekit: 1\n{model}\n{labels}\ncontrols: [{control}]\n", encoding="utf-8")
    problems = [one for one in check_spec("spec.yaml", Plugins()).problems if one.code not in SOFT]
    found = [f"{one.code} {one}" for one in problems]
    assert len(found) == len(told)
    for text, start in zip(found, told, strict=True):
        assert text.startswith(start)
