"""Which models are compared with which."""

import pytest

from probekit import Plugins, SpecError, load_spec
from probekit.parity.sides import choose_sides

TEXT = """
probekit: 1
name: {name}
{models}
data: {{kind: digits}}
labels: {{digit: {{kind: column, column: label}}}}
"""


@pytest.fixture
def spec(tmp_path, specs):
    made = []

    def make(models, name="some"):
        path = tmp_path / f"s{len(made)}.yaml"
        made.append(path)
        model = f"{{kind: onnx, path: {specs / 'models' / 'digits_convnet.onnx'}"
        text = models.replace("M", model)
        path.write_text(TEXT.format(name=name, models=text))
        return load_spec(path, Plugins())

    return make


def pairs(*loaded, models=None):
    return [(a.called, b.called) for a, b in choose_sides(loaded, models)]


TWO_STEPS = "checkpoints: {x: null, y: null}}"


def test_of_one_spec_the_first_model_is_the_reference(spec):
    three = spec("models: {a: M}, b: M}, c: M}}")
    assert pairs(three) == [("a", "b"), ("a", "c")]
    assert pairs(three, models=("c", "b")) == [("c", "b")]


def test_checkpoints_are_compared_with_those_of_their_name(spec):
    both = spec(f"models: {{a: M, {TWO_STEPS}, b: M, {TWO_STEPS}}}")
    assert pairs(both) == [("a@x", "b@x"), ("a@y", "b@y")]
    assert pairs(spec(f"models: {{a: M}}, b: M, {TWO_STEPS}}}")) == [("a", "b@x"), ("a", "b@y")]
    assert pairs(spec(f"model: M, {TWO_STEPS}"), models=("default@x", "default@y")) == [("default@x", "default@y")]


def test_two_specs(spec):
    one, other = spec("model: M}", "torch"), spec("model: M}", "onnx")
    assert pairs(one, other) == [("torch", "onnx")]
    assert pairs(one, other, models=("default", "default")) == [("torch", "onnx")]
    assert pairs(one, spec("models: {b: M}}")) == [("default", "b")]
    assert pairs(spec("models: {a: M}, b: M}}", "x"), spec("models: {b: M}, c: M}}", "y")) == [("x b", "y b")]
    assert [
        name.endswith(f"s{number}.yaml")
        for number, name in zip((0, 5), pairs(one, spec("model: M}", "torch"))[0], strict=True)
    ]


@pytest.mark.parametrize(
    ("models", "named", "what", "hint"),
    [
        (["model: M}"], None, "has one model, 'default'", "name a second spec"),
        ([f"model: M, {TWO_STEPS}"], None, "has one model", "two of its checkpoints with --models A B"),
        (["models: {a: M}, b: M}}"], ("a", "a"), "'a' would be compared with itself", "another model"),
        (["models: {float: M}, int8: M}}"], ("float", "int9"), "has no model 'int9'", "did you mean 'int8'?"),
        (["models: {a: M}, b: M}}", "models: {c: M}, d: M}}"], None, "no model has the same name", "--models A B"),
        (
            [f"models: {{a: M, {TWO_STEPS}, b: M}}}}"],
            None,
            "which checkpoint of 'a' is the reference of 'b'",
            "--models",
        ),
    ],
)
def test_what_is_not_clear_is_refused(spec, models, named, what, hint):
    with pytest.raises(SpecError) as refused:
        choose_sides([spec(one) for one in models], named)
    (problem,) = refused.value.problems
    assert problem.code == "PK-X60"
    assert what in problem.what
    assert hint in problem.hint
