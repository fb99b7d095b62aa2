"""Principal components, fitted on training rows only (paper, section 3.4: a learned projection)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from probekit.components import FittedReduction, LearnedReduction, LinearMap, Reduction, Tap
from probekit.errors import InputError, Problem
from probekit.hookspecs import hookimpl
from probekit.reductions.data_free import FlattenReduction
from probekit.sections import Pluggable, fault

if TYPE_CHECKING:
    from probekit.components import FloatArray
    from probekit.steps import Program


class PcaReduction(LearnedReduction):
    """The leading principal components of the training rows' features."""

    kind: Literal["pca"] = "pca"
    features: int = Field(50, ge=1, description="how many components; a tap that has fewer features keeps all")
    of: Annotated[Reduction, Pluggable("reduction")] | None = Field(
        None, description="a data-free reduction whose features are projected; default: flatten"
    )
    seed: int = Field(0, ge=0, description="of the randomised solver")

    @field_validator("of")
    @classmethod
    def _data_free(cls, of: Reduction | None) -> Reduction | None:
        if isinstance(of, LearnedReduction):
            raise fault("PK-Y29", f"{of.kind!r} is learned itself", "name a data-free reduction, such as pool")
        return of

    def program(self, tap: Tap) -> Program:
        """The program of ``of``."""
        return (self.of or FlattenReduction()).program(tap)

    def draws(self) -> dict[int, Reduction]:
        """Return it of each draw of ``of``."""
        draws = {} if self.of is None else self.of.draws()
        return {seed: self.model_copy(update={"of": one}) for seed, one in draws.items()}

    def fit(self, features: FloatArray) -> FittedReduction:
        """Fit on (training rows, features).

        Raises:
            InputError: ``PK-L14``, fewer training rows than components.
        """
        from sklearn.decomposition import PCA

        if features.shape[1] <= self.features:
            return _AsItIs(np.eye(features.shape[1]), np.zeros(features.shape[1]))
        if len(features) < self.features:
            what = f"pca of {self.features} components needs as many training rows, got {len(features)}"
            raise InputError(Problem("PK-L14", what, "set fewer features", "reduction.features"))
        pca = PCA(self.features, svd_solver="auto", random_state=self.seed).fit(features)
        directions = pca.components_.astype(np.float64)
        return LinearMap(directions, -directions @ pca.mean_.astype(np.float64))


class _AsItIs(LinearMap):
    """Keeps all features."""

    def __call__(self, features: FloatArray) -> FloatArray:
        """Give them back without a product."""
        return features


@hookimpl
def register_reductions() -> list[type[Reduction]]:
    """The reduction of this module."""
    return [PcaReduction]
