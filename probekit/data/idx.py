"""Examples in the IDX format of MNIST, gzipped or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from probekit.components import Array, Dataset, Examples
from probekit.data.arrays import ArrayExamples
from probekit.data.pixels import Pixels, Spread
from probekit.errors import InputError, Problem, absent_file, listed
from probekit.hookspecs import hookimpl
from probekit.sections import Section, SpecPath

_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> Array:
    """Return the array of one IDX file.

    Raises:
        InputError: ``PK-M01`` it is absent, ``PK-L23`` it is no IDX file, or shorter or longer than its header says.
    """
    found = next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)
    if found is None:
        raise InputError(absent_file(path, more=", nor with .gz"))
    raw = found.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(Problem("PK-L23", f"{str(found)!r} is a damaged gzip file: {error}")) from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _DTYPES or len(raw) < 4 + 4 * raw[3]:
        raise InputError(Problem("PK-L23", f"{str(found)!r} is no IDX file: it begins with {raw[:4]!r}"))
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", raw[3], 4))
    dtype = np.dtype(_DTYPES[raw[2]])
    start, expected = 4 + 4 * raw[3], math.prod(shape) * dtype.itemsize
    if len(raw) - start != expected:
        what = f"{str(found)!r} holds {len(raw) - start} bytes of values, its header {shape} asks for {expected}"
        raise InputError(Problem("PK-L23", what))
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


class IdxPreprocess(Section):
    """What is done to the pixels before the model sees them: (x ÷ scale - mean) ÷ std."""

    scale: float = Field(255.0, gt=0, description="pixels are divided by this")
    mean: list[float] = Field(default_factory=list, description="subtracted after scaling, one number")
    std: list[Spread] = Field(default_factory=list, description="divided by after that, one number")


class IdxDataset(Dataset):
    """Images and labels in IDX files, as ``image`` (examples, 1, height, width).

    Columns: ``label``, ``split`` (the part's name), ``id`` (how the file's name begins, and the number in it).
    """

    kind: Literal["idx"] = "idx"
    folder: SpecPath = Field(description="where the files are")
    parts: dict[str, str] = Field(
        default_factory=lambda: {"train": "train", "test": "t10k"},
        min_length=1,
        description="from the name of a part to how its files' names begin: BEGIN-images-idx3-ubyte and "
        "BEGIN-labels-idx1-ubyte, with or without .gz; BEGIN[:50000] and BEGIN[50000:] take some of the rows",
    )
    preprocess: IdxPreprocess = Field(default_factory=IdxPreprocess, description="default: pixels ÷ 255")

    def open(self) -> Examples:
        """Read all parts into memory."""
        images, labels, ids, parts = [], [], [], []
        for part, written in self.parts.items():
            begin, rows = _slice(written)
            image = read_idx(Path(self.folder) / f"{begin}-images-idx3-ubyte")
            label = read_idx(Path(self.folder) / f"{begin}-labels-idx1-ubyte")
            if (image.ndim, label.ndim) != (3, 1):
                what = f"part {part!r} has images of shape {image.shape} and labels of shape {label.shape}"
                raise InputError(Problem("PK-L23", what, "images have three axes, labels one"))
            if len(image) != len(label):
                what = f"part {part!r} has {len(image)} images and {len(label)} labels; nothing is aligned"
                raise InputError(Problem("PK-L04", what))
            images.append(image[rows].reshape(-1, 1, *image.shape[1:]))
            labels.append(label[rows])
            numbers = range(len(label))[rows]
            ids += [f"{begin}/{number}" for number in numbers]
            parts += [part] * len(numbers)
        sizes = {image.shape[2:] for image in images}
        if len(sizes) > 1:
            raise InputError(Problem("PK-M20", f"parts with images of different sizes: {listed(sorted(sizes))}"))
        columns = {"id": np.array(ids), "label": np.concatenate(labels), "split": np.array(parts)}
        options = self.preprocess
        pixels = Pixels(options.scale, options.mean, options.std)
        return ArrayExamples(columns, {"image": np.concatenate(images)}, pixels)


def _slice(written: str) -> tuple[str, slice]:
    """Return how a part's files begin, and its rows.

    >>> _slice("train[50000:]")
    ('train', slice(50000, None, None))
    """
    match = re.fullmatch(r"(.+?)(?:\[(\d*):(\d*)\])?", written)
    if match is None:
        return written, slice(None)
    begin, start, stop = match.groups()
    return begin, slice(int(start) if start else None, int(stop) if stop else None)


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The dataset of this module."""
    return [IdxDataset]
