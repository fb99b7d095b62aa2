"""Make image classes in ``specs/data/made_classes`` (or ``--out``), as stand-ins where ImageNet is not to be had.

    python specs/models/made_classes.py

Writes ``class_00/000.png`` and so on: 10 classes of 20 images, 256 x 256. A class is a grating of its own orientation,
frequency and colour. Each image changes these a little and adds an arbitrary phase, contrast and light, a second
grating that says nothing about the class, and noise. The images show that a run works from end to end and that classes
which differ can be told apart; they say nothing about ImageNet.

Takes 8 s on 2 CPU cores; the folder has 33 MB.
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image


def grating(size: int, degrees: float, cycles: float, phase: float) -> np.ndarray:
    """Return a sine grating, -1 to 1, with ``cycles`` periods across the image."""
    y, x = np.mgrid[0:size, 0:size] / size
    angle = np.deg2rad(degrees)
    return np.sin(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)) + phase)


def make(index: int, classes: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return one image of class ``index``: uint8 (size, size, 3)."""
    pairs = -(-classes // 2)
    degrees = 180 * (index // 2) / pairs + rng.normal(0, 30 / pairs)  # classes 2k and 2k + 1 share their orientation
    cycles = (9, 14)[index % 2] * rng.lognormal(0, 0.12)
    hue = 3 * index / classes + rng.normal(0, 0.12)  # three turns of the colour wheel: some classes share their hue
    main = rng.uniform(0.35, 0.9) * grating(size, degrees, cycles, rng.uniform(0, 2 * np.pi))
    other = rng.uniform(0, 0.5) * grating(size, rng.uniform(0, 180), rng.uniform(3, 24), rng.uniform(0, 2 * np.pi))
    light = rng.uniform(-0.3, 0.3) * grating(size, rng.uniform(0, 180), 0.5, rng.uniform(0, 2 * np.pi))
    level = 0.5 + 0.25 * (main + other + light)
    colour = np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.2, 0.6), 1.0))
    image = level[..., None] * colour + rng.normal(0, rng.uniform(0.03, 0.12), (size, size, 3))
    return (255 * image.clip(0, 1)).round().astype(np.uint8)


def main() -> None:
    """Write the images."""
    parser = argparse.ArgumentParser(description="Make a folder of image classes.")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "made_classes")
    args = parser.parse_args()

    for index in range(args.classes):
        folder = args.out / f"class_{index:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(args.per_class):
            rng = np.random.default_rng([args.seed, index, number])
            Image.fromarray(make(index, args.classes, args.size, rng)).save(folder / f"{number:03d}.png")
    print(f"wrote {args.classes} classes of {args.per_class} images to {args.out}")


if __name__ == "__main__":
    main()
