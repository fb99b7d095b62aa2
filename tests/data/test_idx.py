"""IDX files, plain and gzipped."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.data.idx import IdxDataset, IdxPreprocess, read_idx

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]

KINDS = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}
"""The format's codes of types, as the struct module spells the types."""


def packed(kind: int, shape: list[int], values: list[Any]) -> bytes:
    """Return an IDX file, written by the format's definition."""
    head = bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return head + struct.pack(f">{len(values)}{KINDS[kind]}", *values)


def write_part(folder: Path, begin: str, images: int = 3, labels: int = 3, side: int = 2) -> None:
    pixels = [n % 256 for n in range(images * side * side)]
    (folder / f"{begin}-images-idx3-ubyte").write_bytes(packed(0x08, [images, side, side], pixels))
    (folder / f"{begin}-labels-idx1-ubyte").write_bytes(packed(0x08, [labels], [n % 10 for n in range(labels)]))


# --- one file


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(KINDS)),
    shape=st.lists(st.integers(0, 4), max_size=4),
    zipped=st.booleans(),
    data=st.data(),
)
def test_every_type_and_shape_is_read(
    tmp_path: Path, kind: int, shape: list[int], zipped: bool, data: st.DataObject
) -> None:
    letter = KINDS[kind]
    limits = {"B": (0, 255), "b": (-128, 127), "h": (-(2**15), 2**15 - 1), "i": (-(2**31), 2**31 - 1)}
    numbers = st.integers(*limits[letter]) if letter in limits else st.floats(width=32, allow_nan=False)
    count = int(np.prod(shape, dtype=int))
    values = data.draw(st.lists(numbers, min_size=count, max_size=count))
    raw = packed(kind, shape, values)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    array = read_idx(path)
    assert array.shape == tuple(shape)
    assert array.dtype.isnative
    assert array.dtype.itemsize == struct.calcsize(letter)
    assert array.ravel().tolist() == values


