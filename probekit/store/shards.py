"""The file of one feature matrix of one row range: safetensors, checked on the way in, mapped on the way out.

The file has one tensor, ``features`` of shape (feature rows, width), and one metadata entry, ``probekit``: JSON with
the format's version, the key, the id of the row range and the variant of its rows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from probekit.errors import InputError, Problem
from probekit.zero_copy import tensor_of

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

    from probekit.components import Array, FloatArray, IntArray

Dtype = Literal["float32", "float16", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
SHARD_FORMAT = 1
MOST_MAPPED = 64
_HEADER_LIMIT = 100_000_000
_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_STORED: dict[str, np.dtype[Any]] = {d: np.dtype("<f4" if d == "float32" else "<u2") for d in DTYPES}


class BadShardError(Exception):
    """A file is not the shard that its record tells of; the text says why."""


@dataclass(frozen=True, eq=False)
class Shard:
    """What a record tells of a shard.

    Args:
        key: hex; what made the features.
        variant: which digests of the record identify its rows.
        label: for messages.
        size: bytes of the file.
        sha256: of the whole file, hex.
        rows: feature rows.
        width: features.
        dtype: of the stored values.
        counts: feature rows per example, shape (examples,), int32; None: one each, none for examples that are bad.
    """

    key: str
    variant: str
    label: str
    size: int
    sha256: str
    rows: int
    width: int
    dtype: Dtype
    counts: Array | None


def encode(features: FloatArray, dtype: Dtype, label: str, facts: dict[str, Any]) -> bytes:
    """Return the bytes of a shard.

    Args:
        features: shape (feature rows, width), float32.
        dtype: what is stored.
        label: names the features in an error.
        facts: the metadata, JSON.

    Raises:
        InputError: ``PK-M40``, a finite value is too large for ``dtype``.
    """
    # One entry only: safetensors writes several in no fixed order.
    metadata = {"probekit": json.dumps(facts, sort_keys=True)}
    if dtype == "float32":
        from safetensors.numpy import save

        return save({"features": np.ascontiguousarray(features, dtype=np.float32)}, metadata)
    import torch
    from safetensors.torch import save as save_torch

    wide = torch.from_numpy(np.require(features, np.float32, ["C", "W"]))
    half = wide.to(getattr(torch, dtype))
    too_large = int((torch.isinf(half) & torch.isfinite(wide)).sum())
    if too_large:
        largest = float(wide[torch.isfinite(wide)].abs().max())
        what = f"{too_large} values of {label!r} are too large for {dtype}; the largest is {largest:.3g}"
        raise InputError(Problem("PK-M40", what, "set store.dtype: float32", "store.dtype"))
    return save_torch({"features": half}, metadata)


def check_shard(path: Path, shard: Shard, range_id: str, *, digest: bool) -> None:
    """Compare a file with what its record tells of it.

    Args:
        path: the file.
        shard: what it should hold.
        range_id: the row range it should belong to.
        digest: also compare the digest of the whole file.

    Raises:
        BadShardError: it is another file, a damaged one or none.
        OSError: it cannot be opened for a reason that says nothing about its content.
    """
    with open_shard(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != shard.size:
            raise BadShardError(f"it has {size} bytes, not {shard.size}")
        _check_header(_read_header(file, size), shard, range_id, size)
        if digest:
            file.seek(0)
            try:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise BadShardError(f"it cannot be read: {error.strerror}") from error
            if found != shard.sha256:
                raise BadShardError("its content is not what was written")


def open_shard(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        BadShardError: there is none, or something else has its name.
        OSError: as :func:`check_shard`.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise BadShardError("it is gone") from error
        if error.errno in {errno.EIO, errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise BadShardError(f"it cannot be opened: {error.strerror}") from error
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise BadShardError("it is no regular file")
    return os.fdopen(number, "rb")


def _read_header(file: BufferedReader, size: int) -> tuple[Any, int]:
    """Return the header's JSON and the offset of the first value."""
    try:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise BadShardError(f"its header would have {length} bytes")
        return json.loads(file.read(length)), 8 + length
    except OSError as error:
        raise BadShardError(f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadShardError("its header is damaged") from error


def _check_header(header: tuple[Any, int], shard: Shard, range_id: str, size: int) -> int:
    """Return the offset of the first value."""
    content, offset = header
    try:
        tensor, facts = content["features"], json.loads(content["__metadata__"]["probekit"])
        described = (tensor["dtype"], list(tensor["shape"]), list(tensor["data_offsets"]))
        identity = (facts["format"], facts["key"], facts["range"], facts["variant"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadShardError("it is no feature shard") from error
    if identity != (SHARD_FORMAT, shard.key, range_id, shard.variant):
        raise BadShardError("it belongs to another key, row range or version")
    length = shard.rows * shard.width * _STORED[shard.dtype].itemsize
    if described != (_NAMES[shard.dtype], [shard.rows, shard.width], [0, length]) or offset + length != size:
        raise BadShardError(f"it does not hold ({shard.rows}, {shard.width}) values of {shard.dtype}")
    return offset


class ShardMaps:
    """Shards mapped into memory, the last used ones; safe for threads.

    Args:
        most: how many are mapped at once; each needs a file descriptor.
    """

    def __init__(self, most: int = MOST_MAPPED) -> None:
        self._most, self._lock = most, threading.Lock()
        self._maps: OrderedDict[Path, tuple[Array, mmap.mmap | None]] = OrderedDict()
        self._offsets: dict[Path, int] = {}

    def __getstate__(self) -> int:
        return self._most  # another process maps for itself

    def __setstate__(self, most: int) -> None:
        self.__init__(most)  # type: ignore[misc]

    def get(self, path: Path, shard: Shard, range_id: str) -> Array:
        """Return the stored values, shape (feature rows, width), read-only: float32, or uint16 with the bits of halves.

        Raises:
            BadShardError: the file has changed since it was checked.
        """
        return self._opened(path, shard, range_id)[0]

    def fetch(self, path: Path, shard: Shard, range_id: str, rows: slice) -> None:
        """Let the system read some feature rows into memory, without waiting for them; where it cannot, do nothing.

        Raises:
            BadShardError: as :meth:`get`.
        """
        values, mapped = self._opened(path, shard, range_id)
        if mapped is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        row = values.shape[1] * values.itemsize
        first = self._offsets[path] + rows.start * row
        aligned = first - first % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, aligned, first - aligned + (rows.stop - rows.start) * row)

    def _opened(self, path: Path, shard: Shard, range_id: str) -> tuple[Array, mmap.mmap | None]:
        with self._lock:
            if path in self._maps:
                self._maps.move_to_end(path)
                return self._maps[path]
            try:
                opened = self._map(path, shard, range_id)
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOMEM} or not self._maps:
                    raise
                self._maps.clear()
                opened = self._map(path, shard, range_id)
            self._maps[path] = opened
            while len(self._maps) > self._most:
                self._maps.popitem(last=False)
            return opened

    def _map(self, path: Path, shard: Shard, range_id: str) -> tuple[Array, mmap.mmap | None]:
        dtype, values = _STORED[shard.dtype], shard.rows * shard.width
        with open_shard(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != shard.size:
                raise BadShardError(f"it has {size} bytes, not {shard.size}")
            if path not in self._offsets:
                self._offsets[path] = _check_header(_read_header(file, size), shard, range_id, size)
            if not values:
                return np.broadcast_to(np.zeros((), dtype), (shard.rows, shard.width)), None
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        found = np.frombuffer(mapped, dtype, values, self._offsets[path])
        return found.reshape(shard.rows, shard.width), mapped

    def forget(self, path: Path | None = None) -> None:
        """Let go of one shard, or of all; what still has a view of one keeps it."""
        with self._lock:
            if path is None:
                self._maps.clear()
            else:
                self._maps.pop(path, None)
                self._offsets.pop(path, None)


def widen(stored: Array, dtype: Dtype, out: FloatArray) -> None:
    """Write stored values into a float32 array.

    Args:
        stored: shape (rows, width), as :meth:`ShardMaps.get` returns it.
        dtype: what the values are.
        out: shape (rows, width), C-contiguous.
    """
    if dtype == "float32":
        out[...] = stored
        return
    import torch

    torch.from_numpy(out).copy_(tensor_of(stored).view(getattr(torch, dtype)))


def starts_of(counts: Array) -> IntArray:
    """Return where each example's feature rows begin, shape (examples,)."""
    ends = np.cumsum(counts, dtype=np.int64)
    return ends - counts
