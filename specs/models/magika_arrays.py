"""Prepare real files as arrays for probes on Magika's exported ONNX network, which nobody of this project made.

    pip install --no-deps magika==1.0.3     # --no-deps: its onnxruntime would overwrite onnxruntime-gpu
    python specs/models/magika_arrays.py

Looks through folders that a Linux machine with Python has, and takes up to 60 files of each extension. Writes into
``specs/data/magika`` (or ``--out``):

- ``bytes.npy``: int32 [N, 2048], the network's input ``bytes``, made as ``magika.py`` makes it for standard_v3_3. The
  first half: of the first 4,096 bytes, left-stripped, the first 1,024, then 256 as padding. The second half: padding,
  then, of the last 4,096 bytes, right-stripped, the last 1,024;
- ``columns.csv``: ``id`` (the path), ``extension``, ``size`` (bytes) and ``text``: yes when the whole file decodes as
  UTF-8 and holds no NUL byte, else no;
- ``classes.txt``: one line for each of the network's 214 outputs: the extension, among those in ``columns.csv``, that
  Magika's knowledge base of content types gives to it, first come first; empty when there is none;
- ``model.onnx``: the network, copied from the package (Apache-2.0, Google).

Taken are regular files (no links) of at least 64 bytes that everybody may read, no two of them alike to the network.
Which ones depends on ``--seed`` and on their paths, not on the order of the folders. An extension's files come from few
programs, so error on held-out files says little about files from elsewhere.

Takes 7 s on 2 CPU cores (217,000 files looked through, 1,359 files of 24 extensions taken).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import os
import shutil
import stat
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

# Extensions that the knowledge base gives to at least one output, and no two that it gives to the same one.
EXTENSIONS = (
    "c",
    "css",
    "csv",
    "gif",
    "gz",
    "html",
    "ini",
    "jar",
    "java",
    "js",
    "json",
    "md",
    "pem",
    "pl",
    "png",
    "py",
    "pyc",
    "rst",
    "sh",
    "svg",
    "tcl",
    "toml",
    "ttf",
    "txt",
    "xml",
    "yaml",
)
MINIMUM_SIZE = 64
PYTHON_FOLDERS = (Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib")))
ROOTS = tuple(map(Path, ("/usr/share", "/usr/lib", "/usr/include", "/etc"))) + PYTHON_FOLDERS


def magika_folder() -> Path:
    """Return the installed package's folder, without importing the package."""
    spec = importlib.util.find_spec("magika")
    if spec is None or spec.origin is None:
        sys.exit("magika is not installed; run: pip install --no-deps magika==1.0.3")
    return Path(spec.origin).parent


def read_json(path: Path) -> Any:
    """Read a JSON file of the package."""
    if not path.is_file():
        sys.exit(f"{path} is missing; this script follows another version: pip install --no-deps magika==1.0.3")
    return json.loads(path.read_text("utf-8"))


def features(content: bytes, config: dict[str, Any]) -> np.ndarray:
    """Return the network's input for one file: its stripped beginning and end, padded."""
    n_beg, n_end, block = config["beg_size"], config["end_size"], config["block_size"]
    beg = content[:block].lstrip()[:n_beg]
    end = content[-block:].rstrip()[-n_end:]
    row = np.full(n_beg + n_end, config["padding_token"], dtype=np.int32)
    row[: len(beg)] = list(beg)
    row[len(row) - len(end) :] = list(end)
    return row


