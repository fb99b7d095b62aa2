"""The feature store against NumPy and plain Python, and against damage of every sort."""

import base64
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from probekit import durable
from probekit.errors import InputError, MachineError, ProbekitWarning
from probekit.store import layout, locks
from probekit.store import matrix as matrix_module
from probekit.store.feature_store import Entry, FeatureStore
from probekit.store.lookup import Lookup
from probekit.store.shards import DTYPES, ShardMaps

A, B = "a" * 64, "b" * 64
DIGESTS = np.random.default_rng(0).integers(0, 256, (20, 16), np.uint8)
X = np.random.default_rng(1).integers(-99, 99, (20, 3)).astype(np.float32)


def write(store, rows, keys=(A,), dtype="float32", facts=None, **more):
    entries = [Entry(key, f"tap {key[0]}", X[rows] + number, dtype) for number, key in enumerate(keys)]
    return store.write_range({"": DIGESTS[rows]}, entries, facts or {}, **more)


@pytest.fixture
def store(tmp_path):
    """A store of two keys in four ranges of five examples."""
    store = FeatureStore(tmp_path / "store", durability="fast")
    store.prepare()
    for start in range(0, 20, 5):
        write(store, slice(start, start + 5), (A, B), facts={"start": start})
    return FeatureStore(store.root, durability="fast")


def codes(error):
    return [problem.code for problem in error.value.problems]


def shard_files(store, key=A):
    return sorted((store.root / "features" / key[:2] / key).glob("*.safetensors"))


def records(store):
    return sorted((store.root / "ranges").glob("*.json"))


def in_quarantine(store):
    return sorted(path.name for path in (store.root / "quarantine").iterdir())


def check_all_there(store, key=A, add=0.0):
    index = store.index([key])
    assert not index.missing(key, DIGESTS).any()
    assert np.array_equal(index.matrix(key, DIGESTS).read(slice(None)), X + add)


# --- the layout


def test_the_folders_hold_hashes_only_and_nothing_holds_a_path(store):
    names = {part for path in store.root.rglob("*") for part in path.relative_to(store.root).with_suffix("").parts}
    hashes = {name for name in names if set(name) <= set("0123456789abcdef")}
    assert names - hashes == {"probekit-store", "ranges", "features", "locks", "quarantine", "used"}
    assert json.loads((store.root / "probekit-store.json").read_text()) == {"format": 1}
    for path in records(store):
        assert str(store.root) not in path.read_text()


def test_a_record_is_canonical_json_behind_its_digest(store):
    record = json.loads(records(store)[0].read_bytes())
    digest = record.pop("digest")
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    start = record["facts"]["start"]
    assert base64.b64decode(record["variants"][""]) == DIGESTS[start : start + 5].tobytes()
    for shard in record["shards"]:
        path = store.root / "features" / shard["key"][:2] / shard["key"] / f"{record['id']}.safetensors"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        assert path.stat().st_size == shard["size"]
        assert np.array_equal(load_file(path)["features"], X[start : start + 5] + (shard["key"] == B))


def test_a_store_that_is_not_there_has_nothing(tmp_path):
    store = FeatureStore(tmp_path / "absent")
    assert store.index([A]).missing(A, DIGESTS).all()
    assert store.entries() == store.check() == []
    assert store.collect_garbage(older_than_days=0, dry_run=False) == (0, 0)
    assert not (tmp_path / "absent").exists()


def test_what_is_written_is_seen_by_the_next_index(tmp_path):
    store = FeatureStore(tmp_path / "store")
    store.prepare()
    before = store.index([A])
    write(store, slice(0, 20))
    assert before.missing(A, DIGESTS).all()
    check_all_there(store)


# --- matrices against NumPy's fancy indexing


