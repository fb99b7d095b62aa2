"""List images of ImageNet's training and validation folders in a table, to fit probes as the paper did.

    python specs/models/imagenet_table.py /data/imagenet --per-class 100

Writes ``imagenet.csv`` in ``specs/data`` (or ``--out``): columns ``file`` (below the folder), ``label`` (the
sub-folder's name) and ``split``, which is ``fit`` for images of ``train`` and ``held_out`` for those of ``val``. Both
folders have one sub-folder a class. A spec of the folder ``val`` reads the list by:

    --set 'data={kind: images, path: "${IMAGENET}", table: data/imagenet.csv, path_column: file, preprocess: {...}}'
    --set 'splits={column: split, train: fit, valid: {of: fit, share: 0.05}, test: held_out}'

The network was trained on images of ``train``, so that their features look better than those of others; what is
reported is of ``val``, of which it saw none.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from pathlib import Path

PARTS = {"train": "fit", "val": "held_out"}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description="List ImageNet's images in a table.")
    parser.add_argument("imagenet", type=Path, help="the folder that holds train and val")
    parser.add_argument(
        "--per-class", type=int, help="so many images of a class of train, drawn at random; default: all"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "imagenet.csv")
    args = parser.parse_args()

    missing = [part for part in PARTS if not (args.imagenet / part).is_dir()]
    if missing:
        sys.exit(f"{args.imagenet} has no folder {' and '.join(missing)}; name the folder that holds train and val")
    rows = []
    for part, split in PARTS.items():
        for folder in sorted(path for path in (args.imagenet / part).iterdir() if path.is_dir()):
            files = sorted(path.relative_to(args.imagenet).as_posix() for path in folder.iterdir())
            if part == "train" and args.per_class is not None:
                chance = random.Random(f"{args.seed} {folder.name}")
                files = sorted(chance.sample(files, min(args.per_class, len(files))))
            rows += [(file, folder.name, split) for file in files]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("file", "label", "split"))
        writer.writerows(rows)
    print(f"wrote {len(rows):,} images of {len({label for _, label, _ in rows}):,} classes to {args.out}")


if __name__ == "__main__":
    main()
