"""What the feature store gives back: ResNet-50's 17 pooled taps, scanned warm, against reading the same files raw.

    python tests/benchmarks/store.py [--quick] [--pairs 9]

(a) GB/s of StoredMatrix.blocks() over all taps against readinto() of the same shards into one reused buffer; the same
    np.max goes over every value on both sides. The first use of a shard compares its digest, which is told apart.
(b) The paper's appendix B: how much faster the store feeds a fit with all taps than the forward pass made them.
    Needs specs/data/resnet50.onnx (python specs/models/resnet50_onnx.py); without it (b) is left out, exit code 3.
(c) The same features stored as float16 and bfloat16.

Features are made numbers in a temporary folder (TMPDIR): 2 GB in all, 300 MB with --quick. Takes 3 minutes on 2 cores.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import (
    NO_MODEL,
    RESNET50,
    Pairs,
    how_to_make_resnet50,
    interleave,
    megabytes,
    print_machine,
    print_table,
    timed,
    verdict,
)

from probekit.components import Tap, Wanted
from probekit.features.plan import range_rows
from probekit.store.feature_store import Entry, FeatureStore

WIDTHS = [3, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 3]
BATCH = 16
FIT_ROWS = 1 << 14
"""Training rows that a fit reads at once where it does not hold them."""


@dataclass(frozen=True)
class Made:
    """A store full of made features.

    Args:
        root: its folder.
        dtype: of the features on disk.
        keys: of the taps.
        digests: of the examples, shape (rows, 16).
        size: bytes of all shards.
        seconds: that writing took, with all syncs.
    """

    root: Path
    dtype: str
    keys: list[str]
    digests: np.ndarray
    size: int
    seconds: float

    @property
    def rows(self) -> int:
        return len(self.digests)

    def shards(self) -> list[Path]:
        """Return the files, tap by tap."""
        return [path for key in self.keys for path in sorted((self.root / "features" / key[:2] / key).glob("*.s*"))]


def make(root: Path, dtype: str, ranges: int) -> Made:
    """Write row ranges of the size that an extraction would write."""
    wanted = [Wanted(Tap(f"tap{i}", "Add", (width,), "float32"), (), width) for i, width in enumerate(WIDTHS)]
    at_once = range_rows(wanted, BATCH)
    keys = [hashlib.blake2b(f"{dtype} {i}".encode(), digest_size=16).hexdigest() for i in range(len(WIDTHS))]
    values = np.random.default_rng(0).standard_normal((at_once, max(WIDTHS)), dtype=np.float32)
    features = [np.ascontiguousarray(values[:, :width]) for width in WIDTHS]
    digests = np.random.default_rng(1).integers(0, 256, (ranges * at_once, 16), dtype=np.uint8)
    store = FeatureStore(root, durability="full")
    store.prepare()
    seconds = 0.0
    for start in range(0, len(digests), at_once):
        entries = [
            Entry(key, one.tap.name, array, dtype) for key, one, array in zip(keys, wanted, features, strict=True)
        ]
        begun = time.perf_counter()
        store.write_range({"": digests[start : start + at_once]}, entries, {})
        seconds += time.perf_counter() - begun
    made = Made(root, dtype, keys, digests, 0, seconds)
    return Made(root, dtype, keys, digests, sum(path.stat().st_size for path in made.shards()), seconds)


def opened(made: Made) -> tuple[list[Any], float]:
    """Return the matrices of all taps, and the seconds of their first use, which compares digests."""
    begun = time.perf_counter()
    index = FeatureStore(made.root).index(made.keys)
    matrices = [index.matrix(key, made.digests) for key in made.keys]
    return matrices, time.perf_counter() - begun


def scan(matrices: list[Any], rows_at_once: int | None = None) -> float:
    """Pass over all blocks of all taps, tap by tap; rows_at_once: None for the usual."""
    most = -np.inf
    for matrix in matrices:
        for block in matrix.blocks() if rows_at_once is None else matrix.blocks(rows_at_once):
            most = max(most, float(block.max()))
    return most


def scan_raw(shards: list[Path], buffer: bytearray) -> float:
    """Read the same float32 files whole, one after the other, into one buffer."""
    most, view = -np.inf, memoryview(buffer)
    for path in shards:
        with path.open("rb", buffering=0) as file:
            count = file.readinto(buffer)
        header = 8 + int.from_bytes(view[:8], "little")
        most = max(most, float(np.frombuffer(view[header:count], np.float32).max()))
    return most


def hold(matrices: list[Any]) -> None:
    """Read each tap into memory, as a fit does that holds its features."""
    for matrix in matrices:
        np.asarray(matrix)


def stream(matrices: list[Any], train: np.ndarray) -> None:
    """Read the training rows of each tap, as one pass of a fit does that does not hold them."""
    for matrix in matrices:
        for start in range(0, len(train), FIT_ROWS):
            matrix.read(train[start : start + FIT_ROWS])


def median_of(call: Callable[[], object], times: int) -> float:
    """Return the median seconds of a few calls, after one that warms up."""
    call()
    return float(np.median([timed(call) for _ in range(times)]))


def scanning(made: Made, matrices: list[Any], pairs: int) -> Pairs:
    """Print (a) for the float32 store."""
    shards, payload = made.shards(), made.rows * sum(WIDTHS) * 4
    buffer = bytearray(max(path.stat().st_size for path in shards))
    at_once = made.rows // (len(shards) // len(WIDTHS))
    if scan(matrices) != scan_raw(shards, buffer):
        raise RuntimeError("the store and the raw files do not hold the same values")

    def raw() -> float:
        return scan_raw(shards, buffer)

    usual = interleave(raw, lambda: scan(matrices), pairs, warm=1)
    aligned = interleave(raw, lambda: scan(matrices, at_once), pairs, warm=1)
    rows = [("(a) warm scan, float32", "GB/s", "of raw", "quartiles")]
    raw_speed = payload / 1e9 / float(np.median([*usual.bare, *aligned.bare]))
    rows.append(("readinto, file by file", f"{raw_speed:.2f}", "1", ""))
    for what, found in (("blocks()", usual), (f"blocks({at_once}), as ranges were written", aligned)):
        low, high = found.quartiles
        speed = payload / 1e9 / float(np.median(found.other))
        rows.append((what, f"{speed:.2f}", f"{found.ratio:.2f}", f"{low:.2f} - {high:.2f}"))
    print_table(rows)
    return usual


def images_per_second(batches: int) -> float:
    """Return the speed of the forward pass that gives these 17 taps, in ONNX Runtime."""
    import extraction

    images = extraction.made_batch(BATCH)
    with extraction.ours("onnx", "pool", images) as call:
        return BATCH / median_of(call, batches)


@dataclass(frozen=True)
class Fed:
    """What one store gives a fit.

    Args:
        cells: of the table (c), without the last one.
        rows_per_second: of all taps together, the slower of held and streamed.
        scanned: blocks() against raw; of float32 alone.
    """

    cells: tuple[str, ...]
    rows_per_second: float
    scanned: Pairs | None


def measure(dtype: str, ranges: int, pairs: int) -> Fed:
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder), dtype, ranges)
        matrices, first = opened(made)
        scanned = None
        if dtype == "float32":
            print(f"{made.rows} rows, {len(WIDTHS)} taps, {sum(WIDTHS)} features, {megabytes(made.size)} MB\n")
            scanned = scanning(made, matrices, pairs)
        train = np.sort(np.random.default_rng(2).permutation(made.rows)[: made.rows * 4 // 5])
        held = made.rows / median_of(lambda: hold(matrices), pairs)
        streamed = len(train) / median_of(lambda: stream(matrices, train), pairs)
        speeds = [f"{made.size / 1e9 / seconds:.2f}" for seconds in (made.seconds, first)]
        cells = (dtype, megabytes(made.size), *speeds, f"{held:.0f}", f"{streamed:.0f}")
        return Fed(cells, min(held, streamed), scanned)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the feature store gives back.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, 3 pairs")
    parser.add_argument("--pairs", type=int, help="timed pairs; default: 9")
    args = parser.parse_args()
    pairs, ranges = args.pairs or (3 if args.quick else 9), 2 if args.quick else 15
    print_machine(["numpy", "torch", "onnxruntime"])
    fed = {dtype: measure(dtype, ranges, pairs) for dtype in ("float32", "float16", "bfloat16")}
    plain = fed["float32"]
    rows = [("(c) dtype", "MB on disk", "write GB/s", "first use GB/s", "held rows/s", "streamed rows/s", "of float32")]
    rows += [(*one.cells, f"{one.rows_per_second / plain.rows_per_second:.2f}") for one in fed.values()]
    print("\nheld: every tap read into memory whole; streamed: a random 80 % of the rows in order, 16,384 at a time")
    print_table(rows)
    speed = images_per_second(3 if args.quick else 7) if RESNET50.is_file() else None
    if speed is not None:
        print(f"\n(b) the forward pass makes {speed:.1f} rows/s; a fit is fed {plain.rows_per_second:.0f}, all taps")
    print("\ntargets:")
    print(f"  {verdict('warm scan, of raw', plain.scanned and plain.scanned.ratio, 0.8, 1.4)}")
    times = None if speed is None else plain.rows_per_second / speed
    print(f"  {verdict('feeding a fit, times the forward pass (the slower of held and streamed)', times, 60)}")
    if speed is None:
        print(how_to_make_resnet50(), file=sys.stderr)
        sys.exit(NO_MODEL)


if __name__ == "__main__":
    main()
