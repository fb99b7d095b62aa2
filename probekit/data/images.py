"""Examples that are image files: a folder of classes, or a table of paths and columns."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from probekit.components import Array, Dataset, Examples
from probekit.data.pixels import Pixels, Spread
from probekit.data.tables import column, read_table
from probekit.errors import InputError, Problem, listed
from probekit.hookspecs import hookimpl
from probekit.sections import Section, SpecPath

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class ImagePreprocess(Section):
    """From a file to what the model was trained on: resize, crop, then (pixel ÷ scale - mean) ÷ std per channel."""

    resize: int | None = Field(
        None, ge=1, le=8192, description="the shorter side, in pixels (bilinear, antialiased); default: as it is"
    )
    center_crop: int | None = Field(None, ge=1, le=8192, description="side of the square kept; default: no crop")
    mode: Literal["RGB", "L"] = Field("RGB", description="colour or grey; the channels are 3 or 1")
    scale: float = Field(255.0, gt=0, description="pixels are divided by this")
    mean: list[float] = Field(default_factory=list, description="subtracted after scaling, one a channel")
    std: list[Spread] = Field(default_factory=list, description="divided by after that, one a channel")


class ImageExamples(Examples):
    """Image files that are decoded when they are read."""

    def __init__(self, columns: dict[str, Array], paths: list[Path], options: ImagePreprocess) -> None:
        super().__init__(columns, input_names=["image"])
        self._paths = paths
        self._options = options
        self._pixels = Pixels(options.scale, options.mean, options.std)

    def read(self, rows: npt.NDArray[np.int64]) -> dict[str, Array]:
        """Decode those rows to (rows, channels, height, width), float32.

        Raises:
            InputError: ``PK-L18`` files cannot be decoded; ``PK-M20`` images of different sizes.
        """
        from PIL import Image

        bad: list[str] = []
        images: list[Array] = []
        for row in rows:
            try:
                images.append(self._decode(self._paths[row]))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                bad.append(f"{self._paths[row]}: {error}")
        if bad:
            raise InputError(Problem("PK-L18", f"{len(bad)} of {len(rows)} images cannot be decoded: {listed(bad)}"))
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            what = f"images of different sizes in one batch: {listed(sorted(shapes))}"
            raise InputError(Problem("PK-M20", what, "give data.preprocess a resize and a center_crop"))
        return {"image": self._pixels.scaled(np.stack(images))}

    def digests(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """Digest the files and the preprocessing; nothing is decoded."""
        recipe = f"{ImagesDataset.version}{self._options.model_dump_json()}".encode()
        found = []
        for row in rows:
            try:
                content = self._paths[row].read_bytes()
            except OSError as error:
                content = f"{self._paths[row]}: {error}".encode()
            found.append(hashlib.blake2b(content, digest_size=16, key=hashlib.sha256(recipe).digest()).digest())
        return found

    def _decode(self, path: Path) -> Array:
        from PIL import Image

        options = self._options
        with Image.open(path) as file:
            image = file.convert(options.mode)
        if options.resize is not None:
            short = min(image.size)
            # The longer side is cut to a whole number, as torchvision does it.
            width, height = (
                options.resize if side == short else int(options.resize * side / short) for side in image.size
            )
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        if options.center_crop is not None:
            side = options.center_crop
            left, top = _margin(image.width, side), _margin(image.height, side)
            image = image.crop((left, top, left + side, top + side))
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _margin(size: int, side: int) -> int:
    """Return what is cut before the middle ``side`` of ``size`` pixels; negative: what black is added, as torchvision.

    >>> _margin(7, 4), _margin(5, 8)
    (2, -1)
    """
    return round((size - side) / 2) if size >= side else -((side - size) // 2)


class ImagesDataset(Dataset):
    """Image files, as ``image`` (examples, channels, height, width).

    Columns of a folder: ``label`` (the sub-folder's name), ``id`` (the path below the folder). A table's columns are
    its own, and ``id`` is the path as written there.
    """

    kind: Literal["images"] = "images"
    path: SpecPath = Field(description="a folder with one sub-folder a class, or what a table's paths start from")
    table: SpecPath | None = Field(None, description="a .csv or .parquet file with one row per image")
    path_column: str = Field("path", description="the table's column of paths")
    preprocess: ImagePreprocess = Field(default_factory=ImagePreprocess, description="default: pixels ÷ 255")

    def open(self) -> Examples:
        """List the files; none is decoded."""
        root = Path(self.path)
        if not root.is_dir():
            raise InputError(Problem("PK-M01", f"no folder {self.path!r}"))
        if self.table is None:
            files = sorted(p for p in root.glob("*/**/*") if p.suffix.lower() in SUFFIXES and p.is_file())
            columns = {"label": np.array([p.relative_to(root).parts[0] for p in files], dtype=object)}
            ids = [p.relative_to(root).as_posix() for p in files]
        else:
            columns = read_table(Path(self.table))
            ids = [str(value) for value in column(columns, self.path_column)]
            files = [root / name for name in ids]
            absent = [name for name, file in zip(ids, files, strict=True) if not file.is_file()]
            if absent:
                raise InputError(Problem("PK-L18", f"{len(absent)} files of the table are absent: {listed(absent)}"))
        if not files:
            what = f"no image in the sub-folders of {self.path!r}"
            raise InputError(
                Problem("PK-L18", what, f"one sub-folder a class, files ending in {listed(sorted(SUFFIXES), 9)}")
            )
        return ImageExamples(columns | {"id": np.array(ids, dtype=object)}, files, self.preprocess)


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The dataset of this module."""
    return [ImagesDataset]
