"""Which tap of one model is compared with which of the other."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from probekit.comparing.records import How

_QUANTIZER = re.compile(r"_(?:(?:De)?[Qq]uantizeLinear(?:_(?:In|Out)put)?|(?:de)?quantized)(?:_[0-9]+)?$")
_MOST_NEAREST = 50


@dataclass(frozen=True)
class Aligned:
    """Two taps, by their names in the results, and how they were found."""

    first: str
    second: str
    how: How


@dataclass
class Alignment:
    """Which taps belong together.

    Args:
        pairs: in the first side's depth order.
        first: the first side's taps without a counterpart, in depth order.
        second: the second side's.
    """

    pairs: list[Aligned] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)


def stem(name: str) -> str:
    """Return a tensor's name without what ONNX Runtime's quantizer appends.

    >>> stem("relu_1_DequantizeLinear_Output"), stem("logits_QuantizeLinear_Input"), stem("fc_quantized"), stem("relu")
    ('relu_1', 'logits', 'fc', 'relu')
    """
    while (shorter := _QUANTIZER.sub("", name)) not in {"", name}:
        name = shorter
    return name


def align(first: Mapping[str, str], second: Mapping[str, str], given: Mapping[str, str] | None = None) -> Alignment:
    """Pair the taps of two models, each at most once.

    What is ``given`` comes first, then equal names in the results, then equal names of the tensors. What is left is
    paired by its names without what a quantizer appends: where one side has one such tap and the other several, the
    deepest of those, which is after all rounding. At last, where both sides have as many taps whose names end in the
    same part, those are paired in the order of depth.

    Args:
        first: a tap's name in the results to its tensor's own name, in depth order.
        second: likewise.
        given: a tap of the first side to one of the second.
    """
    left, right = dict(first), dict(second)
    found: dict[str, Aligned] = {}

    def take(pairs: Sequence[tuple[str, str]], how: How) -> None:
        for a, b in pairs:
            found[a] = Aligned(a, b, how)
            del left[a], right[b]

    take(list((given or {}).items()), "map")
    take([(name, name) for name in left if name in right], "name")
    take(_matched(left, right, lambda _, tensor: tensor), "tensor")
    take(_matched(left, right, lambda label, _: stem(label), deepest=True), "renamed")
    take(_matched(left, right, lambda _, tensor: stem(tensor), deepest=True), "renamed")
    take(_matched(left, right, lambda label, _: _last_part(label)), "position")
    return Alignment([found[name] for name in first if name in found], list(left), list(right))


def _last_part(label: str) -> str:
    return re.split(r"[/.:]+", stem(label))[-1]


def _matched(
    left: Mapping[str, str], right: Mapping[str, str], key: Callable[[str, str], str], *, deepest: bool = False
) -> list[tuple[str, str]]:
    """Return the taps with the same key: as many on both sides, or, for ``deepest``, one and the other's last."""
    one, other = _grouped(left, key), _grouped(right, key)
    pairs: list[tuple[str, str]] = []
    for name, taps in one.items():
        there = other.get(name, [])
        if len(taps) == len(there):
            pairs += zip(taps, there, strict=True)
        elif deepest and there and 1 in {len(taps), len(there)}:
            pairs.append((taps[-1], there[-1]))
    return pairs


def _grouped(taps: Mapping[str, str], key: Callable[[str, str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for label, tensor in taps.items():
        groups.setdefault(key(label, tensor), []).append(label)
    return groups


def nearest_names(taps: Sequence[str], others: Sequence[str]) -> list[str | None]:
    """Return for each tap the most similar name among the others; None beyond the first 50, and where there is none."""
    found: list[str | None] = [
        next(iter(difflib.get_close_matches(tap, others, n=1, cutoff=0.4)), None) for tap in taps[:_MOST_NEAREST]
    ]
    return found + [None] * (len(taps) - len(found))


def names_in_common(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Return the names that both have, paired; where there is none and each has one, those two."""
    both = [(name, name) for name in first if name in second]
    return both or ([(first[0], second[0])] if len(first) == len(second) == 1 else [])