@pytest.mark.parametrize("least", [1, 1 << 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_in_any_order_are_those_of_numpy(tmp_path, monkeypatch, dtype, least):
    monkeypatch.setattr(matrix_module, "_COPIED_BY_RUN", dict.fromkeys(DTYPES, least))  # stretch by stretch, or sorted
    store = FeatureStore(tmp_path / "store", durability="fast")
    store.prepare()
    for start, stop in [(0, 1), (1, 12), (12, 20)]:
        write(store, slice(start, stop), dtype=dtype)
    order = np.random.default_rng(2).permutation(np.r_[0:20, 3, 3, 19])
    matrix, truth = store.index([A]).matrix(A, DIGESTS[order]), X[order]
    assert matrix.shape == truth.shape
    assert len(matrix) == len(truth)
    assert np.array_equal(matrix.counts, np.ones(len(order)))
    for rows in (slice(None), slice(3, 9), slice(None, None, -2), slice(30, 40), slice(5, 5)):
        got = matrix.read(rows)
        assert np.array_equal(got, truth[rows])
        assert got.dtype == np.float32
        assert got.flags.c_contiguous
        assert got.flags.writeable
    for rows in ([0], [-1, 4, 4, 2], [], list(range(23))):
        assert np.array_equal(matrix.read(np.array(rows, int)), truth[rows].reshape(-1, 3))
    for size in (1, 4, 7, 23, 100):
        blocks = list(matrix.blocks(size))
        assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        assert np.array_equal(np.concatenate(blocks), truth)
        some = np.array([5, 1, 1, 22, 0, -3])
        assert np.array_equal(np.concatenate(list(matrix.blocks(size, some))), truth[some])
    assert np.array_equal(np.asarray(matrix), truth)
    assert np.asarray(matrix, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="by a copy"):
        np.asarray(matrix, copy=False)


def test_rows_that_are_not_there_are_refused(store):
    matrix = store.index([A]).matrix(A, DIGESTS[:4])
    for rows in ([4], [-5], [0, 100]):
        with pytest.raises(IndexError):
            matrix.read(np.array(rows))
    with pytest.raises(TypeError):
        matrix.read(np.array([0.5]))
    with pytest.raises(TypeError):
        matrix.read(np.array([[0]]))


def test_a_block_in_one_shard_is_its_memory(store):
    index = store.index([A])
    blocks = [list(index.matrix(A, DIGESTS).blocks(5)) for _ in range(2)]
    assert all(np.shares_memory(one, other) for one, other in zip(*blocks, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        blocks[0][0][0] = 0
    across = list(index.matrix(A, DIGESTS).blocks(4))
    assert across[1].flags.writeable  # rows of two shards: a copy


def test_a_block_ends_where_a_long_shard_does_unless_the_rows_lie_scattered(tmp_path):
    features = np.random.default_rng(0).standard_normal((700, 2), dtype=np.float32)
    digests = np.random.default_rng(1).integers(0, 256, (700, 16), dtype=np.uint8)
    large = FeatureStore(tmp_path / "large")
    large.prepare()
    for part in (slice(0, 300), slice(300, 700)):
        large.write_range({"": digests[part]}, [Entry(A, "a", features[part])], {})
    matrix = large.index([A]).matrix(A, digests)
    blocks, again = list(matrix.blocks(1000)), list(matrix.blocks(1000))
    assert [len(block) for block in blocks] == [300, 400]
    assert all(np.shares_memory(one, other) for one, other in zip(blocks, again, strict=True))
    assert np.array_equal(np.concatenate(blocks), features)
    assert [len(block) for block in matrix.blocks(250)] == [250, 250, 200]
    order = np.random.default_rng(2).permutation(700)
    scattered = list(matrix.blocks(500, order))
    assert [len(block) for block in scattered] == [500, 200]
    assert np.array_equal(np.concatenate(scattered), features[order])


def test_the_system_fetches_a_few_blocks_ahead(tmp_path, monkeypatch):
    fetched = []

    def fetch(maps, path, shard, range_id, rows):
        fetched.append((rows.start, rows.stop))

    monkeypatch.setattr(ShardMaps, "fetch", fetch)
    store = FeatureStore(tmp_path / "store", durability="fast")
    store.prepare()
    write(store, slice(0, 20))
    matrix = store.index([A]).matrix(A, DIGESTS)
    blocks = matrix.blocks(5)
    next(blocks)
    assert fetched == [(0, 5), (5, 10), (10, 15)]
    next(blocks)
    assert fetched[3:] == [(15, 20)]
    assert len(list(blocks)) == 2
    assert len(fetched) == 4
    list(matrix.blocks(20))  # one block is read at once
    assert len(fetched) == 4
    monkeypatch.setattr(matrix_module, "_GAP_BYTES", 3 * 12)
    list(matrix.blocks(4, np.array([9, 0, 2, 6, 1])))
    assert fetched[4:] == [(0, 3), (6, 10), (1, 2)]


def test_no_examples_give_no_rows(store):
    matrix = store.index([A]).matrix(A, DIGESTS[:0])
    assert matrix.shape == (0, 3)
    assert list(matrix.blocks()) == []
    assert matrix.read(slice(None)).shape == (0, 3)
    assert FeatureStore(store.root / "x").index([A]).matrix(A, DIGESTS[:0]).shape == (0, 0)


def test_missing_examples_are_a_fault_of_the_program(store):
    with pytest.raises(KeyError, match="1 of 2 examples"):
        store.index([A]).matrix(A, np.stack([DIGESTS[0], np.zeros(16, np.uint8)]))
    with pytest.raises(KeyError):
        store.index([A]).missing(B, DIGESTS)
    with pytest.raises(ValueError, match="digests are uint8"):
        store.index([A]).missing(A, DIGESTS[:, :8])
    with pytest.raises(ValueError, match="hex digits"):
        store.index(["../../etc"])


def test_facts_come_in_the_order_of_the_rows_and_once(store):
    write(store, slice(0, 1), facts={"start": 15})
    index = store.index([A])
    assert index.facts(A, DIGESTS[[18, 1, 6, 2, 0]]) == [{"start": 15}, {"start": 0}, {"start": 5}]
    assert index.facts(A, np.zeros((3, 16), np.uint8)) == []


def test_digests_are_compared_to_the_last_byte(store):
    other = DIGESTS.copy()
    other[:, 15] ^= 1
    assert store.index([A]).missing(A, other).all()


@st.composite
def histories(draw):
    """Ranges of examples, some of them again and again, and rows to ask for: numbers of a pool of examples."""
    example = st.integers(0, 11)
    some = st.lists(
        st.tuples(st.lists(example, max_size=8), st.booleans(), st.sampled_from(DTYPES), st.sets(example)), max_size=6
    )
    return draw(some), draw(st.lists(example, max_size=30))


@settings(max_examples=40, deadline=None)
@given(histories())
def test_any_history_reads_back(history):
    ranges, asked = history
    pool = np.zeros((12, 16), np.uint8)
    pool[:, 0] = np.arange(12) // 4  # four share their first eight bytes
    pool[:, 15] = np.arange(12) % 4
    counts = np.array([1, 0, 3, 2, 1, 1, 4, 0, 2, 1, 1, 5])
    features = [np.arange(count * 2, dtype=np.float32).reshape(count, 2) + 16 * e for e, count in enumerate(counts)]
    read, refused = {}, {}
    with tempfile.TemporaryDirectory() as place:
        store = FeatureStore(Path(place) / "s", durability="fast")
        store.prepare()
        for examples, positions, dtype, unreadable in ranges:
            key = A if positions else B
            bad = {row: f"bad {e}" for row, e in enumerate(examples) if e in unreadable}
            good = [e for e in examples if e not in unreadable]
            rows = [features[e] if positions else np.array([[e, -e]]) for e in good]
            entry = Entry(key, "t", np.concatenate([np.zeros((0, 2)), *rows]).astype(np.float32), dtype, "v")
            if positions:
                of_each = [0 if e in unreadable else counts[e] for e in examples]
                entry = Entry(key, "t", entry.features, dtype, "v", np.array(of_each, int))
            store.write_range({"": pool[examples][::-1], "v": pool[examples]}, [entry], {}, bad)
            read.setdefault(key, set()).update(good)
            refused.setdefault(key, set()).update(e for e in examples if e in unreadable)
        for key in (A, B):
            index, digests = FeatureStore(store.root).index([A, B]), pool[asked]
            readable = read.get(key, set())
            known = [e for e in asked if e in readable | refused.get(key, set())]
            assert index.missing(key, digests).tolist() == [e not in known for e in asked]
            assert index.bad(key, digests) == {
                i: f"bad {e}" for i, e in enumerate(asked) if e in refused.get(key, set()) - readable
            }
            matrix = index.matrix(key, pool[known])
            parts = [features[e] if key == A else np.array([[e, -e]]) for e in known if e in readable]
            truth = np.concatenate([np.zeros((0, 2)), *parts])
            assert matrix.counts.tolist() == [0 if e not in readable else counts[e] if key == A else 1 for e in known]
            if known:
                assert np.array_equal(matrix.read(slice(None)), truth)
                shuffled = np.random.default_rng(0).permutation(len(truth))
                assert np.array_equal(matrix.read(shuffled), truth[shuffled])
                assert np.array_equal(np.concatenate([truth[:0], *matrix.blocks(3)]), truth)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), max_size=9), max_size=5), st.lists(st.integers(0, 60), max_size=40))
