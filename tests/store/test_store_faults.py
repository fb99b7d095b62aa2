"""The feature store on a disk that fails at any operation: after each fault the store must be one of the legal ones.

In the style of SQLite's tests: fail at operation 1, 2, 3 ... until a write gets through; reopen, compare.
"""

import errno
import hashlib
import itertools
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probekit import durable
from probekit.errors import MachineError, ProbekitWarning
from probekit.store import layout
from probekit.store.feature_store import Entry, FeatureStore
from probekit.store.records import Record
from probekit.store.shards import SHARD_FORMAT, Shard, encode

KEYS = {"a" * 16: "float32", "b" * 16: "float16", "c" * 16: "bfloat16"}
DIGESTS = np.random.default_rng(0).integers(0, 256, (7, 16), np.uint8)
FEATURES = np.random.default_rng(1).integers(-50, 50, (7, 3)).astype(np.float32)  # exact in every dtype
RANGES = (slice(0, 4), slice(4, 7))
SEEDS = 5


class Crash(BaseException):
    """The process ended here."""


class FaultyDisk(durable.Disk):
    """Carries out operations on the real disk until one fails, and knows what a loss of power could leave of them."""

    def __init__(self, root: Path, fail_at: int = 0, fault: str = "", *, sync: bool = True) -> None:
        self.root, self.fail_at, self.fault, self.sync = root, fail_at, fault, sync
        self.operations, self.crashed = 0, False
        self.written: dict[int, bytes] = {}  # file to content
        self.synced: dict[int, bytes] = {}
        self.names: dict[Path, int] = {}
        self.kept: dict[Path, int | None] = {root: None}  # what is safe: name to file, None for a folder
        self.pending: dict[Path, list[tuple[Path, Path | None, int | None]]] = {}  # folder to (new, old, file)
        self.opened: dict[int, int] = {}

    def _count(self, operation: str, torn: Callable[[], None] = lambda: None) -> None:
        if self.crashed:
            raise Crash
        self.operations += 1
        late = self.operations > self.fail_at > 0 and operation in {"open", "write", "mkdir"}
        if self.operations != self.fail_at and not (late and self.fault in {"ENOSPC", "EACCES"}):
            return
        if self.fault in {"crash", "power"}:
            torn()
            self.crashed = True
            raise Crash
        if self.fault == "ENOSPC" and operation == "unlink":
            return
        torn()
        raise OSError(getattr(errno, self.fault), os.strerror(getattr(errno, self.fault)))

    def open(self, path: Path) -> int:
        self._count("open")
        number = super().open(path)
        file = len(self.written)
        self.opened[number], self.names[path] = file, file
        self.written[file] = self.synced[file] = b""
        self.pending.setdefault(path.parent, []).append((path, None, file))
        return number

    def write(self, file: int, data: memoryview) -> None:
        def half() -> None:
            super(FaultyDisk, self).write(file, data[: len(data) // 2])
            self.written[self.opened[file]] += bytes(data[: len(data) // 2])

        self._count("write", half)
        super().write(file, data)
        self.written[self.opened[file]] += bytes(data)

    def fsync(self, file: int) -> None:
        self._count("fsync")
        if self.sync:
            self.synced[self.opened[file]] = self.written[self.opened[file]]

    def replace(self, source: Path, target: Path) -> None:
        self._count("replace")
        super().replace(source, target)
        if source in self.names:
            self.names[target] = self.names.pop(source)
            self.pending.setdefault(target.parent, []).append((target, source, self.names[target]))

    def fsync_folder(self, folder: Path) -> None:
        self._count("fsync_folder")
        for change in self.pending.pop(folder, []):
            self._keep(change, self.kept)

    def unlink(self, path: Path) -> None:
        self._count("unlink")
        super().unlink(path)
        if path in self.names:
            self.pending.setdefault(path.parent, []).append((path, path, None))
            del self.names[path]

    def mkdir(self, folder: Path) -> None:
        self._count("mkdir")
        super().mkdir(folder)
        self.pending.setdefault(folder.parent, []).append((folder, None, None))

    def _keep(self, change: tuple[Path, Path | None, int | None], kept: dict[Path, int | None]) -> None:
        new, old, file = change
        if old is not None:
            kept.pop(old, None)
        if old is None or file is not None:
            kept[new] = file

    def after_power_loss(self, seed: int, place: Path) -> None:
        """Make in a folder what a loss of power could leave: unsynced names undone, unsynced bytes torn or dropped."""
        chance, kept = random.Random(seed), dict(self.kept)
        for changes in self.pending.values():
            first = changes[: chance.randint(0, len(changes))]
            for change in chance.choice([changes, changes, first, [c for c in changes if chance.random() < 0.5]]):
                self._keep(change, kept)
        for old, file in sorted(kept.items()):
            path = place / old.relative_to(self.root)
            if old == self.root or not path.parent.is_dir():
                continue
            if file is None:
                path.mkdir()
            else:
                path.write_bytes(self._left(file, chance))

    def _left(self, file: int, chance: random.Random) -> bytes:
        written, synced = self.written[file], self.synced[file]
        if written == synced:
            return written
        torn = written[: chance.randint(0, len(written))]
        padded = torn + bytes(len(written) - len(torn))
        flipped = written[:-1] + bytes([written[-1] ^ 1]) if written else written
        return chance.choice([written] * 5 + [synced, torn, bytes(len(written)), padded, flipped])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the machine has one: thousands of files are made and removed."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[durable.Disk], None]:
    return lambda disk: monkeypatch.setattr(durable, "disk", disk)


def write(store: FeatureStore, rows: slice) -> None:
    entries = [Entry(key, key[:1], FEATURES[rows], dtype) for key, dtype in KEYS.items()]  # type: ignore[arg-type]
    store.write_range({"": DIGESTS[rows]}, entries, {"rows": [rows.start, rows.stop]})


def write_all(store: FeatureStore, done: list[slice]) -> None:
    store.prepare()
    for rows in RANGES:
        write(store, rows)
        done.append(rows)


def resume(store: FeatureStore) -> None:
    """Do as extraction does: write what is missing."""
    store.prepare()
    index = store.index(KEYS)
    for rows in RANGES:
        if any(index.missing(key, DIGESTS[rows]).any() for key in KEYS):
            write(store, rows)


def check_readable(store: FeatureStore) -> dict[str, Any]:
    """Every row that is not missing reads back exactly; return what is there."""
    index, there = store.index(KEYS), {}
    for key in KEYS:
        there[key] = ~index.missing(key, DIGESTS)
        got = index.matrix(key, DIGESTS[there[key]]).read(slice(None))
        assert len(got) == there[key].sum()
        assert not len(got) or np.array_equal(got, FEATURES[there[key]])
    return there


def after_fault(root: Path, done: list[slice], *, strict: bool) -> None:
    """Check, resume and compare.

    Args:
        root: of the store.
        done: what was committed before the fault.
        strict: nothing committed may be lost, and nothing damaged may be seen.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error" if strict else "ignore", ProbekitWarning)
        there = check_readable(FeatureStore(root))
        if strict:
            assert all(there[key][rows].all() for key in KEYS for rows in done)
        again = FeatureStore(root, durability="fast")
        resume(again)
        assert all(there.all() for there in check_readable(again).values())
        assert not list(root.rglob("*.tmp"))


def tidy(root: Path) -> None:
    """What is of no use goes, what is of use stays."""
    store = FeatureStore(root, durability="fast")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbekitWarning)
        store.check()
    assert store.check() == []
    store.collect_garbage(older_than_days=None, dry_run=False)
    assert all(there.all() for there in check_readable(store).values())
    assert store.collect_garbage(older_than_days=None, dry_run=False) == (0, 0)


def loop(
    folder: Path,
    on_disk: Callable[[durable.Disk], None],
    fault: str,
    durability: durable.Durability,
    start: int = 1,
    **disk: Any,
) -> int:
    """Fail at every operation in turn; return how many there are."""
    codes: set[str] = set()
    for fail_at in itertools.count(start):
        place = folder / str(fail_at)
        place.mkdir()
        faulty, done = FaultyDisk(place, fail_at, fault, **disk), []
        on_disk(faulty)
        try:
            write_all(FeatureStore(place / "store", durability=durability), done)
        except Crash:
            pass
        except MachineError as error:
            codes.add(error.problems[0].code)
        on_disk(durable.Disk())
        if faulty.operations < fail_at:
            assert codes == {"EACCES": {"PK-R13"}, "ENOSPC": {"PK-R01"}, "EIO": {"PK-R01"}}.get(fault, set())
            return fail_at - 1
        if fault != "power":
            after_fault(place / "store", done, strict=True)
            if fail_at % 5 == 0:
                tidy(place / "store")
        for seed in range((SEEDS if durability == "full" else 2) if fault == "power" else 0):
            left = folder / f"{fail_at}-{seed}"
            left.mkdir()
            faulty.after_power_loss(seed, left)
            after_fault(left / "store", done, strict=durability == "full")
            shutil.rmtree(left)
        shutil.rmtree(place)
    raise AssertionError


@pytest.mark.parametrize("fault", ["crash", "power", "ENOSPC", "EIO", "EACCES"])
def test_a_fault_at_any_operation_loses_nothing_that_was_committed(folder, on_disk, fault):
    assert loop(folder, on_disk, fault, "full") > 50


@pytest.mark.parametrize("fault", ["crash", "power"])
def test_without_syncing_a_fault_at_any_operation_is_noticed(folder, on_disk, fault):
    assert loop(folder, on_disk, fault, "fast") > 30


# --- the loop can fail: it finds protocols that are broken on purpose


def record_first(self: FeatureStore, digests: Any, entries: Any, facts: Any) -> None:
    shards, contents, files = {}, {}, self._files
    range_id = digests[""].tobytes().hex()[:32]
    for e in entries:
        identity = {"format": SHARD_FORMAT, "key": e.key, "range": range_id, "variant": ""}
        content = contents[files.shard(e.key, range_id)] = encode(e.features, e.dtype, e.label, identity)
        sha256 = hashlib.sha256(content).hexdigest()
        shards[e.key] = Shard(e.key, "", e.label, len(content), sha256, *e.features.shape, e.dtype, None)
    record = Record(range_id, 0.0, len(digests[""]), digests, tuple(shards), facts, {}, shards)
    durable.write_file(files.record(range_id), record.to_bytes())
    for path, content in contents.items():
        durable.make_folder(path.parent)
        durable.write_file(path, content)


def no_rename(self: durable.Temporary, path: Path, durability: durable.Durability = "full") -> None:
    self.path = self.temporary = path
    self.durability, self._committed = durability, True
    self._file = durable.disk.open(path)


def commit_in_place(self: durable.Temporary) -> None:
    durable.disk.fsync(self._file)
    self._close()


def test_the_loop_finds_a_record_written_before_its_shards(folder, on_disk, monkeypatch):
    monkeypatch.setattr(FeatureStore, "write_range", record_first)
    with pytest.raises((AssertionError, ProbekitWarning)):
        loop(folder, on_disk, "crash", "full")


def test_the_loop_finds_files_written_in_place(folder, on_disk, monkeypatch):
    monkeypatch.setattr(durable.Temporary, "__init__", no_rename)
    monkeypatch.setattr(durable.Temporary, "commit", commit_in_place)
    with pytest.raises((AssertionError, ProbekitWarning)):
        loop(folder, on_disk, "crash", "full")


def test_the_loop_finds_files_that_are_not_synced(folder, on_disk):
    with pytest.raises((AssertionError, ProbekitWarning)):
        loop(folder, on_disk, "power", "full", start=50, sync=False)


def test_the_loop_finds_folders_that_are_not_synced(folder, on_disk, monkeypatch):
    monkeypatch.setattr(FaultyDisk, "fsync_folder", lambda self, folder: self._count("fsync_folder"))
    with pytest.raises((AssertionError, ProbekitWarning)):
        loop(folder, on_disk, "power", "full", start=50)


def test_the_loop_finds_readers_that_do_not_check(folder, on_disk, monkeypatch):
    check = layout.check_shard
    monkeypatch.setattr(layout, "check_shard", lambda *args, digest: check(*args, digest=False))
    with pytest.raises((AssertionError, ProbekitWarning)):
        loop(folder, on_disk, "power", "fast", start=30)
