"""The file of one feature matrix, against safetensors' own reader and torch's own conversion."""

import hashlib
import json
import mmap
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from probekit.errors import InputError
from probekit.store import shards
from probekit.store.shards import BadShardError, Shard, ShardMaps, check_shard, encode, widen

RANGE = "0" * 32
KEY = "a" * 16
FACTS = {"format": 1, "key": KEY, "range": RANGE, "variant": ""}
X = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)


def shard_of(content, dtype="float32", shape=(9, 5), **others):
    sha256 = hashlib.sha256(content).hexdigest()
    return replace(Shard(KEY, "", "conv1", len(content), sha256, *shape, dtype, None), **others)


def written(path, dtype="float32", features=X):
    content = encode(features, dtype, "conv1", FACTS)
    path.write_bytes(content)
    return shard_of(content, dtype, features.shape)


@pytest.mark.parametrize("dtype", shards.DTYPES)
def test_safetensors_reads_what_is_written(tmp_path, dtype):
    written(tmp_path / "x", dtype)
    assert load_file(tmp_path / "x")["features"].equal(torch.from_numpy(X).to(getattr(torch, dtype)))
    with safe_open(tmp_path / "x", "np") as file:
        assert list(file.metadata()) == ["probekit"]
        assert json.loads(file.metadata()["probekit"]) == FACTS


@pytest.mark.parametrize("dtype", shards.DTYPES)
@pytest.mark.parametrize("shape", [(9, 5), (0, 5), (3, 0), (1, 1), (700, 300)])
def test_a_map_widened_is_torchs_conversion(tmp_path, dtype, shape):
    features = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    shard = written(tmp_path / "x", dtype, features)
    check_shard(tmp_path / "x", shard, RANGE, digest=True)
    stored = ShardMaps().get(tmp_path / "x", shard, RANGE)
    out = np.full(shape, np.nan, np.float32)
    widen(stored, dtype, out)
    assert np.array_equal(out, torch.from_numpy(features).to(getattr(torch, dtype)).float().numpy())
    assert not stored.flags.writeable


@pytest.mark.parametrize("dtype", shards.DTYPES)
def test_any_memory_order_is_written_alike(dtype):
    plain = encode(X, dtype, "", FACTS)
    readonly = X.copy()
    readonly.flags.writeable = False
    assert encode(np.asfortranarray(X), dtype, "", FACTS) == plain
    assert encode(np.repeat(X, 2, axis=0)[::2], dtype, "", FACTS) == plain
    assert encode(readonly, dtype, "", FACTS) == plain


@pytest.mark.parametrize("dtype", shards.DTYPES)
def test_what_is_not_finite_already_is_kept(tmp_path, dtype):
    features = np.array([[np.inf, -np.inf, np.nan, 1e-30, 0.0]], np.float32)
    written(tmp_path / "x", dtype, features)
    got = load_file(tmp_path / "x")["features"].float().numpy()
    assert np.array_equal(got[:, :3], features[:, :3], equal_nan=True)


@pytest.mark.parametrize(("dtype", "value"), [("float16", 70000.0), ("float16", -65520.0), ("bfloat16", 3.4e38)])
def test_values_too_large_for_half_are_refused(dtype, value):
    with pytest.raises(InputError) as caught:
        encode(np.array([[value, 1.0, np.inf, value]], np.float32), dtype, "layer4", FACTS)
    (problem,) = caught.value.problems
    assert problem.code == "PK-M40"
    assert problem.what.startswith(f"2 values of 'layer4' are too large for {dtype}; the largest is ")
    assert problem.hint == "set store.dtype: float32"


def test_the_largest_half_is_kept():
    encode(np.array([[65504.0, 65519.0]], np.float32), "float16", "", FACTS)


# --- damage