def test_a_lookup_finds_the_first_table(tables, asked):
    pool = np.zeros((61, 16), np.uint8)
    pool[:, 3], pool[:, 9] = np.arange(61) // 5, np.arange(61) % 5
    lookup = Lookup([pool[table] for table in tables], [None] * len(tables))
    flat = [number for table in tables for number in table]
    expected = [flat.index(number) if number in flat else -1 for number in asked]
    for _ in range(2):
        assert lookup.find(pool[asked]).positions.tolist() == expected
    owners = [number for number, table in enumerate(tables) for _ in table]
    assert lookup.find(pool[asked]).tables == sorted({owners[place] for place in expected if place >= 0})
    assert lookup.tables_of(np.arange(len(flat))).tolist() == owners


def test_a_row_read_after_all_wins_over_one_that_could_not_be_read(tmp_path):
    store = FeatureStore(tmp_path / "s", durability="fast")
    store.prepare()
    write(store, slice(0, 4))
    store.write_range({"": DIGESTS[:4]}, [Entry(A, "t", X[:3])], {}, {3: "broken"})
    index = store.index([A])
    assert index.bad(A, DIGESTS[:4]) == {}
    assert np.array_equal(index.matrix(A, DIGESTS[:4]).read(slice(None)), X[:4])


@pytest.mark.parametrize(
    ("digests", "entry", "bad"),
    [
        ({}, Entry(A, "t", X[:4]), {}),
        ({"": DIGESTS[:4, :8]}, Entry(A, "t", X[:4]), {}),
        ({"": DIGESTS[:4].astype(np.int64)}, Entry(A, "t", X[:4]), {}),
        ({"": DIGESTS[:4], "v": DIGESTS[:3]}, Entry(A, "t", X[:4]), {}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:3]), {}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:4]), {2: "bad"}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:3]), {4: "bad"}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:4], variant="v"), {}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:4].astype(np.float64)), {}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:4], counts=np.array([1, 1, 1])), {}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:4], counts=np.array([1, 1, 1, 1])), {0: "bad"}),
        ({"": DIGESTS[:4]}, Entry(A, "t", X[:4], counts=np.array([5, -1, 0, 0])), {}),
        ({"": DIGESTS[:4]}, Entry("../x", "t", X[:4]), {}),
    ],
)
def test_what_does_not_fit_is_a_fault_of_the_program(tmp_path, digests, entry, bad):
    store = FeatureStore(tmp_path / "s", durability="fast")
    store.prepare()
    with pytest.raises(ValueError, match=r"\w"):
        store.write_range(digests, [entry], {}, bad)
    assert records(store) == []
    assert not list(store.root.rglob("*.tmp"))


