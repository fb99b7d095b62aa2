"""Arrays from .npy and .npz files, the bundled digits, and the scaling of values."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from probekit.components import Examples
from probekit.data.arrays import ArraysDataset, ArraysPreprocess, DigitsDataset
from probekit.data.pixels import Pixels
from probekit.sections import SpecContext

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]
ROWS = np.array([3, 0, 3])


def opened(arrays: Any, **options: Any) -> Examples:
    return ArraysDataset(arrays=arrays, **options).open()


@pytest.fixture
def images() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)


# --- reading


def test_an_npy_file_is_the_input(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", images)
    examples = opened(str(tmp_path / "x.npy"))
    assert (len(examples), examples.input_names, list(examples.columns)) == (5, ("input",), ["id"])
    assert examples.columns["id"].tolist() == ["0", "1", "2", "3", "4"]
    read = examples.read(ROWS)["input"]
    assert read.dtype == np.uint8
    assert read.tolist() == [images[3].tolist(), images[0].tolist(), images[3].tolist()]


def test_the_rows_of_an_npy_file_are_read_when_they_are_asked_for(
    tmp_path: Path, images: npt.NDArray[np.uint8]
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, images)
    examples = opened(str(path))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 0xFF
    with path.open("r+b") as stream:
        stream.write(raw)
    assert examples.read(np.array([4]))["input"][0, -1, -1, -1] == images[4, -1, -1, -1] ^ 0xFF


def test_one_dimensional_arrays_of_an_npz_file_are_columns_too(tmp_path: Path, images: npt.NDArray[np.uint8]) -> None:
    np.savez(tmp_path / "x.npz", image=images, label=np.array([4, 3, 2, 1, 0]), id=np.array(list("abcde")))
    examples = opened(str(tmp_path / "x.npz"))
    assert examples.input_names == ("image",)
    assert examples.columns["label"].tolist() == [4, 3, 2, 1, 0]
    assert examples.columns["id"].tolist() == ["a", "b", "c", "d", "e"]
    assert examples.read(ROWS)["image"].tolist() == [images[3].tolist(), images[0].tolist(), images[3].tolist()]


def test_npy_files_have_the_names_that_the_spec_gives(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(8).reshape(4, 2))
    np.save(tmp_path / "b.npy", np.arange(4.0))
    examples = opened({"tokens": str(tmp_path / "a.npy"), "length": str(tmp_path / "b.npy")})
    assert examples.input_names == ("tokens",)
    assert examples.read(ROWS)["tokens"].tolist() == [[6, 7], [0, 1], [6, 7]]
    assert examples.columns["length"].tolist() == [0, 1, 2, 3]


def test_columns_and_ids_come_from_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    (tmp_path / "x.csv").write_text("name,label\nfirst,cat\nsecond,dog\n")
    examples = opened(str(tmp_path / "x.npy"), columns=str(tmp_path / "x.csv"), id="name")
    assert examples.columns["id"].tolist() == ["first", "second"]
    assert examples.columns["label"].tolist() == ["cat", "dog"]


def test_relative_paths_start_from_the_specs_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    context = SpecContext(plugins=None, folder=tmp_path, environ={"NAME": "x"})  # type: ignore[arg-type]
    for written in ("x.npy", "./x.npy", "${NAME}.npy", "${OTHER:-x}.npy"):
        dataset = ArraysDataset.model_validate({"kind": "arrays", "arrays": written}, context=context)
        assert dataset.arrays == str(tmp_path / "x.npy")
        assert len(dataset.open()) == 2


# --- scaling


@settings(deadline=None, max_examples=50)
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    scale=st.floats(0.5, 255),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
)
def test_scaling_is_the_loop_over_channels(shape: list[int], scale: float, data: st.DataObject, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    lengths = st.sampled_from(sorted({0, 1, shape[1]}))
    numbers = [data.draw(st.lists(st.floats(0.1, 2), min_size=n, max_size=n)) for n in (data.draw(lengths),) * 2]
    mean, std = numbers
    expected = np.zeros(shape)
    for place in np.ndindex(*shape):
        channel = place[1]
        less = mean[channel if len(mean) > 1 else 0] if mean else 0
        by = std[channel if len(std) > 1 else 0] if std else 1
        expected[place] = (int(array[place]) / scale - less) / by
    result = Pixels(scale, mean, std).scaled(array)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_values_without_preprocessing_keep_their_dtype(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6).reshape(3, 2))
    assert opened(str(tmp_path / "x.npy")).read(np.array([1]))["input"].dtype == np.int64


def test_preprocessing_scales_the_inputs_but_not_the_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.full((2, 1, 2), 6.0), label=np.array([6, 8]))
    options = ArraysPreprocess(scale=2.0, mean=[1.0], std=[4.0])
    examples = opened(str(tmp_path / "x.npz"), preprocess=options)
    read = examples.read(np.array([0, 1]))
    assert read["image"].tolist() == [[[0.5, 0.5]], [[0.5, 0.5]]]
    assert read["label"].tolist() == [6, 8]
    assert examples.columns["label"].tolist() == [6, 8]


def test_another_number_of_channels_is_refused(tmp_path: Path, refused: Refused) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 5)))
    np.save(tmp_path / "flat.npy", np.zeros(2))
    options = ArraysPreprocess(mean=[1.0, 2.0, 3.0])
    hint = "give one number, or one a channel"
    message = f"preprocess.mean has 3 numbers for 4 channels; {hint}"
    examples = opened(str(tmp_path / "x.npy"), preprocess=options)
    assert refused(lambda: examples.read(np.array([0]))) == [("PK-L22", message)]
    message = f"preprocess.mean has 3 numbers for 1 channels; {hint}"
    examples = opened(str(tmp_path / "flat.npy"), preprocess=options)
    assert refused(lambda: examples.read(np.array([0]))) == [("PK-L22", message)]


@pytest.mark.parametrize("options", [{"std": [0.0]}, {"std": [-1.0]}, {"scale": 0.0}])
def test_values_are_not_divided_by_zero_or_less(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Input should be greater than 0"):
        ArraysPreprocess(**options)


# --- L04: lengths


def test_arrays_of_different_lengths_are_refused(tmp_path: Path, refused: Refused) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((50, 2)), label=np.zeros(49))
    message = "array 'image' has 50 examples, array 'label' has 49; nothing is aligned"
    assert refused(lambda: opened(str(tmp_path / "x.npz"))) == [("PK-L04", message)]


def test_a_table_of_another_length_is_refused(tmp_path: Path, refused: Refused) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    (tmp_path / "x.csv").write_text("label\na\nb\n")
    message = "array 'input' has 3 examples, column 'label' has 2; nothing is aligned"
    action = lambda: opened(str(tmp_path / "x.npy"), columns=str(tmp_path / "x.csv"))  # noqa: E731
    assert refused(action) == [("PK-L04", message)]


def test_an_array_without_axes_is_refused(tmp_path: Path, refused: Refused) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((3, 2)), version=np.array(7))
    message = "array 'version' has no axis of examples"
    assert refused(lambda: opened(str(tmp_path / "x.npz"))) == [("PK-L04", message)]


# --- L16: columns


def test_an_id_column_that_is_absent_is_refused(tmp_path: Path, refused: Refused) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((3, 2)), names=np.array(["a", "b", "c"]))
    message = "no column 'name'; did you mean 'names'?"
    assert refused(lambda: opened(str(tmp_path / "x.npz"), id="name")) == [("PK-L16", message)]


# --- L17: pickles, damage


PICKLED = "holds pickled objects or is no NumPy file; pickles are not read, they can run code"
PLAIN = "save plain arrays: numpy.save(path, array, allow_pickle=False)"


class Trap:
    """An object whose unpickling leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_pickled_objects_are_refused_and_not_run(tmp_path: Path, refused: Refused, name: str) -> None:
    path, mark = tmp_path / name, tmp_path / "ran"
    objects = np.array([Trap(mark), 1], dtype=object)
    if name == "x.npy":
        np.save(path, objects, allow_pickle=True)
    else:
        np.savez(path, image=np.zeros((2, 2)), label=objects)
    assert refused(lambda: opened(str(path))) == [("PK-L17", f"{str(path)!r} {PICKLED}; {PLAIN}")]
    assert not mark.exists()


