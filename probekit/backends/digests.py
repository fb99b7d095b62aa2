"""What identifies the content of files and arrays: for the fingerprints of backends."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def content_digest(*parts: Path | npt.NDArray[np.generic] | bytes | str) -> str:
    """Return a digest of contents, for a fingerprint: the same wherever files lie, and on every machine.

    The order counts, and where one part ends and the next one begins.

    Args:
        parts: a path stands for what the file holds, an array for its dtype, shape and values.

    Returns:
        32 hexadecimal digits (BLAKE2b).

    Raises:
        TypeError: an array of Python objects, whose bytes are addresses.

    >>> import numpy as np
    >>> content_digest(np.zeros(2)) == content_digest(np.zeros((2, 1)))
    False
    """
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(_digest(part))
    return total.hexdigest()


def _digest(part: Path | npt.NDArray[np.generic] | bytes | str) -> bytes:
    """Return the digest of one part, of what sort it is too."""
    if isinstance(part, Path):
        with part.open("rb") as file:
            return b"file" + hashlib.file_digest(file, _new).digest()
    if isinstance(part, str | bytes):
        return type(part).__name__.encode() + _new(part.encode() if isinstance(part, str) else part).digest()
    if part.dtype.hasobject:
        raise TypeError(f"an array of dtype {part.dtype} has no content to digest; give numbers or text")
    little = part.astype(part.dtype.newbyteorder("<"), copy=False)
    return f"{little.dtype.str}{part.shape}".encode() + _new(little.tobytes()).digest()


def _new(content: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(content, digest_size=16)