def with_header(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def own(features=X, dtype=torch.float32, metadata=None, name="features"):
    return save({name: torch.from_numpy(features).to(dtype)}, metadata or {"probekit": json.dumps(FACTS)})


GOOD = encode(X, "float32", "conv1", FACTS)
LENGTH = struct.unpack("<Q", GOOD[:8])[0]


DAMAGE = {
    "a flipped bit in a value": (GOOD[:-3] + bytes([GOOD[-3] ^ 4]) + GOOD[-2:], "its content is not what was written"),
    "a flipped bit in the header": (GOOD[:12] + bytes([GOOD[12] ^ 4]) + GOOD[13:], "it is no feature shard"),
    "truncated": (GOOD[:-1], f"it has {len(GOOD) - 1} bytes, not {len(GOOD)}"),
    "trailing bytes": (GOOD + b"\0", f"it has {len(GOOD) + 1} bytes"),
    "empty": (b"", "it has 0 bytes"),
    "zeros": (bytes(len(GOOD)), "its header would have 0 bytes"),
    "zeros after the header": (GOOD[: 8 + LENGTH] + bytes(len(GOOD) - 8 - LENGTH), "its content is not"),
    "ones": (b"\xff" * len(GOOD), "its header would have"),
    "a web page": (b"<!DOCTYPE html>".ljust(len(GOOD)), "its header would have"),
    "a header that is no JSON": (with_header(b"{" * LENGTH, GOOD[8 + LENGTH :]), "its header is damaged"),
    "a header of another sort": (with_header(b"[]".ljust(LENGTH), GOOD[8 + LENGTH :]), "it is no feature shard"),
    "a deep header": (with_header(b"[" * 100_000, b""), "its header is damaged"),
}


@pytest.mark.parametrize(("content", "why"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused(tmp_path, content, why):
    (tmp_path / "x").write_bytes(content)
    shard = shard_of(content) if len(content) > 2 * len(GOOD) else shard_of(GOOD)
    with pytest.raises(BadShardError, match=why):
        check_shard(tmp_path / "x", shard, RANGE, digest=True)


FOREIGN = {
    "of another key": own(metadata={"probekit": json.dumps({**FACTS, "key": "b" * 16})}),
    "of another range": own(metadata={"probekit": json.dumps({**FACTS, "range": "1" * 32})}),
    "of another variant": own(metadata={"probekit": json.dumps({**FACTS, "variant": "v"})}),
    "of another version": own(metadata={"probekit": json.dumps({**FACTS, "format": 2})}),
    "without metadata": own(metadata={"other": "{}"}),
    "with metadata that is no JSON": own(metadata={"probekit": "{"}),
    "with metadata of another sort": own(metadata={"probekit": "3"}),
    "of another dtype": own(dtype=torch.float64),
    "of another shape": own(features=np.ascontiguousarray(X.T)),
    "of another tensor": own(name="weights"),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_something_else_is_refused_whatever_its_digest(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadShardError, match=r"it (belongs|is no|does not)"):
        check_shard(tmp_path / "x", shard_of(content), RANGE, digest=True)


def test_what_is_no_file_is_refused(tmp_path):
    shard = shard_of(GOOD)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, why in [("absent", "gone"), ("folder", "regular"), ("fifo", "regular"), ("loop", "cannot be opened")]:
        with pytest.raises(BadShardError, match=why):
            check_shard(tmp_path / name, shard, RANGE, digest=True)


# --- maps


def test_only_the_last_used_stay_mapped(tmp_path):
    maps = ShardMaps(most=2)
    shard = written(tmp_path / "0")
    for name in "123":
        written(tmp_path / name)
    first = maps.get(tmp_path / "0", shard, RANGE)
    for name in "1023":
        maps.get(tmp_path / name, shard, RANGE)
    assert list(maps._maps) == [tmp_path / "2", tmp_path / "3"]
    assert np.array_equal(first, X)  # a view outlives its place among the maps
    maps.forget(tmp_path / "2")
    maps.forget(tmp_path / "2")
    assert list(maps._maps) == [tmp_path / "3"]


def test_rows_are_fetched_by_whole_pages(tmp_path, monkeypatch):
    class Noted(mmap.mmap):
        def madvise(self, *what):
            asked.append(what)
            super().madvise(*what)  # raises where the start is no page's

    asked = []
    monkeypatch.setattr(mmap, "mmap", Noted)
    features = np.arange(12_000, dtype=np.float32).reshape(3000, 4)
    shard, maps = written(tmp_path / "x", features=features), ShardMaps()
    maps.fetch(tmp_path / "x", shard, RANGE, slice(1000, 3000))
    offset = (tmp_path / "x").stat().st_size - features.nbytes
    first, last = offset + 1000 * 16, offset + 3000 * 16
    ((advice, start, length),) = asked
    assert advice == mmap.MADV_WILLNEED
    assert start == first - first % mmap.PAGESIZE
    assert start + length == last
    assert np.array_equal(maps.get(tmp_path / "x", shard, RANGE), features)
    empty = written(tmp_path / "y", features=features[:0])
    maps.fetch(tmp_path / "y", empty, RANGE, slice(0, 0))
    assert len(asked) == 1


def test_where_the_system_takes_no_advice_rows_are_read_all_the_same(tmp_path, monkeypatch):
    monkeypatch.delattr(mmap, "MADV_WILLNEED")
    shard, maps = written(tmp_path / "x"), ShardMaps()
    maps.fetch(tmp_path / "x", shard, RANGE, slice(0, 9))
    assert np.array_equal(maps.get(tmp_path / "x", shard, RANGE), X)


def test_a_map_is_not_copied(tmp_path):
    maps = ShardMaps()
    shard = written(tmp_path / "x")
    assert np.shares_memory(maps.get(tmp_path / "x", shard, RANGE), maps.get(tmp_path / "x", shard, RANGE))


def test_a_file_that_changed_its_size_is_not_mapped(tmp_path):
    shard = written(tmp_path / "x")
    os.truncate(tmp_path / "x", 100)
    with pytest.raises(BadShardError, match="it has 100 bytes"):
        ShardMaps().get(tmp_path / "x", shard, RANGE)
