"""From a dataset's rows to the inputs that a model declares."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.components import Examples, InputBinding, ModelInput
from probekit.data.feed import input_sources, make_feed
from probekit.errors import InputError

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]
IMAGE = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
ROWS = np.array([2, 0])


def examples(**inputs: Any) -> Examples:
    columns = {"length": np.array([5, 6, 7, 8]), "text": np.array(["1", "2", "x", "4"], dtype=object)}
    return Examples(columns, inputs or {"image": IMAGE})


def fed(
    *signature: ModelInput, given: Examples | None = None, **bindings: dict[str, Any]
) -> dict[str, npt.NDArray[Any]]:
    """Return what the model is fed for two rows."""
    data = given or examples()
    feed = make_feed(signature, {name: InputBinding(**binding) for name, binding in bindings.items()}, data)
    return feed(ROWS, data.read(ROWS))


def declared(name: str = "x", shape: tuple[int | None, ...] | None = None, dtype: str | None = None) -> ModelInput:
    return ModelInput(name, shape, dtype)


# --- which data go where


def test_an_input_takes_the_datasets_input_of_its_name() -> None:
    data = examples(other=IMAGE + 100, image=IMAGE)
    assert fed(declared("image"), given=data)["image"].tolist() == [IMAGE[2].tolist(), IMAGE[0].tolist()]


def test_an_input_takes_the_column_of_its_name() -> None:
    got = fed(declared("image"), declared("length"))
    assert got["length"].tolist() == [7, 5]


def test_the_only_input_takes_the_only_input_of_the_dataset() -> None:
    assert fed(declared("pixel_values"))["pixel_values"].tolist() == [IMAGE[2].tolist(), IMAGE[0].tolist()]


def test_a_binding_names_an_input_or_a_column() -> None:
    got = fed(declared("a"), declared("b"), a={"column": "image"}, b={"column": "length"})
    assert got["a"].tolist() == [IMAGE[2].tolist(), IMAGE[0].tolist()]
    assert got["b"].tolist() == [7, 5]


def test_zeros_have_the_batchs_size() -> None:
    got = fed(declared("image"), declared("state", (2, None, 3), "float32"), state={"zeros": [2, "N", 3]})
    assert got["state"].tolist() == np.zeros((2, 2, 3)).tolist()
    assert got["state"].dtype == np.float32


@pytest.mark.parametrize(
    ("value", "shape", "dtype"),
    [(16000, (), "int64"), (True, (), "bool"), (0.1, (), "float32"), ([1, 2, 3], (3,), "int32"), (1, None, None)],
)
def test_a_value_is_fed_as_it_is_to_every_batch(value: Any, shape: tuple[int, ...] | None, dtype: str | None) -> None:
    got = fed(declared("image"), declared("rate", shape, dtype), rate={"value": value})["rate"]
    assert got.shape == (shape or ())
    np.testing.assert_allclose(got, value, rtol=1e-6)
    assert dtype is None or got.dtype == dtype


def test_each_input_is_told_what_it_is_fed() -> None:
    bindings = {name: InputBinding(**one) for name, one in {"a": {"column": "length"}, "z": {"value": 3}}.items()}
    signature = [declared("a"), declared("image"), declared("text"), declared("z")]
    assert input_sources(signature, bindings, examples()) == {"a": "length", "image": "image", "text": "text"}


def test_the_only_input_is_told_to_take_the_only_input_of_the_dataset() -> None:
    assert input_sources([declared("pixel_values")], {}, examples()) == {"pixel_values": "image"}


def test_an_input_of_a_columns_name_takes_the_column_though_it_is_the_only_one() -> None:
    assert input_sources([declared("length")], {}, examples()) == {"length": "length"}


def test_what_is_fed_is_known_without_reading_anything() -> None:
    class Unread(Examples):
        def read(self, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
            raise AssertionError

    data = Unread({"id": np.arange(4)}, input_names=["image"])
    assert input_sources([declared("x")], {}, data) == {"x": "image"}


def test_any_reading_of_the_rows_serves_more_than_one_model() -> None:
    data = examples(image=IMAGE, other=IMAGE + 100)
    read = data.read(ROWS)
    for name in ("image", "other"):
        got = make_feed([declared(name)], {}, data)(ROWS, read)
        assert list(got) == [name]
        assert got[name].tolist() == data.read(ROWS)[name].tolist()


# --- dtypes


@settings(deadline=None, max_examples=80)
@given(
    stored=st.sampled_from(["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]),
    wanted=st.sampled_from(["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]),
)
def test_data_are_converted_only_where_every_value_of_their_dtype_fits(stored: str, wanted: str) -> None:
    limits = np.iinfo(stored) if np.dtype(stored).kind in "iu" else None
    if stored == "bool":
        extremes = [False, True]
    elif limits is not None:
        extremes = [limits.min, limits.max, limits.max - 1]
    else:
        extremes = [np.finfo(stored).max, np.finfo(stored).smallest_subnormal, 1 + np.finfo(stored).eps]
    data = np.array(extremes, dtype=stored)
    with np.errstate(all="ignore"):
        fits = data.astype(wanted).astype(object).tolist() == data.astype(object).tolist()
    column = np.resize(data, 4)
    feed = make_feed([declared("x", (None,), wanted)], {}, Examples({"x": column}))
    if fits:
        assert feed(np.arange(4), {})["x"].tolist() == column.tolist()
    else:
        with pytest.raises(InputError, match=f"the model wants {wanted}, the data is {stored}; values would change"):
            feed(np.arange(4), {})


def test_integers_that_a_float_cannot_hold_are_refused(refused: Refused) -> None:
    given = examples(image=np.array([2**53, 0, 2**53 + 1, 0]))
    message = (
        "model.inputs.x: the model wants float64, the data is int64; values would change; "
        "convert the data, or set dtype: to say so"
    )
    assert refused(lambda: fed(declared(dtype="float64"), given=given)) == [("PK-M23", message)]


def test_a_dtype_that_would_change_values_is_refused(refused: Refused) -> None:
    given = examples(image=IMAGE.astype(np.float64))
    message = (
        "model.inputs.x: the model wants float32, the data is float64; values would change; "
        "convert the data, or set dtype: to say so"
    )
    assert refused(lambda: fed(declared(dtype="float32"), given=given)) == [("PK-M23", message)]


def test_a_dtype_in_the_spec_converts_the_data() -> None:
    given = examples(image=IMAGE.astype(np.float64) + 0.5)
    binding = {"column": "image", "dtype": "float32"}
    got = fed(declared(dtype="float32"), given=given, x=binding)["x"]
    assert got.dtype == np.float32
    assert got.tolist() == [(IMAGE[2] + 0.5).tolist(), (IMAGE[0] + 0.5).tolist()]


def test_text_is_no_number(refused: Refused) -> None:
    message = "model.inputs.x: the data is not float32 everywhere: could not convert string to float: 'x'"
    binding = {"column": "text", "dtype": "float32"}
    assert refused(lambda: fed(declared(dtype="float32"), x=binding)) == [("PK-M23", message)]


@pytest.mark.parametrize(("name", "hint"), [("flaot32", "did you mean 'float32'?"), ("int46", "did you mean 'int64'?")])
def test_an_unknown_dtype_is_refused(refused: Refused, name: str, hint: str) -> None:
    message = f"model.inputs.x.dtype: {name!r} is no dtype of NumPy; {hint}"
    assert refused(lambda: fed(declared(), x={"column": "image", "dtype": name})) == [("PK-M23", message)]


@pytest.mark.parametrize(("value", "dtype"), [(0.5, "int64"), (300, "uint8"), ([1, -1], "uint8"), (1e300, "float32")])
def test_a_value_that_the_dtype_cannot_hold_is_refused(refused: Refused, value: Any, dtype: str) -> None:
    message = f"model.inputs.x.value: the model wants {dtype}, the value is {value}"
    assert refused(lambda: fed(declared(dtype=dtype), x={"value": value})) == [("PK-M23", message)]


# --- shapes


@pytest.mark.parametrize("shape", [None, (None, 2, 3), (None, None, None), (8, 2, None)])
def test_free_axes_and_the_batch_axis_take_any_size(shape: tuple[int | None, ...] | None) -> None:
    assert fed(declared(shape=shape))["x"].shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("shape", "want"),
    [((None, 3, 2), "any, 3, 2"), ((None, 2), "any, 2"), ((1, 1, 2, 3), "1, 1, 2, 3"), ((), "")],
)
def test_another_shape_is_refused(refused: Refused, shape: tuple[int | None, ...], want: str) -> None:
    message = f"model.inputs.x: the model wants shape ({want}), the data is (2, 2, 3)"
    assert refused(lambda: fed(declared(shape=shape))) == [("PK-M23", message)]


def test_what_is_fed_is_contiguous() -> None:
    got = fed(declared(), given=examples(image=np.asfortranarray(IMAGE)))["x"]
    assert got.flags.c_contiguous
    assert got.tolist() == [IMAGE[2].tolist(), IMAGE[0].tolist()]


# --- what is unbound


def test_inputs_that_are_fed_nothing_are_named(refused: Refused) -> None:
    message = (
        "model.inputs: the model's inputs 'ids', 'mask' are fed nothing; "
        "the dataset has 'image', 'length', 'text', 'id'; type: inputs: {ids: {column: ...}}"
    )
    signature = (declared("ids"), declared("mask"), declared("image"))
    assert refused(lambda: fed(*signature)) == [("PK-M22", message)]


def test_a_binding_of_no_input_is_refused(refused: Refused) -> None:
    message = "model.inputs: the model has no input 'imagee'; did you mean 'image'?"
    assert refused(lambda: fed(declared("image"), imagee={"column": "image"})) == [("PK-M22", message)]


def test_a_binding_to_no_column_is_refused(refused: Refused) -> None:
    message = "model.inputs: no column 'lenght'; did you mean 'length'?"
    assert refused(lambda: fed(declared("image"), image={"column": "lenght"})) == [("PK-L16", message)]
