"""The files beside an ONNX model that hold its weights: checked before any runtime opens them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probekit.errors import InputError, Problem, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

_KEYS = ("location", "offset", "length", "checksum", "basepath")
_AGAIN = "export or copy the model again"


def external_files(model: onnx.ModelProto, path: Path) -> dict[str, Path]:
    """Return the real file of each location that the model's tensors name, by location in order.

    A symbolic link is followed when model and data lie side by side by name or in truth, as in hub caches.

    Raises:
        InputError: ``PK-M07`` absent, ``PK-M08`` outside the folder, ``PK-M12`` a hard link, ``PK-M13`` too short,
            ``PK-M14`` an offset beyond the end, ``PK-M15`` an address in memory, ``PK-M16`` an unknown or repeated key.
    """
    files: dict[str, Path] = {}
    absent: set[str] = set()
    for tensor in _external_tensors(model):
        entries = _entries(tensor)
        location = entries.get("location", "")
        if location not in files and location not in absent:
            file = _checked(location, tensor.name, path)
            if file is None:
                absent.add(location)
            else:
                files[location] = file
        if location in files:
            _refuse_out_of_bounds(tensor, entries, files[location].stat().st_size)
    if absent:
        what = f"the model's external data is absent: {listed(name[:80] for name in sorted(absent))}"
        raise InputError(Problem("PK-M07", what, f"copy it to {str(path.parent)!r}", "model.path"))
    return dict(sorted(files.items()))


def point_at(model: onnx.ModelProto, files: Mapping[str, Path]) -> Path:
    """Make the model name the real files, so that a runtime opens what was checked; return the folder they start from.

    A runtime that is given the model as bytes does not know where the model itself really lies, and refuses hub caches.
    """
    folder = Path(os.path.commonpath([file.parent for file in files.values()]))
    for tensor in _external_tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = files[entry.value].relative_to(folder).as_posix()
    return folder


def _external_tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Give the external tensors anywhere: initializers, attributes, inner graphs, functions, sparse ones."""
    import onnx

    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in [value] if hasattr(value, "ListFields") else value:
            if not isinstance(part, onnx.TensorProto):
                yield from _external_tensors(part)
            elif part.data_location == onnx.TensorProto.EXTERNAL:
                yield part


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key not in _KEYS or entry.key in entries:
            fault = "repeated" if entry.key in entries else "unknown"
            what = f"tensor {tensor.name!r} has external data with the {fault} key {entry.key[:80]!r}"
            raise InputError(Problem("PK-M16", what, _AGAIN, "model.path"))
        entries[entry.key] = entry.value
    return entries


def _checked(location: str, owner: str, path: Path) -> Path | None:
    """Return the real path of a file that may be read, None where there is none."""
    reads = f"tensor {owner!r} reads {location[:200]!r}"
    if location.startswith("*/"):
        raise InputError(Problem("PK-M15", f"{reads}, an address in memory and no file", _AGAIN, "model.path"))
    inside = not Path(location).is_absolute() and ".." not in Path(location).parts
    file = real = path.parent / location
    try:
        if inside and file.exists():
            real = file.resolve()
            inside = any(real.is_relative_to(home) for home in (path.resolve().parent, path.parent.resolve()))
    except OSError:  # a name that is too long, a loop of links
        return None
    if not inside:
        what = f"{reads}, which is outside the model's folder"
        raise InputError(Problem("PK-M08", what, "keep the data beside the model", "model.path"))
    if not real.is_file():
        return None
    if real.stat().st_nlink > 1:
        raise InputError(Problem("PK-M12", f"{reads}, which is a hard link", "copy the file", "model.path"))
    return real


def _refuse_out_of_bounds(tensor: onnx.TensorProto, entries: Mapping[str, str], size: int) -> None:
    location = entries["location"][:200]
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "0")
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            what = f"tensor {tensor.name!r} has the {key} {text[:80]!r} in {location!r}, which is no number of bytes"
            raise InputError(Problem("PK-M14", what, _AGAIN, "model.path"))
        numbers[key] = int(text)
    offset, needed = numbers["offset"], stored_bytes(tensor)
    what, code = "", "PK-M13"
    if offset > size:
        code, what = "PK-M14", f"tensor {tensor.name!r} starts at byte {offset} of {location!r}, which has {size}"
    elif "length" in entries and numbers["length"] != needed:
        what = f"tensor {tensor.name!r} takes {needed} bytes, {numbers['length']} are named in {location!r}"
    elif offset + needed > size:
        what = f"tensor {tensor.name!r} takes {needed} bytes from byte {offset} of {location!r}, which has {size}"
    if what:
        raise InputError(Problem(code, what, _AGAIN, "model.path"))


def stored_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a tensor's values; sub-byte ones are packed."""
    import numpy as np
    import onnx

    try:
        bits = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize * 8
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
    except (KeyError, ValueError):
        return 0
    packed = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    return -(-math.prod(tensor.dims) * packed.get(name, bits) // 8)