def test_a_file_of_another_format_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "x.npy"
    path.write_text("a,b\n1,2\n")
    assert refused(lambda: opened(str(path))) == [("PK-L17", f"{str(path)!r} {PICKLED}; {PLAIN}")]


@pytest.mark.parametrize("cut", [0, 5, 40, 130, -1])
def test_an_npy_file_that_is_cut_short_is_refused(tmp_path: Path, refused: Refused, cut: int) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(20.0))
    path.write_bytes(path.read_bytes()[:cut])
    ((code, message),) = refused(lambda: opened(str(path)))
    assert code == "PK-L17"
    assert message.startswith((f"{str(path)!r} is damaged: ", f"{str(path)!r} {PICKLED}"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_npz_file_is_refused(
    tmp_path: Path, refused: Refused, save: Callable[..., None], damage: str
) -> None:
    path = tmp_path / "x.npz"
    save(path, image=np.random.default_rng(0).normal(size=(20, 4)))
    raw = bytearray(path.read_bytes())
    if damage == "cut":
        del raw[-30:]
    else:
        raw[300:340] = b"\xff" * 40
    path.write_bytes(raw)
    ((code, message),) = refused(lambda: opened(str(path)))
    assert code == "PK-L17"
    assert message.startswith(f"{str(path)!r} is damaged: ")


def test_an_npz_file_with_other_files_in_it_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, image=np.zeros((2, 2)))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "hello")
    message = f"{str(path)!r} holds files that are no arrays: 'notes.txt'"
    assert refused(lambda: opened(str(path))) == [("PK-L17", message)]