def test_a_key_twice_and_facts_that_are_no_json_are_refused(tmp_path):
    store = FeatureStore(tmp_path / "s", durability="fast")
    store.prepare()
    with pytest.raises(ValueError, match="twice"):
        write(store, slice(0, 4), (A, A))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(store, slice(0, 4), facts={"x": float("nan")})
    assert records(store) == []


def test_values_too_large_for_half_write_nothing(tmp_path):
    store = FeatureStore(tmp_path / "s", durability="fast")
    store.prepare()
    entries = [Entry(B, "conv1", X[:1]), Entry(A, "conv9", np.full((1, 3), 1e6, np.float32), "float16")]
    with pytest.raises(InputError) as error:
        store.write_range({"": DIGESTS[:1]}, entries, {})
    assert codes(error) == ["PK-M40"]
    assert "'conv9'" in str(error.value)
    assert records(store) == shard_files(store) == shard_files(store, B) == []


def test_a_store_can_be_sent_to_another_process(store):
    check_all_there(pickle.loads(pickle.dumps(store)))


# --- damage (R16): found, set aside, extracted again


def swap(path):
    other = path.parents[2] / B[:2] / B / path.name
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGE = {
    "bit flip": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "truncated": lambda path: os.truncate(path, 50),
    "emptied": lambda path: os.truncate(path, 0),
    "zero-filled": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "trailing bytes": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "another key's": swap,
    "another range's": lambda path: shutil.copy(sorted(set(path.parent.glob("*.saf*")) - {path})[0], path),
    "foreign": lambda path: path.write_text("<html>"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_damaged_shard_is_set_aside_and_its_rows_are_missing(tmp_path, damage, dtype):
    store = FeatureStore(tmp_path / "store", durability="fast")
    store.prepare()
    ids = [write(store, slice(start, start + 5), (A, B), dtype) for start in range(0, 20, 5)]
    path = store.root / "features" / A[:2] / A / f"{ids[1]}.safetensors"
    damage(path)
    index = FeatureStore(store.root).index([A, B])
    with pytest.warns(ProbekitWarning, match=f"'tap a' are damaged: .*{ids[1]}") as told:
        missing = index.missing(A, DIGESTS)
    assert len(told) == 1
    assert np.flatnonzero(missing).tolist() == list(range(5, 10))
    assert [name[:97] for name in in_quarantine(store)] == [f"{A}.{ids[1]}"]
    assert not path.exists()
    assert index.missing(A, DIGESTS).sum() == 5  # told once
    ((keys, digests),) = index.together(A, DIGESTS)
    assert keys == (A, B)
    assert np.array_equal(digests, DIGESTS[5:10])
    write(store, slice(5, 10), (A, B), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if damage is swap else "error")
        check_all_there(FeatureStore(store.root))
        check_all_there(FeatureStore(store.root), B, 1.0)


def test_a_matrix_alone_finds_damage_too(store):
    DAMAGE["bit flip"](shard_files(store)[0])
    with pytest.warns(ProbekitWarning, match="its content is not what was written"), pytest.raises(KeyError):
        store.index([A]).matrix(A, DIGESTS)


def test_a_digest_is_compared_once_or_for_every_index(store):
    full = FeatureStore(store.root, verify="full")
    for opened in (store, full):
        assert not opened.index([A]).missing(A, DIGESTS).any()
    DAMAGE["bit flip"](shard_files(store)[0])
    assert not store.index([A]).missing(A, DIGESTS).any()
    with pytest.warns(ProbekitWarning, match="not what was written"):
        assert full.index([A]).missing(A, DIGESTS).sum() == 5
    # The size is compared always.
    os.truncate(shard_files(store)[0], 10)
    with pytest.warns(ProbekitWarning, match=r"it has 10 bytes|are gone") as told:
        missing = [store.index([A]).missing(A, DIGESTS).sum() for _ in range(2)]
    assert missing == [10, 10]
    assert len(told) == 2  # each once, however many indexes there are


def test_only_the_shards_that_are_asked_for_are_read(store, monkeypatch):
    seen = []
    check = layout.check_shard
    monkeypatch.setattr(layout, "check_shard", lambda path, *a, **k: (seen.append(path), check(path, *a, **k)))
    store.index([A, B]).missing(A, DIGESTS[:5])
    assert len(seen) == 1


def test_a_missing_shard_is_told_once_and_can_be_extracted_as_it_was(store):
    shard_files(store)[0].unlink()
    index = store.index([A])
    with pytest.warns(ProbekitWarning, match=r"'tap a' are gone \(1 of them\); 5 examples") as told:
        missing = index.missing(A, DIGESTS)
    ((keys, digests),) = index.together(A, DIGESTS)
    assert len(told) == 1
    assert keys == (A, B)
    assert np.array_equal(digests, DIGESTS[missing])
    assert index.together(A, DIGESTS[~missing]) == []


def test_a_key_that_is_gone_as_a_whole_is_simply_missing(store):
    shutil.rmtree(shard_files(store)[0].parent)
    index = store.index([A])
    assert index.missing(A, DIGESTS).all()
    assert index.together(A, DIGESTS) == []
    assert store.check() == []


def test_a_second_copy_of_a_row_stands_in_for_a_damaged_one(store):
    write(store, slice(0, 20))
    newest = max(shard_files(store), key=lambda path: path.stat().st_size)
    os.truncate(newest, 9)
    with pytest.warns(ProbekitWarning, match="it has 9 bytes"):
        check_all_there(store)


def test_a_shard_that_vanishes_while_it_is_read_is_told(store):
    matrix = store.index([A]).matrix(A, DIGESTS)
    shutil.rmtree(store.root / "features")
    with pytest.raises(MachineError) as error:
        matrix.read(slice(None))
    assert codes(error) == ["PK-R17"]
    assert str(error.value).endswith("it is gone; run the same command again")
    with pytest.raises(MachineError, match="it is gone"):
        next(matrix.blocks(4))


def test_a_shard_that_may_not_be_read_is_not_damaged(store, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(layout, "check_shard", refuse)
    with pytest.raises(MachineError) as error:
        store.index([A]).missing(A, DIGESTS)
    assert codes(error) == ["PK-R13"]
    assert in_quarantine(store) == []


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(store, monkeypatch):
    os.truncate(shard_files(store)[0], 9)

    class ReadOnly(durable.Disk):
        def replace(self, source, target):
            raise OSError(30, "Read-only file system")

    monkeypatch.setattr(durable, "disk", ReadOnly())
    with pytest.warns(ProbekitWarning, match="could not be moved: Read-only file system"):
        assert store.index([A]).missing(A, DIGESTS).sum() == 5


# --- garbage where records are due (R17), other versions (R18)


def rewritten(path, **changes):
    record = json.loads(path.read_bytes())
    del record["digest"]
    text = json.dumps({**record, **changes}, sort_keys=True, separators=(",", ":"))
    path.write_text(f'{{"digest":"{hashlib.sha256(text.encode()).hexdigest()}",{text[1:]}')


GARBAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "a list": lambda path: path.write_text("[]"),
    "no schema": lambda path: path.write_text("{}"),
    "changed": lambda path: path.write_bytes(path.read_bytes().replace(b'"start":', b'"strat":')),
    "another range's": lambda path: shutil.copy(sorted(set(path.parent.iterdir()) - {path})[0], path),
    "a bad offset": lambda path: rewritten(path, bad={"77": "x"}),
    "too few digests": lambda path: rewritten(path, variants={"": ""}),
    "no digests": lambda path: rewritten(path, variants={}),
    "no base64": lambda path: rewritten(path, variants={"": "?" * 107}),
    "shards of another sort": lambda path: rewritten(path, shards=[{"key": A}]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", GARBAGE.values(), ids=GARBAGE)
def test_a_damaged_record_is_set_aside_and_its_rows_are_missing(store, damage):
    path = records(store)[0]
    start = json.loads(path.read_bytes())["facts"]["start"]
    damage(path)
    with pytest.warns(ProbekitWarning, match=f"the record '{path.name}' of the feature store is not valid"):
        index = store.index([A])
    assert np.flatnonzero(index.missing(A, DIGESTS)).tolist() == list(range(start, start + 5))
    assert [name[: len(path.name) + 7] for name in in_quarantine(store)] == [f"ranges.{path.name}"]
    write(store, slice(start, start + 5), (A, B))
    check_all_there(FeatureStore(store.root))


@pytest.mark.parametrize("form", ["same", "other"])
def test_a_record_of_a_later_version_is_left_alone(store, form):
    path = records(store)[0]
    rewritten(path, schema=2)
    if form == "other":
        path.write_text(json.dumps({"schema": 2, "new": [A]}))
    content = path.read_bytes()
    with pytest.warns(ProbekitWarning, match="of a later version of probekit"):
        assert store.index([A]).missing(A, DIGESTS).sum() == 5
    store.index([A])  # told once
    assert [problem.code for problem in store.check()] == ["PK-R18"]
    store.collect_garbage(older_than_days=0, dry_run=False)
    assert path.read_bytes() == content
    assert len(shard_files(store)) == 1  # the shards that it may name are left alone too
    assert in_quarantine(store) == []


@pytest.mark.parametrize("marker", ['{"format": 2}', '{"format": "1"}', "{}", "[]", '{"format": true}'])
def test_a_store_of_another_format_is_refused_and_not_touched(store, marker):
    (store.root / "probekit-store.json").write_text(marker)
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    actions = [
        store.prepare,
        lambda: store.index([A]),
        store.entries,
        store.check,
        lambda: store.collect_garbage(older_than_days=0, dry_run=False),
    ]
    for action in actions:
        with pytest.raises(MachineError) as error:
            action()
        assert codes(error) == ["PK-R18"]
        assert "nothing was changed" in str(error.value)
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"{"])
def test_a_damaged_marker_is_written_again(store, content):
    (store.root / "probekit-store.json").write_bytes(content)
    with pytest.warns(ProbekitWarning, match="was damaged; it is written again"):
        store.prepare()
    store.prepare()
    check_all_there(store)


# --- other places (R19, R20, R22), limits (R21), clocks (R15)


def test_a_moved_and_a_copied_store_are_still_valid(store, tmp_path):
    shutil.copytree(store.root, tmp_path / "copy")
    shutil.move(store.root, tmp_path / "moved")
    for name in ("copy", "moved"):
        check_all_there(FeatureStore(tmp_path / name))
        assert FeatureStore(tmp_path / name).check() == []


def test_a_store_behind_a_link_works(store, tmp_path):
    (tmp_path / "link").symlink_to(store.root, target_is_directory=True)
    linked = FeatureStore(tmp_path / "link")
    linked.prepare()
    write(linked, slice(0, 20))
    check_all_there(linked)
    check_all_there(store)


@pytest.mark.parametrize("name", ["with spaces", "Ünïcödé 特徴", "x" * 200 + "/" + "y" * 200, "a\nb", "%s[*]?"])
def test_any_path_works(tmp_path, name):
    store = FeatureStore(tmp_path / name / "store")
    store.prepare()
    write(store, slice(0, 20))
    with store.lock("x", waiting=print):
        check_all_there(store)


@pytest.mark.parametrize("when", [0, 4_000_000_000])
def test_times_of_files_do_not_matter(store, when):
    for path in store.root.rglob("*"):
        os.utime(path, (when, when))
    store.prepare()
    check_all_there(store)
    assert store.check() == []


def run_child(code, *args, **kwargs):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], check=True, text=True, capture_output=True, **kwargs
    )


