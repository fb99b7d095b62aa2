"""What a check of parity found, as typed records: everything that its views may say."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from probekit.errors import json_text

if TYPE_CHECKING:
    from probekit.comparing.records import How

SCHEMA_VERSION: Literal[1] = 1


@dataclass(frozen=True)
class TapParity:
    """One tap of both models under one reduction.

    Args:
        tap: the reference's tap, by its name in the results.
        other: the other model's.
        how: how the two were aligned.
        reduction: its name in the spec; two names with a comma where the specs call it differently.
        features: of the reference; for each feature row.
        rows: feature rows that were compared.
        scale: the root mean square of the reference's finite features: what differences are shares of.
        largest: the largest difference, as a share of the scale; None where it has no bound: one side is NaN or
            infinite where the other is not, or the reference is zero everywhere and the other is not.
        median: the median difference, as a share of the scale; None as above.
        cosine: of both sides' finite features, all taken as one vector; None where one side is zero and the other not.
        example: the id of the example with the largest difference.
        feature: its feature, from 0; None where all are equal.
        same: whether the largest difference is within the tolerance.
        reason: why the features could not be compared; empty when they were.
        after: the reference's taps that feed this one, of those that are compared.
    """

    tap: str
    other: str
    how: How
    reduction: str
    features: int
    rows: int
    scale: float
    largest: float | None
    median: float | None
    cosine: float | None
    example: str
    feature: int | None
    same: bool
    reason: str = ""
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairParity:
    """Two models.

    Args:
        reference: what the first model is called.
        other: what the second one is called.
        taps: what was compared, in the reference's depth order; its output last.
        reference_only: taps of the reference without a counterpart, in depth order.
        other_only: the other model's.
    """

    reference: str
    other: str
    taps: tuple[TapParity, ...]
    reference_only: tuple[str, ...] = ()
    other_only: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether all compared taps are the same."""
        return all(one.same for one in self.taps)

    @property
    def first_apart(self) -> TapParity | None:
        """The first tap in depth order that is apart, where the trouble begins; None where all are the same."""
        return next((one for one in self.taps if not one.same), None)


@dataclass(frozen=True)
class ParityResult:
    """A check of parity.

    Args:
        specs: the spec files, one or two, as they were named.
        rows: examples that the models were run on.
        of: examples of the dataset.
        seed: of the draw of these examples.
        tolerance: the largest difference that counts as the same, as a share of a tap's scale.
        pairs: the models that were compared.
        models: what each model is: ``kind``, ``fingerprint`` and ``runtime``.
        notes: what the reader should know.
    """

    specs: tuple[str, ...]
    rows: int
    of: int
    seed: int
    tolerance: float
    pairs: tuple[PairParity, ...]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether all models are the same at all taps."""
        return all(pair.same for pair in self.pairs)

    def to_json(self) -> str:
        """Return one JSON document: the fields as they are named here, verdicts included; no NaN."""
        pairs = [
            {
                "verdict": _verdict(pair.same), **asdict(pair),
                "first_apart": None if pair.first_apart is None else pair.first_apart.tap,
            }
            for pair in self.pairs
        ]  # fmt: skip
        whole = {"schema_version": SCHEMA_VERSION, "verdict": _verdict(self.same), **asdict(self), "pairs": pairs}
        return json_text(whole)


def _verdict(same: bool) -> str:
    return "same" if same else "apart"