def test_an_npz_file_for_one_input_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, image=np.zeros((2, 2)))
    message = f"{str(path)!r} holds several arrays; name the .npz itself: arrays: FILE.npz"
    assert refused(lambda: opened({"image": str(path)})) == [("PK-L17", message)]


def test_an_absent_file_is_refused_with_the_nearest_name(tmp_path: Path, refused: Refused) -> None:
    np.save(tmp_path / "train.npy", np.zeros((2, 2)))
    path = tmp_path / "trian.npy"
    message = f"no file {str(path)!r}; did you mean 'train.npy'?"
    assert refused(lambda: opened(str(path))) == [("PK-M01", message)]
    path = tmp_path / "absent" / "x.npy"
    message = f"no file {str(path)!r}; there: none"
    assert refused(lambda: opened(str(path))) == [("PK-M01", message)]


# --- digits


def test_digits_are_scikit_learns() -> None:
    examples = DigitsDataset().open()
    digits = sklearn.datasets.load_digits()
    assert len(examples) == 1797
    image = examples.read(np.arange(1797))["image"]
    assert (image.shape, image.dtype) == ((1797, 1, 8, 8), np.float32)
    assert (image.reshape(1797, 64) * 16).tolist() == digits.data.tolist()
    assert examples.columns["label"].tolist() == digits.target.tolist()
    assert examples.columns["half"].tolist() == ["odd" if n % 2 else "even" for n in range(1797)]
    np.testing.assert_allclose(examples.columns["ink"], digits.data.mean(axis=1) / 16)
    assert examples.columns["odd"].tolist() == [digit % 2 == 1 for digit in digits.target]
    assert examples.columns["loop"].tolist() == [digit in (0, 6, 8, 9) for digit in digits.target]
    assert examples.columns["id"].tolist() == [str(n) for n in range(1797)]