def test_a_thousand_keys_need_few_descriptors(tmp_path):
    code = """
import resource, sys, pathlib, numpy as np
from probekit.store.feature_store import Entry, FeatureStore
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
store = FeatureStore(pathlib.Path(sys.argv[1]), durability="fast")
store.prepare()
digests = np.arange(32, dtype=np.uint8).reshape(2, 16)
keys = [f"{n:032x}" for n in range(1000)]
store.write_range({"": digests}, [Entry(k, k, np.full((2, 2), n, np.float32)) for n, k in enumerate(keys)], {})
index = store.index(keys)
matrices = [index.matrix(key, digests) for key in keys]
assert all((matrix.read(slice(None)) == n).all() for n, matrix in enumerate(matrices))
assert len(store.entries()) == 1000 and store.check() == []
print("done")
"""
    assert run_child(code, tmp_path / "s").stdout == "done\n"


# --- preparing and writing on a disk that refuses


class Refusing(durable.Disk):
    """Refuses to write anything larger than some bytes, or anything at all."""

    def __init__(self, number, most):
        self.number, self.most = number, most

    def open(self, path):
        if self.most < 0:
            raise OSError(self.number, os.strerror(self.number))
        return super().open(path)

    def write(self, file, data):
        if len(data) > self.most:
            raise OSError(self.number, os.strerror(self.number))
        super().write(file, data)


