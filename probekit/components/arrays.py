"""The arrays that pass between components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Columns = Mapping[str, Array]
Feed = Mapping[str, Array]
"""The model's inputs by name; first axis of each that has one: the batch."""