def is_text(content: bytes) -> bool:
    """Tell whether all of ``content`` decodes as UTF-8 and holds no NUL byte."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def find(roots: list[Path], extensions: list[str], seed: int) -> dict[str, list[Path]]:
    """Return the paths under ``roots`` by extension, each list in an order drawn from the seed and the paths."""
    found: dict[str, set[str]] = {extension: set() for extension in extensions}
    for root in roots:
        for folder, _, names in os.walk(root.resolve()):
            for name in names:
                path = Path(folder, name)
                files = found.get(path.suffix[1:].lower())
                if files is not None and str(path).isprintable():
                    files.add(str(path))

    def draw(path: str) -> bytes:
        return hashlib.sha256(f"{seed}:{path}".encode()).digest()

    return {extension: [Path(path) for path in sorted(files, key=draw)] for extension, files in found.items()}


def read(path: Path) -> bytes | None:
    """Return the content of a regular file that is large enough and open to everybody, else None."""
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size >= MINIMUM_SIZE:
            return path.read_bytes()
    except OSError:
        pass
    return None


def take(
    paths: list[Path], limit: int, config: dict[str, Any], seen: set[bytes]
) -> list[tuple[np.ndarray, list[str | int]]]:
    """Return up to ``limit`` rows (input, columns) of one extension, none of whose inputs is in ``seen``."""
    rows: list[tuple[np.ndarray, list[str | int]]] = []
    for path in paths:
        if len(rows) == limit:
            break
        content = read(path)
        if content is None:
            continue
        row = features(content, config)
        # Magika does not ask the network about files with next to nothing in them.
        if row[config["min_file_size_for_dl"] - 1] == config["padding_token"] or row.tobytes() in seen:
            continue
        seen.add(row.tobytes())
        extension = path.suffix[1:].lower()
        rows.append((row, [str(path), extension, len(content), "yes" if is_text(content) else "no"]))
    return rows


def output_classes(labels: list[str], knowledge: dict[str, Any], extensions: list[str]) -> list[str]:
    """Return, for each output label, its first extension that is among ``extensions``, or an empty string."""
    return [next((e for e in knowledge[label]["extensions"] if e in extensions), "") for label in labels]


def main() -> None:
    """Choose the files, write the arrays, say what was left out."""
    parser = argparse.ArgumentParser(description="Prepare files as arrays for probes on Magika's network.")
    parser.add_argument("--root", type=Path, nargs="+", default=list(ROOTS), help="folders to look through")
    parser.add_argument("--extensions", nargs="+", default=EXTENSIONS, metavar="EXT")
    parser.add_argument("--per-extension", type=int, default=60, help="at most so many files of each")
    parser.add_argument("--at-least", type=int, default=30, help="leave out extensions with fewer files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "data" / "magika")
    args = parser.parse_args()

    package = magika_folder()
    model = package / "models" / "standard_v3_3"
    config = read_json(model / "config.min.json")
    knowledge = read_json(package / "config" / "content_types_kb.min.json")
    if config["mid_size"] or config["use_inputs_at_offsets"]:
        sys.exit("this model reads more than beginning and end; run: pip install --no-deps magika==1.0.3")

    seen: set[bytes] = set()
    rows: list[tuple[np.ndarray, list[str | int]]] = []
    kept: list[str] = []
    for extension, paths in find(args.root, sorted(set(args.extensions)), args.seed).items():
        part = take(paths, args.per_extension, config, seen)
        if len(part) < args.at_least:
            print(f"left out: {extension}, {len(part)} files, fewer than {args.at_least}")
            continue
        kept.append(extension)
        rows += part
        print(f"{extension}: {len(part)} files of {len(paths)}")
    if not rows:
        sys.exit("no extension has enough files; give other folders with --root, or a smaller --at-least")

    classes = output_classes(config["target_labels_space"], knowledge, kept)
    for extension in sorted(set(kept) - set(classes)):
        print(f"no output of the network stands for: {extension}")
    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "bytes.npy", np.stack([row for row, _ in rows]))
    with (args.out / "columns.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "extension", "size", "text"])
        writer.writerows(columns for _, columns in rows)
    (args.out / "classes.txt").write_text("".join(f"{name}\n" for name in classes), "utf-8")
    shutil.copyfile(model / "model.onnx", args.out / "model.onnx")
    print(f"wrote {len(rows)} files of {len(kept)} extensions to {args.out}")


if __name__ == "__main__":
    main()