@pytest.mark.parametrize(
    ("number", "code"), [(13, "PK-R13"), (30, "PK-R13"), (28, "PK-R01"), (122, "PK-R01"), (5, "PK-R01")]
)
def test_a_store_that_cannot_be_written_is_told_before_any_work(store, monkeypatch, number, code):
    monkeypatch.setattr(durable, "disk", Refusing(number, -1))
    with pytest.raises(MachineError) as error:
        store.prepare()
    assert codes(error) == [code]
    assert str(store.root) in str(error.value)


def test_a_disk_that_fills_is_told_with_what_is_needed_and_left_clean(store, monkeypatch):
    before = sorted(store.root.rglob("*"))
    monkeypatch.setattr(durable, "disk", Refusing(28, 1000))
    big = np.zeros((20, 5000), np.float32)
    with pytest.raises(MachineError) as error:
        store.write_range({"": DIGESTS}, [Entry(A, "small", X), Entry(B, "big", big)], {})
    assert codes(error) == ["PK-R01"]
    assert "is full: 400.2 kB are needed, " in str(error.value)
    assert sorted(store.root.rglob("*")) == before


def test_a_file_where_the_store_should_be_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"File exists|Not a directory"):
        FeatureStore(tmp_path / "file").prepare()


# --- several processes (R09 to R12)

