"""The linear classifier probe (paper, section 3.2), fitted to its optimum."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from probekit.components import FitContext, FittedProbe, Probe
from probekit.hookspecs import hookimpl
from probekit.probes.early import EarlyStopping, fit_early
from probekit.sections import fault, runtime_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.components import FeatureMatrix, Target

LEAST, MOST = 1e-12, 1e12
"""The λ that a spec may name."""
_AUTO_PATH = "1, 0.1, 0.01, 0.001, 0.0001, 1e-05"


class LinearProbe(Probe):
    """Mean loss + (λ/2)‖W‖², W in units of standardised features, b unpenalised.

    The loss is the cross-entropy in nats of a class (softmax regression) or of each yes/no label (logistic
    regression), or half the squared error of a standardised number (ridge regression). λ is chosen on the valid split.

    Features and numbers are standardised by their training rows: mean 0, variance 1. So λ of a number z with N training
    rows is that of min mean (w x + b - z)²/2 + (λ/2)‖w‖², or w = (XᵀX/N + λ)⁻¹ Xᵀz/N: scikit-learn's ``Ridge`` with
    ``alpha`` = N λ. λ of classes is ``LogisticRegression`` with ``C`` = 1/(N λ). Two classes have a row of W each, and
    a yes/no label the same two: with w their difference, (λ/2)‖W‖² is (λ/4)‖w‖².
    """

    kind: Literal["linear"] = "linear"
    penalty: Literal["auto"] | float | list[float] = Field(
        "auto",
        description=f"λ, or several to choose from; auto: {_AUTO_PATH}, and further where the best one lies at an end",
    )
    choose_by: Literal["cross_entropy", "error"] = Field(
        "cross_entropy",
        description="what the chosen λ makes smallest on the valid split; of a number, its squared error",
    )
    one_standard_error: bool = Field(
        False, description="choose the largest λ that is within one standard error of the best one"
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        le=1,
        description="a fit is proven when objective - optimum is at most this share of what chance would lose: of the "
        "entropy of the training labels, of half the variance of a number; it goes on to this share of its own "
        "objective, or of 1 % of chance where the objective is smaller",
    )
    max_passes: int = Field(2000, ge=1, description="passes over the training rows, after which a fit stops unproven")
    stopping: Literal["optimum", "early"] = Field(
        "optimum", description="optimum: to a proven optimum; early: by SGD until valid gets no better, as in the paper"
    )
    early: EarlyStopping | None = Field(None, description="how a probe with ``stopping: early`` is trained")
    device: Literal["auto", "cpu", "cuda", "mps"] = runtime_option(
        "auto", "where probes are fitted; auto: the best one that is here"
    )
    arithmetic: Literal["auto", "float32", "float64"] = runtime_option(
        "auto",
        "of a fit's products: auto begins with bfloat16 where the processor has units for it, goes on in float32, and "
        "in float64 where rounding stops it; proofs are always of float64",
    )

    @field_validator("penalty")
    @classmethod
    def _positive(cls, penalty: str | float | list[float]) -> str | float | list[float]:
        values = penalty if isinstance(penalty, list) else [penalty]
        if not values or any(not isinstance(value, str) and not LEAST <= value <= MOST for value in values):
            raise fault("PK-Y30", f"λ must lie between {LEAST:g} and {MOST:g}, got {penalty}")
        return penalty

    @model_validator(mode="after")
    def _one_stopping(self) -> LinearProbe:
        if self.stopping == "early":
            idle = {"penalty", "choose_by", "one_standard_error", "tolerance", "max_passes", "arithmetic"}
            unused = sorted(idle & self.model_fields_set)
            if unused:
                hint = "write early: {penalty: ...}" if "penalty" in unused else "remove it"
                raise fault("PK-Y29", f"'{unused[0]}' has no meaning with stopping: early", hint)
        elif self.early is not None:
            raise fault("PK-Y29", "'early' needs stopping: early", "write stopping: early, or remove 'early'")
        return self

    def penalties(self) -> list[float]:
        """Return the λ to try first, the largest first."""
        from probekit.probes.path import PENALTY_PATH

        if self.penalty == "auto":
            return list(PENALTY_PATH)
        values = self.penalty if isinstance(self.penalty, list) else [float(self.penalty)]
        return sorted(set(values), reverse=True)

    def side_by_side(self, rows: int, features: int, targets: Sequence[Target]) -> int | None:
        """Return the bytes of a fit that is made on one thread, since its passes are small."""
        from probekit.probes.memory import Job, job_of, plan_memory
        from probekit.probes.target_heads import heads_asked

        if not self._is_small(rows, features, targets):
            return None
        if self.stopping == "early":
            columns = self._columns(targets)
            return plan_memory(Job(rows, features, columns, columns), None).needed
        asked = [one for target in targets for one in heads_asked(target)]
        return plan_memory(job_of(rows, features, asked, self.longest_path()), None).needed

    def longest_path(self) -> int:
        """Return how many λ there may be in the end."""
        from probekit.probes.path import GROWTH

        return len(self.penalties()) + (GROWTH if self.penalty == "auto" else 0)

    def _is_small(self, rows: int, features: int, targets: Sequence[Target]) -> bool:
        from probekit.backends.torch_run import find_device
        from probekit.probes.arithmetic import SMALL_FIT_FLOPS
        from probekit.probes.closed_form import gram_flops

        if find_device(self.device, "probe.device").type != "cpu":
            return False
        flops = 4 * rows * features * self._columns(targets)
        if self.stopping != "early" and any(target.task == "number" for target in targets):
            flops += gram_flops(rows, features)
        return flops <= SMALL_FIT_FLOPS

    def _columns(self, targets: Sequence[Target]) -> int:
        """Return how many columns the heads of a fit have together, before any path grows."""
        outputs = sum(max(1, len(target.classes)) for target in targets)
        return outputs if self.stopping == "early" else outputs * len(self.penalties())

    def fit(
        self, features: FeatureMatrix, targets: Sequence[Target], context: FitContext | None = None
    ) -> list[FittedProbe]:
        """Fit every λ of every target; all that have the same training rows share each pass over them.

        Targets with training rows of their own, such as factors with missing labels, have standardised features and
        passes of their own: their heads cost as much as another tap's. Each of them equals a fit on those rows alone.

        Raises:
            InputError: ``PK-L01``, training rows with one answer only; ``PK-L13``, no valid row can be scored;
                ``PK-R03``, one head does not fit into ``context.memory``.
            MachineError: ``PK-E02``, the device is not here.
        """
        from probekit.probes.arithmetic import one_thread

        with one_thread() if self._is_small(*features.shape, targets) else nullcontext():
            return self._fit(features, targets, context or FitContext())

    def _fit(self, features: FeatureMatrix, targets: Sequence[Target], context: FitContext) -> list[FittedProbe]:
        from probekit.backends.torch_run import find_device

        device = find_device(self.device, "probe.device")
        if self.stopping == "early":
            options = self.early or EarlyStopping()
            return [fit_early(features, target, options, context, device.type) for target in targets]
        from probekit.probes.joint import JointFit

        fitted: dict[int, FittedProbe] = {}
        groups: dict[bytes, list[int]] = {}
        for index, target in enumerate(targets):
            groups.setdefault(target.train.tobytes(), []).append(index)
        for indices in groups.values():
            together = JointFit(self, features, [targets[index] for index in indices], context, device)
            fitted |= dict(zip(indices, together.run(), strict=True))
        return [fitted[index] for index in range(len(targets))]


@hookimpl
def register_probes() -> list[type[Probe]]:
    """The probe of this module."""
    return [LinearProbe]
