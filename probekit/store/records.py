"""The record of one row range: what was extracted together, for which rows, and which shards hold it.

A record is one JSON file, written after its shards; only what a record tells of is believed. Its first entry is the
SHA-256 of the rest, so that a damaged one is noticed before it is parsed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.store.shards import DTYPES, Shard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from probekit.components import Array

SCHEMA = 1
MOST_BYTES = 1 << 29
_HEAD = re.compile(rb'\{"digest":"([0-9a-f]{64})",')
KEY = re.compile(r"[0-9a-f]{8,128}")


class BadRecordError(Exception):
    """A file is no valid record; the text says why."""


class NewerRecordError(Exception):
    """A record was written by a later version of probekit."""


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of one row range.

    Args:
        id: 32 hex digits, the file's name.
        written: seconds since 1970 by the clock of the machine that wrote it; only told and used for order.
        examples: how many.
        variants: the digests of the examples' inputs, one array per variant, shape (examples, 16), uint8.
        together: the keys that were extracted together.
        facts: what the caller wants to know again.
        bad: example to the reason why it could not be read.
        shards: one per key.
    """

    id: str
    written: float
    examples: int
    variants: Mapping[str, Array]
    together: tuple[str, ...]
    facts: Mapping[str, Any]
    bad: Mapping[int, str]
    shards: Mapping[str, Shard]

    def to_bytes(self) -> bytes:
        """Return the file's content: canonical JSON behind its own digest."""
        body = {
            "bad": {str(row): reason for row, reason in self.bad.items()},
            "examples": self.examples,
            "facts": self.facts,
            "id": self.id,
            "schema": SCHEMA,
            "shards": [_shard_facts(shard) for shard in self.shards.values()],
            "together": list(self.together),
            "variants": {name: _text(digests) for name, digests in self.variants.items()},
            "written": self.written,
        }
        rest = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        return b'{"digest":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest[1:]


def check_digest(content: bytes) -> None:
    """Compare a record's content with its own digest.

    Raises:
        BadRecordError: it is damaged or no record.
        NewerRecordError: a later version wrote it, in a form of its own.
    """
    head = _HEAD.match(content)
    if head and hashlib.sha256(b"{" + content[head.end() :]).hexdigest().encode() == head[1]:
        return
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadRecordError("it is no JSON" if not head else "it is damaged") from error
    _check_schema(found)
    raise BadRecordError("its digest is that of another content")


def parse_record(content: bytes, range_id: str) -> Record:
    """Return the record that a file holds.

    Args:
        content: the file's bytes, whose digest was checked.
        range_id: what the file's name says.

    Raises:
        BadRecordError: it is no record of this range.
        NewerRecordError: a later version wrote it.
    """
    try:
        found = json.loads(content)
        _check_schema(found)
        record = _record(found)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BadRecordError("it is no record of a row range") from error
    if record.id != range_id:
        raise BadRecordError(f"it is the record of {record.id!r}")
    return record


def _check_schema(found: Any) -> None:
    schema = found.get("schema") if isinstance(found, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerRecordError(str(schema))
    if schema != SCHEMA:
        raise BadRecordError("it is no record of a row range")


def _record(found: dict[str, Any]) -> Record:
    examples = int(found["examples"])
    variants = {str(name): _array(text, np.uint8, examples, 16) for name, text in found["variants"].items()}
    shards = {shard.key: shard for shard in (_shard(facts, examples) for facts in found["shards"])}
    bad = {int(row): str(reason) for row, reason in found["bad"].items()}
    if any(shard.variant not in variants for shard in shards.values()) or any(not 0 <= r < examples for r in bad):
        raise ValueError
    for shard in shards.values():
        rows = examples - len(bad) if shard.counts is None else int(shard.counts.sum(dtype=np.int64))
        if rows != shard.rows:
            raise ValueError
    together = tuple(str(key) for key in found["together"])
    written = float(found["written"])
    return Record(str(found["id"]), written, examples, variants, together, dict(found["facts"]), bad, shards)


def _shard_facts(shard: Shard) -> dict[str, Any]:
    return {**vars(shard), "counts": None if shard.counts is None else _text(shard.counts.astype("<i4"))}


def _shard(facts: dict[str, Any], examples: int) -> Shard:
    counts = None if facts["counts"] is None else _array(facts["counts"], np.dtype("<i4"), examples)
    key, variant, label, sha256 = (str(facts[name]) for name in ("key", "variant", "label", "sha256"))
    size, rows, width = (int(facts[name]) for name in ("size", "rows", "width"))
    dtype = facts["dtype"]
    if dtype not in DTYPES or not KEY.fullmatch(key) or min(size, rows, width) < 0:
        raise ValueError
    if counts is not None and len(counts) and int(counts.min()) < 0:
        raise ValueError
    return Shard(key, variant, label, size, sha256, rows, width, dtype, counts)


def _text(array: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _array(text: str, dtype: Any, *shape: int) -> Array:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype).reshape(shape)