HOLD = """
import sys, pathlib
from probekit.store.feature_store import FeatureStore
with FeatureStore(pathlib.Path(sys.argv[1])).lock("model", waiting=lambda who: print(who, flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(store):
    with subprocess.Popen([sys.executable, "-c", HOLD, store.root], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_a_loss_that_was_made_good_is_none(store):
    shard_files(store)[0].unlink()
    assert [problem.code for problem in store.check()] == ["PK-R17"]
    with pytest.warns(ProbekitWarning, match="are gone"):
        lost = store.index([A]).missing(A, DIGESTS)
    assert 0 < lost.sum() < len(lost)
    store.write_range({"": DIGESTS[lost]}, [Entry(A, "a", X[lost])], {})
    assert store.check() == []


def test_a_lock_that_another_process_holds_is_waited_for(store, holder):
    told = []

    def waiting(who):
        told.append(who)
        holder.kill()  # the kernel frees the lock of a dead process

    with store.lock("model", waiting=waiting):
        pass
    assert len(told) == 1
    assert f"process {holder.pid} on " in told[0]
    assert ", since 2" in told[0]


def test_a_lock_is_not_waited_for_longer_than_asked(store, holder):
    told = []
    for timeout in (0, 0.05):
        with pytest.raises(MachineError) as error, store.lock("model", timeout=timeout, waiting=told.append):
            raise AssertionError
        assert codes(error) == ["PK-R09"]
        assert f"process {holder.pid} on " in str(error.value)
    assert len(told) == 1
    with store.lock("another", timeout=0, waiting=told.append):
        pass
    holder.stdin.close()
    holder.wait()
    with store.lock("model", timeout=0, waiting=told.append):
        pass


@pytest.mark.parametrize("text", [b"", b"\xff\0", b"[]", b"{}", b'{"pid": 1, "host": "x", "start": "\\u001b[31m"}'])
def test_the_text_beside_a_lock_is_only_told(store, text):
    """A process number that is in use again, as that of process 1 in a container, holds nothing."""
    with store.lock("model", waiting=print):
        (path,) = (store.root / "locks").glob("*.json")
    path.write_bytes(text)
    with store.lock("model", timeout=0, waiting=print):
        path.write_bytes(text)
        refused = []

        def other():
            try:
                with FeatureStore(store.root).lock("model", timeout=0, waiting=print):
                    pass
            except MachineError as error:
                refused.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(refused) == 1
        assert "\x1b" not in refused[0]
    path.write_bytes(text)
    with store.lock("model", timeout=0, waiting=print):
        pass


def test_a_lock_is_free_after_an_error(store):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), store.lock("model", timeout=0, waiting=print):
            raise ZeroDivisionError
    assert not list((store.root / "locks").glob("*.json"))


def test_a_file_system_without_locks_is_told(store, monkeypatch):
    monkeypatch.setattr(durable, "_locked", lambda file: None)
    with pytest.raises(MachineError) as error, store.lock("model", waiting=print):
        raise AssertionError
    assert codes(error) == ["PK-R09"]
    assert "has no file locks" in str(error.value)
    assert locks.__doc__


def write_same(root, barrier):
    store = FeatureStore(root, durability="fast")
    barrier.wait()
    store.prepare()
    for start in range(0, 20, 2):
        write(store, slice(start, start + 2), (A, B))


def test_two_processes_that_write_the_same_both_end_with_a_valid_store(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    children = [context.Process(target=write_same, args=(tmp_path / "s", barrier)) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, in later versions of Python
        for child in children:
            child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    store = FeatureStore(tmp_path / "s")
    check_all_there(store)
    check_all_there(store, B, 1.0)
    assert store.check() == []
    assert len(records(store)) == 20


def test_many_threads_read_one_matrix(store):
    matrix = store.index([A]).matrix(A, DIGESTS)
    wrong = []

    def read(seed):
        rows = np.random.default_rng(seed).integers(0, 20, (50, 7))
        wrong.extend(r for r in rows if not np.array_equal(matrix.read(r), X[r]))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- looking after a store


def test_entries_tell_what_is_there(store):
    write(store, slice(0, 7), dtype="float16")
    newest, other = store.entries()
    assert (newest.key, newest.label, newest.rows, newest.width, newest.dtype, newest.ranges) == (
        A,
        "tap a",
        27,
        3,
        "float16",
        5,
    )
    assert newest.bytes == sum(path.stat().st_size for path in shard_files(store))
    assert (other.key, other.rows, other.dtype) == (B, 20, "float32")
    assert abs(newest.written - time.time()) < 1000
    assert abs(newest.used - time.time()) < 1000


def test_check_finds_all_damage_at_once(store):
    first, second, third, _ = shard_files(store)
    DAMAGE["bit flip"](first)
    second.unlink()
    record = store.root / "ranges" / f"{third.stem}.json"
    GARBAGE["truncated"](record)
    problems = [str(problem) for problem in store.check()]
    assert len(problems) == 3
    for path, why in [(first, "not what was written"), (second, "it is gone"), (record, "it is damaged")]:
        (line,) = [problem for problem in problems if path.name in problem]
        assert why in line
    assert len(in_quarantine(store)) == 2
    assert {problem.code for problem in FeatureStore(store.root).check()} == {"PK-R17"}  # the two shards are gone


def test_check_of_a_sound_store_finds_nothing(store):
    assert store.check() == []


def leave_garbage(store):
    """Leave one file of each sort; return the bytes."""
    orphan = shard_files(store)[0].with_name(f"{'0' * 32}.safetensors")
    orphan.write_bytes(b"x" * 10)
    stale = store.root / "ranges" / f".x.{'0' * 32}.tmp"
    stale.write_bytes(b"x" * 100)
    (store.root / "quarantine" / "x").write_bytes(b"x" * 1000)
    lonely = FeatureStore(store.root, durability="fast")
    range_id = write(lonely, slice(0, 5), ("c" * 64,))
    record = store.root / "ranges" / f"{range_id}.json"
    shard_files(store, "c" * 64)[0].unlink()
    return 1110 + record.stat().st_size


@pytest.mark.parametrize("dry_run", [True, False])
def test_garbage_is_collected_and_nothing_else(store, dry_run):
    before = sorted(path for path in store.root.rglob("*") if path.is_file())
    size = leave_garbage(store)
    littered = sorted(path for path in store.root.rglob("*") if path.is_file())
    assert store.collect_garbage(older_than_days=None, dry_run=dry_run) == (4, size)
    after = sorted(path for path in store.root.rglob("*") if path.is_file())
    assert [path for path in after if path.name != "used"] == [
        path for path in (littered if dry_run else before) if path.name != "used"
    ]
    check_all_there(store)
    check_all_there(store, B, 1.0)


def test_keys_out_of_use_go_as_a_whole(store):
    ago = time.time() - 10 * 86400
    for key in (A, B):
        os.utime(shard_files(store, key)[0].with_name("used"), (ago, ago))
    assert store.collect_garbage(older_than_days=11, dry_run=False) == (0, 0)
    assert store.collect_garbage(older_than_days=9, keep=[A, B], dry_run=False) == (0, 0)
    files, size = store.collect_garbage(older_than_days=9, keep=[B], dry_run=True)
    assert files == 4
    assert store.collect_garbage(older_than_days=9, keep=[B], dry_run=False) == (files, size)
    assert store.index([A]).missing(A, DIGESTS).all()  # without a warning: nothing was damaged
    assert not shard_files(store, B)[0].parents[1].with_name(A[:2]).exists()
    check_all_there(store, B, 1.0)
    assert store.check() == []
    # Reading a key is use.
    assert store.collect_garbage(older_than_days=9, dry_run=False) == (0, 0)
    os.utime(shard_files(store, B)[0].with_name("used"), (ago, ago))
    assert store.collect_garbage(older_than_days=9, dry_run=False)[0] == 8
    assert records(store) == []


def test_a_range_that_is_being_written_is_no_garbage(store, monkeypatch):
    """Garbage is collected at every operation of a write."""
    other = FeatureStore(store.root, durability="fast")
    collected = []

    class Meddling(durable.Disk):
        busy = False

        def _meddle(self):
            if not self.busy:
                self.busy = True
                collected.append(other.collect_garbage(older_than_days=None, dry_run=False))
                other.prepare()
                self.busy = False

        def open(self, path):
            self._meddle()
            return super().open(path)

        def write(self, file, data):
            self._meddle()
            super().write(file, data)

        def replace(self, source, target):
            self._meddle()
            super().replace(source, target)
            self._meddle()

        def mkdir(self, folder):
            super().mkdir(folder)
            self._meddle()

    monkeypatch.setattr(durable, "disk", Meddling())
    write(store, slice(0, 20), (A, "d" * 64))
    assert len(collected) > 10
    assert set(collected) == {(0, 0)}
    monkeypatch.setattr(durable, "disk", durable.Disk())
    check_all_there(store, "d" * 64, 1.0)
    assert store.check() == []


def test_a_folder_that_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / "mine").touch()
    assert FeatureStore(tmp_path).collect_garbage(older_than_days=0, dry_run=False) == (0, 0)
    assert (tmp_path / "quarantine" / "mine").exists()
