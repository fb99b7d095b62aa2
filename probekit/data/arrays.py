"""Examples that are arrays already: ``arrays`` (npy, npz) and ``digits`` (bundled with scikit-learn)."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from probekit.components import Array, Dataset, Examples
from probekit.data.pixels import Pixels, Spread
from probekit.data.tables import read_table
from probekit.errors import InputError, Problem, absent_file, listed, nearest
from probekit.hookspecs import hookimpl
from probekit.sections import Section, SpecPath


class ArrayExamples(Examples):
    """Arrays whose first axis is the examples, scaled when they are read."""

    def __init__(self, columns: dict[str, Array], inputs: dict[str, Array], pixels: Pixels) -> None:
        images = [name for name, array in inputs.items() if array.ndim > 1]
        super().__init__(columns, inputs, images or list(inputs))
        self._pixels = pixels

    def read(self, rows: npt.NDArray[np.int64]) -> dict[str, Array]:
        """Return the arrays of those rows; a map's rows are read from disk here."""
        arrays = {name: np.asarray(array[rows]) for name, array in self._inputs.items()}
        return {name: self._pixels.scaled(a) if name in self.input_names else a for name, a in arrays.items()}


class ArraysPreprocess(Section):
    """What is done to the values of the arrays before the model sees them: (x ÷ scale - mean) ÷ std."""

    scale: float = Field(1.0, gt=0, description="values are divided by this")
    mean: list[float] = Field(default_factory=list, description="one number, or one a channel (axis 1)")
    std: list[Spread] = Field(default_factory=list, description="one number, or one a channel (axis 1)")


class ArraysDataset(Dataset):
    """Arrays on disk, with columns beside them."""

    kind: Literal["arrays"] = "arrays"
    arrays: SpecPath | dict[str, SpecPath] = Field(
        description="a .npz file (its one-dimensional arrays are columns too), or .npy files by input name"
    )
    columns: SpecPath | None = Field(None, description="a .csv or .parquet file with one row per example")
    id: str = Field("id", description="the column that identifies an example; row numbers when there is none")
    preprocess: ArraysPreprocess | None = Field(None, description="default: the values as they are")

    def open(self) -> Examples:
        """Map the arrays, read the columns, and see that all have one length."""
        arrays = self._load()
        columns = {name: array for name, array in arrays.items() if array.ndim == 1}
        if self.columns is not None:
            columns |= read_table(Path(self.columns))
        if self.id in columns:
            columns["id"] = np.asarray(columns[self.id]).astype(str)
        elif self.id != "id":
            raise InputError(Problem("PK-L16", f"no column {self.id!r}", nearest(self.id, columns, "columns")))
        _same_length(arrays, columns)
        options = self.preprocess or ArraysPreprocess()
        return ArrayExamples(columns, arrays, Pixels(options.scale, options.mean, options.std, self.preprocess is None))

    def _load(self) -> dict[str, Array]:
        if isinstance(self.arrays, dict):
            return {name: _load_array(Path(path)) for name, path in self.arrays.items()}
        loaded = _load_file(Path(self.arrays))
        return loaded if isinstance(loaded, dict) else {"input": loaded}


class DigitsDataset(Dataset):
    """scikit-learn's bundled digits: 1,797 images of 8 x 8 pixels, as ``image`` (examples, 1, 8, 8), 0 to 1.

    Columns: ``label`` (0 to 9), ``half`` (``even`` or ``odd``: the row number's parity), ``ink`` (mean of the pixels, 0
    to 1), ``odd`` (whether the digit is), ``loop`` (whether it is usually written with a closed loop: 0, 6, 8, 9).
    """

    kind: Literal["digits"] = "digits"

    def open(self) -> Examples:
        """Load the bundled file."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        rows = np.arange(len(digits.target))
        columns = {
            "id": rows.astype(str),
            "label": digits.target,
            "half": np.where(rows % 2 == 0, "even", "odd"),
            "ink": digits.images.mean(axis=(1, 2)) / 16,
            "odd": digits.target % 2 == 1,
            "loop": np.isin(digits.target, [0, 6, 8, 9]),
        }
        image = (digits.images[:, None] / 16).astype(np.float32)
        return Examples(columns, {"image": image})


_ZIP = (b"PK\3\4", b"PK\5\6")
_DAMAGED = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)


def _load_file(path: Path) -> Array | dict[str, Array]:
    """Return the array of a .npy file, mapped, or the arrays of a .npz file by name."""
    try:
        with path.open("rb") as stream:
            zipped = stream.read(4) in _ZIP
            stream.seek(0)
            arrays: Any = dict(np.load(stream, allow_pickle=False)) if zipped else {}
        if not zipped:
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            return array
    except FileNotFoundError:
        raise InputError(absent_file(path)) from None
    except _DAMAGED as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            what = f"{str(path)!r} holds pickled objects or is no NumPy file; pickles are not read, they can run code"
            hint = "save plain arrays: numpy.save(path, array, allow_pickle=False)"
            raise InputError(Problem("PK-L17", what, hint)) from None
        raise InputError(Problem("PK-L17", f"{str(path)!r} is damaged: {error}")) from None
    foreign = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if foreign:
        raise InputError(Problem("PK-L17", f"{str(path)!r} holds files that are no arrays: {listed(foreign)}"))
    return dict(arrays)


def _load_array(path: Path) -> Array:
    loaded = _load_file(path)
    if isinstance(loaded, dict):
        what = f"{str(path)!r} holds several arrays"
        raise InputError(Problem("PK-L17", what, "name the .npz itself: arrays: FILE.npz"))
    return loaded


def _same_length(arrays: dict[str, Array], columns: dict[str, Array]) -> None:
    scalars = [name for name, array in arrays.items() if array.ndim == 0]
    if scalars:
        raise InputError(Problem("PK-L04", f"array {scalars[0]!r} has no axis of examples"))
    lengths = {f"array {name!r}": len(array) for name, array in arrays.items()}
    lengths |= {f"column {name!r}": len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        (first, count), *others = lengths.items()
        name, other = next((n, c) for n, c in others if c != count)
        raise InputError(Problem("PK-L04", f"{first} has {count} examples, {name} has {other}; nothing is aligned"))


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [ArraysDataset, DigitsDataset]