def test_the_gzipped_file_is_found_by_the_plain_name(tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(gzip.compress(packed(0x08, [2], [7, 9])))
    assert read_idx(tmp_path / "labels").tolist() == [7, 9]


LABELS = packed(0x08, [300], [n % 256 for n in range(300)])


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "is no IDX file: it begins with b''"),
        (LABELS[:3], "is no IDX file: it begins with b'\\x00\\x00\\x08'"),
        (LABELS[:6], "is no IDX file: it begins with b'\\x00\\x00\\x08\\x01'"),
        (b"\x01" + LABELS[1:], "is no IDX file: it begins with b'\\x01\\x00\\x08\\x01'"),
        (LABELS[:2] + b"\x0a" + LABELS[3:], "is no IDX file: it begins with b'\\x00\\x00\\n\\x01'"),
        (b"<!DOCTYPE html>", "is no IDX file: it begins with b'<!DO'"),
        (LABELS[:-1], "holds 299 bytes of values, its header (300,) asks for 300"),
        (LABELS + b"\0", "holds 301 bytes of values, its header (300,) asks for 300"),
        (packed(0x0E, [1], [1.0])[:-4], "holds 4 bytes of values, its header (1,) asks for 8"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_that_is_no_whole_idx_file_is_refused(
    tmp_path: Path, refused: Refused, raw: bytes, fault: str, zipped: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    assert refused(lambda: read_idx(path)) == [("PK-L23", f"{str(path)!r} {fault}")]


def test_a_gzip_file_that_is_cut_short_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(LABELS)[:-4])
    fault = "is a damaged gzip file: Compressed file ended before the end-of-stream marker was reached"
    assert refused(lambda: read_idx(tmp_path / "file")) == [("PK-L23", f"{str(path)!r} {fault}")]


def test_a_gzip_file_with_changed_bytes_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "file.gz"
    raw = bytearray(gzip.compress(LABELS))
    raw[-8] ^= 1
    path.write_bytes(raw)
    ((code, message),) = refused(lambda: read_idx(path))
    assert code == "PK-L23"
    assert message.startswith(f"{str(path)!r} is a damaged gzip file: CRC check failed")


def test_an_absent_file_is_refused_with_the_nearest_name(tmp_path: Path, refused: Refused) -> None:
    write_part(tmp_path, "t10k")
    path = tmp_path / "tk10-labels-idx1-ubyte"
    message = f"no file {str(path)!r}, nor with .gz; did you mean 't10k-labels-idx1-ubyte'?"
    assert refused(lambda: read_idx(path)) == [("PK-M01", message)]


# --- the dataset


def test_parts_stand_one_after_the_other(tmp_path: Path) -> None:
    write_part(tmp_path, "train", 3, 3)
    write_part(tmp_path, "t10k", 2, 2)
    examples = IdxDataset(folder=str(tmp_path)).open()
    assert len(examples) == 5
    assert examples.columns["id"].tolist() == ["train/0", "train/1", "train/2", "t10k/0", "t10k/1"]
    assert examples.columns["label"].tolist() == [0, 1, 2, 0, 1]
    assert examples.columns["split"].tolist() == ["train"] * 3 + ["test"] * 2
    image = examples.read(np.array([4, 1]))["image"]
    assert (image.shape, image.dtype) == ((2, 1, 2, 2), np.float32)
    expected = [[[[4 / 255, 5 / 255], [6 / 255, 7 / 255]]]] * 2
    np.testing.assert_allclose(image, expected, rtol=1e-6)


def test_pixels_are_scaled_as_the_spec_says(tmp_path: Path) -> None:
    write_part(tmp_path, "train")
    options = IdxPreprocess(scale=1.0, mean=[1.0], std=[2.0])
    examples = IdxDataset(folder=str(tmp_path), parts={"all": "train"}, preprocess=options).open()
    assert examples.read(np.array([0]))["image"].tolist() == [[[[-0.5, 0.0], [0.5, 1.0]]]]


def test_a_part_may_be_some_rows_of_a_file(tmp_path: Path) -> None:
    write_part(tmp_path, "train", 5, 5)
    parts = {"train": "train[:3]", "valid": "train[3:4]", "test": "train[4:]"}
    examples = IdxDataset(folder=str(tmp_path), parts=parts).open()
    assert examples.columns["split"].tolist() == ["train", "train", "train", "valid", "test"]
    assert examples.columns["id"].tolist() == [f"train/{n}" for n in range(5)]
    assert examples.columns["label"].tolist() == [0, 1, 2, 3, 4]
    last = examples.read(np.array([4]))["image"] * 255
    np.testing.assert_allclose(last.ravel(), [16, 17, 18, 19], rtol=1e-6)


def test_one_row_in_two_parts_has_one_id(tmp_path: Path) -> None:
    write_part(tmp_path, "train", 3, 3)
    examples = IdxDataset(folder=str(tmp_path), parts={"train": "train[:2]", "test": "train[1:]"}).open()
    assert examples.columns["id"].tolist() == ["train/0", "train/1", "train/1", "train/2"]


def test_another_number_of_labels_is_refused(tmp_path: Path, refused: Refused) -> None:
    write_part(tmp_path, "train", 5, 4)
    message = "part 'train' has 5 images and 4 labels; nothing is aligned"
    assert refused(IdxDataset(folder=str(tmp_path)).open) == [("PK-L04", message)]


def test_labels_in_the_place_of_images_are_refused(tmp_path: Path, refused: Refused) -> None:
    write_part(tmp_path, "train")
    labels, images = tmp_path / "train-labels-idx1-ubyte", tmp_path / "train-images-idx3-ubyte"
    swapped = labels.read_bytes(), images.read_bytes()
    images.write_bytes(swapped[0])
    labels.write_bytes(swapped[1])
    fact = "part 'train' has images of shape (3,) and labels of shape (3, 2, 2)"
    message = f"{fact}; images have three axes, labels one"
    assert refused(IdxDataset(folder=str(tmp_path)).open) == [("PK-L23", message)]


def test_parts_with_images_of_different_sizes_are_refused(tmp_path: Path, refused: Refused) -> None:
    write_part(tmp_path, "train", side=2)
    write_part(tmp_path, "t10k", side=3)
    message = "parts with images of different sizes: '(2, 2)', '(3, 3)'"
    assert refused(IdxDataset(folder=str(tmp_path)).open) == [("PK-M20", message)]


def test_fashion_mnist_has_the_published_sizes_and_classes(fashion_mnist: Path) -> None:
    examples = IdxDataset(folder=str(fashion_mnist)).open()
    split, label = examples.columns["split"], examples.columns["label"]
    assert np.bincount(label[split == "train"]).tolist() == [6000] * 10
    assert np.bincount(label[split == "test"]).tolist() == [1000] * 10
    assert len(examples) == 70_000
    image = examples.read(np.arange(0, 70_000, 1000))["image"]
    assert image.shape == (70, 1, 28, 28)
    assert (image.min(), image.max()) == (0.0, 1.0)
