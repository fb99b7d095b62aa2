"""What identifies a feature matrix in the store: everything that changes its values beyond rounding."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probekit.steps import program_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import Wanted
    from probekit.features.runner import Runner

_FORMAT = 1


@dataclass(frozen=True)
class FeatureKey:
    """The identity of one feature matrix; its rows are identified by digests of their inputs.

    Args:
        parts: what went into it, by name.
    """

    parts: dict[str, Any]

    @property
    def digest(self) -> str:
        """The key itself, 32 hexadecimal digits."""
        text = json.dumps(self.parts, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def changed(self, earlier: dict[str, Any]) -> list[str]:
        """Return the names of the parts that differ from those of an earlier key."""
        return [name for name in sorted({*self.parts, *earlier}) if self.parts.get(name) != earlier.get(name)]


def feature_keys(runner: Runner, wanted: Sequence[Wanted], dtype: str) -> list[FeatureKey]:
    """Return the key of each feature matrix.

    A model's input is the same whatever model it is fed to, so that its key names no model.

    Args:
        runner: the fed model.
        wanted: the matrices.
        dtype: of the features on disk.
    """
    names = [one.tap.name for one in wanted if not is_input(runner, one)]
    fingerprints = runner.backend.tap_fingerprints(list(dict.fromkeys(names))) if names else {}
    backend = runner.backend.identity()
    keys = []
    for one in wanted:
        shared = {"format": _FORMAT, "reduction": program_digest(one.program), "dtype": dtype}
        if is_input(runner, one):
            source = {"input": runner.sources[one.tap.name], "as": one.tap.dtype}
            keys.append(FeatureKey({**shared, "model": source, "options": {}}))
        else:
            keys.append(FeatureKey({**shared, "model": fingerprints[one.tap.name], "options": backend}))
    return keys


def is_input(runner: Runner, one: Wanted) -> bool:
    """Return whether a tap is what the model is fed, which no model is needed for."""
    return one.tap.op == "Input" and one.tap.name in runner.sources
