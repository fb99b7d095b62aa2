"""A fitted linear probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probekit.components import FittedProbe

if TYPE_CHECKING:
    from probekit.components import Certificate, FitFacts, FloatArray, LinearMap


class FittedLinear(FittedProbe):
    """W and b in the features' own units.

    Args:
        linear: W and b.
        penalty: the chosen λ, in units of standardised features; None where yes/no labels chose several.
        objective: loss + (λ/2)‖W‖² on the training rows, W in standardised units, in nats.
        certificate: of this λ.
        seconds: wall time.
        facts: how it was fitted.
    """

    def __init__(
        self,
        linear: LinearMap,
        penalty: float | None,
        objective: float,
        certificate: Certificate,
        seconds: float = 0.0,
        facts: FitFacts | None = None,
    ) -> None:
        self.linear: LinearMap = linear
        self.penalty, self.objective = penalty, objective
        self.certificate, self.seconds, self.facts = certificate, seconds, facts

    def logits(self, features: FloatArray) -> FloatArray:
        """W x + b, in float64 before it is rounded."""
        return self.linear(features)
