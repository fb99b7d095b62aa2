"""The whole spec as one model. Each component's section is validated by the class that its ``kind`` names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from packaging.utils import canonicalize_name
from pydantic import Field, field_validator, model_validator

from probekit.components import (
    Backend,
    Control,
    Dataset,
    Executor,
    LabelFactor,
    ModelControl,
    Probe,
    Reduction,
    Report,
)
from probekit.errors import InputError, described
from probekit.sections import Component, Name, Pluggable, Section, fault, faults_below
from probekit.spec.requirements import check_requirements, requirements
from probekit.spec.rows import Rows, Size, Store
from probekit.spec.splits import Splits

if TYPE_CHECKING:
    from collections.abc import Mapping

AnyBackend = Annotated[Backend, Pluggable("backend")]
AnyDataset = Annotated[Dataset, Pluggable("dataset")]
AnyFactor = Annotated[LabelFactor, Pluggable("factor")]
AnyReduction = Annotated[Reduction, Pluggable("reduction")]
AnyProbe = Annotated[Probe, Pluggable("probe")]
AnyControl = Annotated[Control, Pluggable("control", bare=True)]
AnyReport = Annotated[Report, Pluggable("report", bare=True)]
AnyExecutor = Annotated[Executor, Pluggable("executor")]

T = TypeVar("T")
Names = str | Annotated[list[str], Field(min_length=1)]

DEFAULT = "default"
"""Name of the entry that a singular key stands for."""


class TapEntry(Section):
    """Which tensors to tap. Text stands for ``{match: TEXT}``; an entry without match and op is refused."""

    match: Names | None = Field(
        None, description="names or patterns; an exact name wins, in a pattern only ``*`` and ``?`` are special"
    )
    op: Names | None = Field(
        None, description="operators or module classes that produce the tensor, such as Add or Conv2d"
    )
    as_: str | None = Field(
        None,
        alias="as",
        description="what to call them: ``{i}`` counts this entry's taps from 1, ``{name}`` and ``{op}`` are the "
        "tensor's; default: ``{name}``",
    )
    reductions: list[Name] | None = Field(
        None, min_length=1, description="names out of the spec's reductions; default: all of them"
    )
    layout: Literal["NC", "NCHW", "NHWC", "NCDHW", "NCT", "NTC", "TNC"] | None = Field(
        None, description="the axes, where the producing operator does not tell them"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str | dict | TapEntry):
            raise fault("PK-Y04", f"expected text or a mapping, got {described(value)}")
        return {"match": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names_something(self) -> TapEntry:
        if self.match is None and self.op is None:
            raise fault("PK-Y29", "needs 'match:' or 'op:'")
        for pattern in [self.match] if isinstance(self.match, str) else self.match or []:
            if pattern.startswith("re:"):
                problem = fault("PK-Y35", f"{pattern!r}: there are no regular expressions", "use * and ?")
                raise faults_below((("match",), problem))
        return self


class Spec(Section):
    """One run: a model, its taps, what to look for, how."""

    probekit: Literal[1] = Field(description="version of the spec's format")
    name: Name = Field(description="name of the run; default: the spec's file name without its ending")
    model: AnyBackend | None = Field(
        None, description="the model; short for ``models: {default: ...}``; one of the two is required"
    )
    models: dict[Name, AnyBackend] | None = Field(None, min_length=1, description="several models by name")
    data: AnyDataset = Field(description="where the examples come from")
    taps: list[TapEntry] = Field(
        default_factory=lambda: [TapEntry(match="*")], min_length=1, description="what to tap; ``*`` is everything"
    )
    max_taps: int = Field(1000, ge=1, description="more taps than this are refused")
    max_features: int = Field(20_000, ge=1, description="a tap with more features than this after reduction is refused")
    reduction: AnyReduction | None = Field(
        None, description="short for ``reductions: {default: ...}``; a tap that it does not fit is flattened"
    )
    reductions: dict[Name, AnyReduction] | None = Field(
        None, min_length=1, description="several reductions by name; each applies to every tap that names none"
    )
    labels: dict[Name, AnyFactor] = Field(min_length=1, description="label factors by name")
    rows: Rows = Field(default_factory=Rows, description="what one feature row is")
    splits: Splits = Field(default_factory=Splits, description="which examples are fitted on and reported on")
    probe: AnyProbe | None = Field(None, description="short for ``probes: {default: ...}``")
    probes: dict[Name, AnyProbe] | None = Field(None, min_length=1, description="several probes by name")
    controls: list[AnyControl] = Field(
        default_factory=list,
        description="other labels for the same rows, or another model, which tell what a probe's error is worth; "
        "default: none",
    )
    reports: list[AnyReport] = Field(description="views of the result")
    store: Store = Field(default_factory=Store, description="where features are kept")
    memory: Size | None = Field(
        None,
        description="bytes (or ``8GiB``) that features may take while probes are fitted; what is larger is read from "
        "the store pass by pass; default: 80 % of what is free",
    )
    executor: AnyExecutor | None = Field(
        None, description="where small fits are made at the same time; it changes no result"
    )
    plugins: list[str] | dict[str, str | None] = Field(
        default_factory=list,
        description="the plugins that it requires, by their distributions' names and versions: "
        '``[probekit-toy >= 0.1]`` or ``{probekit-toy: ">= 0.1"}``; findings and listeners of other plugins are not '
        "used; default: none",
    )

    @field_validator("probekit", mode="before")
    @classmethod
    def _version(cls, value: Any) -> Any:
        if type(value) is not int or value < 1:
            raise fault("PK-Y04", f"expected 1, got {described(value)}", "write probekit: 1")
        if value > 1:
            from probekit import __version__

            what = f"written for version {value} of the format; this is probekit {__version__}, which reads version 1"
            raise fault("PK-Y32", what, "type: pip install --upgrade probekit-platform")
        return value

    @field_validator("plugins")
    @classmethod
    def _requirements(cls, value: list[str] | dict[str, str | None]) -> list[str] | dict[str, str | None]:
        check_requirements(value)
        return value

    @model_validator(mode="after")
    def _no_control_twice(self) -> Spec:
        first: dict[tuple[str, str, int, str], int] = {}
        faults = []
        for number, control in enumerate(self.controls):
            name = control.control_name()
            own = control.models if isinstance(control, ModelControl) else None
            asked = [
                (name, factor, seed, model)
                for factor in control.factors or self.labels
                for seed in control.all_seeds()
                for model in own or self.named_models() or [""]
            ]
            twice = next((one for one in asked if one in first), None)
            if twice is not None:
                what = f"{name!r} with seed {twice[2]} for {twice[1]!r} stands twice, first in controls[{first[twice]}]"
                faults.append((("controls", number), fault("PK-Y27", what, "give one of them another seed")))
            for one in asked:
                first.setdefault(one, number)
        if faults:
            raise faults_below(*faults)
        return self

    @model_validator(mode="after")
    def _models_have_twins(self) -> Spec:
        faults = []
        for number, control in enumerate(self.controls):
            if not isinstance(control, ModelControl):
                continue
            for name, backend in self.named_models().items():
                try:
                    if control.is_of(name):
                        control.twin(backend, control.seed)
                except InputError as error:
                    whose = f"model {name!r}: " if self.models else ""
                    faults += [
                        (("controls", number), fault(one.code, f"{whose}{one.what}", one.hint))
                        for one in error.problems
                    ]
        if faults:
            raise faults_below(*faults)
        return self

    def required_plugins(self) -> list[str]:
        """Return the names of the distributions that it requires, lower case and with ``-`` for ``_`` and ``.``."""
        return [str(canonicalize_name(one.name)) for one in requirements(self.plugins).values()]

    def named_models(self) -> dict[str, Backend]:
        """Return the models by name, whichever key gave them."""
        return _named(self.model, self.models)

    def named_reductions(self) -> dict[str, Reduction]:
        """Return the reductions by name, whichever key gave them."""
        return _named(self.reduction, self.reductions)

    def named_probes(self) -> dict[str, Probe]:
        """Return the probes by name, whichever key gave them."""
        return _named(self.probe, self.probes)

    def components(self) -> dict[tuple[str, ...], Component]:
        """Return every component by the path of keys that names it: ``("model",)`` or ``("models", NAME)``."""
        found: dict[tuple[str, ...], Component] = {("data",): self.data}
        found |= {("labels", name): factor for name, factor in self.labels.items()}
        groups: list[tuple[str, Mapping[str, Component], bool]] = [
            ("model", self.named_models(), self.models is None),
            ("reduction", self.named_reductions(), self.reductions is None),
            ("probe", self.named_probes(), self.probes is None),
        ]
        for key, components, single in groups:
            found |= {(key,) if single else (f"{key}s", name): component for name, component in components.items()}
        found |= {("controls", str(number)): control for number, control in enumerate(self.controls)}
        found |= {("reports", str(number)): report for number, report in enumerate(self.reports)}
        found |= {("executor",): self.executor} if self.executor is not None else {}
        for path, component in list(found.items()):
            found |= _nested(path, component)
        return found


DEFAULTS: dict[str, Any] = {
    "reduction": {"kind": "pool"},
    "probe": {"kind": "linear"},
    "reports": ["terminal", "html", "csv", "json"],
    "executor": {"kind": "local"},
}
"""What an absent section stands for, in the spec's own terms; kinds are looked up like written ones."""


def _nested(path: tuple[str, ...], component: Component) -> dict[tuple[str, ...], Component]:
    """Return the components that are fields of a component, at any depth, by their paths."""
    found: dict[tuple[str, ...], Component] = {}
    for name in type(component).model_fields:
        inner = getattr(component, name)
        if isinstance(inner, Component):
            found |= {(*path, name): inner, **_nested((*path, name), inner)}
    return found


def _named(one: T | None, several: dict[str, T] | None) -> dict[str, T]:
    return dict(several) if several is not None else {DEFAULT: one} if one is not None else {}
