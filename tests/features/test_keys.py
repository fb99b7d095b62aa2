"""What identifies features: everything that changes their values, nothing else."""

from typing import Any

import pytest

from probekit.components import Examples, InputBinding, Tap, Wanted
from probekit.features.keys import FeatureKey, feature_keys
from probekit.features.runner import Runner
from probekit.steps import Flatten, Max, Mean

POOL = (Mean((2, 3)), Flatten())


@pytest.fixture
def parts(numpy_model, wanted, rows_of) -> Any:
    """Return the parts of a key of one tap, some of them changed."""
    backend, _ = numpy_model({"t": lambda x: x, "u": lambda x: x})

    def of(tap: str = "t", program: Any = POOL, dtype: str = "float32", changes: Any = None) -> dict[str, Any]:
        runner = Runner(backend.model_copy(update=changes or {}), Examples({}, {"x": rows_of(3)}))
        (key,) = feature_keys(runner, [wanted(tap, (3, 4, 4), program, 3)], dtype)
        return key.parts

    return of


@pytest.mark.parametrize(
    ("how", "part"),
    [
        ({"tap": "u"}, "model"),
        ({"changes": {"number": 0}}, "model"),
        ({"program": (Max((2, 3)), Flatten())}, "reduction"),
        ({"program": (Mean((1, 2)), Flatten())}, "reduction"),
        ({"dtype": "float16"}, "dtype"),
        ({"changes": {"inputs": {"x": InputBinding(column="x", dtype="float64")}}}, "options"),
    ],
    ids=["tap", "weights", "reduction", "axes", "dtype", "inputs"],
)
def test_what_changes_values_changes_its_part_of_the_key(parts, how: dict[str, Any], part: str) -> None:
    assert FeatureKey(parts(**how)).changed(parts()) == [part]


@pytest.mark.parametrize("changes", [{"batch_size": 7}, {"output": None}, {"checkpoints": None}], ids=str)
def test_what_only_changes_how_values_are_computed_leaves_the_key(parts, changes: dict[str, Any]) -> None:
    assert FeatureKey(parts(changes=changes)).digest == FeatureKey(parts()).digest


def test_equal_parts_have_one_digest_and_changed_ones_another() -> None:
    key = FeatureKey({"a": 1, "b": {"c": 2, "d": 3}})
    assert key.digest == FeatureKey({"b": {"d": 3, "c": 2}, "a": 1}).digest
    assert len(key.digest) == 32
    assert key.digest != FeatureKey({"a": 1, "b": {"c": 2, "d": 4}}).digest


def test_parts_that_came_or_went_have_changed() -> None:
    assert FeatureKey({"a": 1, "b": 2}).changed({"a": 1, "c": 3}) == ["b", "c"]


def keys_of_input(backend: Any, column: str, dtype: str = "float32") -> FeatureKey:
    examples = Examples({}, {column: [[0.0, 1.0, 2.0]]})
    wanted = Wanted(Tap("x", "Input", (3,), dtype), (Flatten(),), 3)
    (key,) = feature_keys(Runner(backend, examples), [wanted], "float32")
    return key


def test_an_input_has_one_key_whatever_model_it_is_fed_to(numpy_model) -> None:
    first, second = (numpy_model({})[0] for _ in range(2))
    assert first.fingerprint() != second.fingerprint()
    assert keys_of_input(first, "image").digest == keys_of_input(second, "image").digest


def test_an_input_of_another_column_or_dtype_has_another_key(numpy_model) -> None:
    backend, _ = numpy_model({})
    digests = {keys_of_input(backend, *how).digest for how in (("a",), ("b",), ("a", "float64"))}
    assert len(digests) == 3


def test_the_model_is_not_asked_for_its_fingerprint_when_only_inputs_are_wanted(numpy_model, monkeypatch) -> None:
    backend, _ = numpy_model({})
    monkeypatch.setattr(type(backend), "fingerprint", lambda *_: pytest.fail("the model was asked"))
    keys_of_input(backend, "image")
