"""Where a result comes from: versions, machine, plugins, models."""

from __future__ import annotations

import hashlib
import platform
import shlex
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from probekit.components import ModelControl
from probekit.plugins.sources import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from probekit.data.question import Asked, Question
    from probekit.plugins import Plugins
    from probekit.reading import Reading
    from probekit.spec import LoadedSpec, Spec

PACKAGES = (
    "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "pillow", "pydantic", "scikit-learn", "timm", "torch",
    "torchvision",
)  # fmt: skip
"""Whose versions may change a result."""


def reproduce_command(loaded: LoadedSpec, without: Iterable[str] = (), named: Iterable[str] = ()) -> str:
    """Return what to type to run a spec again, quoted for a shell.

    Args:
        loaded: the spec.
        without: the plugins that were switched off by name.
        named: the plugins that were used by name.
    """
    words = ["probekit", "run", loaded.file]
    for setting in loaded.settings:
        words += ["--set", setting]
    if any(component.code_to_trust() is not None for component in loaded.spec.components().values()):
        words.append("--trust-code")
    for name in without:
        words += ["--no-plugin", name]
    for name in named:
        words += ["-p", name]
    return shlex.join(words)


def environment(started: datetime, plugins: Plugins, spec: Spec) -> dict[str, Any]:
    """Return versions, the platform, the time of the start, and the plugins that were loaded with their digests."""
    from probekit import __version__

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    found = plugins.loaded({(one.category, one.kind) for one in spec.components().values()})
    modules: dict[str, list[str]] = {}
    for one in found:
        modules.setdefault(one.distribution, []).append(one.module)
    digests = {distribution: digest(distribution, some) for distribution, some in modules.items()}
    loaded = [
        {
            "kind": f"{one.category}.{one.kind}", "distribution": one.distribution, "version": one.release,
            "module": one.module, "digest": digests[one.distribution],
        }
        for one in found
    ]  # fmt: skip
    return {
        "probekit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "plugins": loaded,
        "started": started.isoformat(timespec="seconds"),
    }


def spec_facts(loaded: LoadedSpec) -> dict[str, Any]:
    """Return what was asked for, word for word, and the seeds of it."""
    text = {"file": loaded.file, "text": loaded.text, "settings": list(loaded.settings), "digest": loaded.digest}
    return {"spec": text, "seeds": seeds(loaded.spec)}


def question_facts(asked: Asked, question: Question, bad: Mapping[int, str]) -> dict[str, Any]:
    """Return the rows, splits and labels of a question, and which examples are not in it.

    Args:
        asked: whose examples they are.
        question: what was asked of their features.
        bad: why an example could not be read, by its place among the rows.
    """
    return {
        "rows": {"per": asked.spec.rows.per, "count": len(question.owners)},
        "splits": {split: len(rows) for split, rows in question.parts.items()},
        "skipped": skipped(asked, bad),
        "labels": {one.factor: question.label_facts(one) for one in question.targets if one.control is None},
        "controls": question.control_facts(),
    }


def seeds(spec: Spec) -> dict[str, Any]:
    """Return what was drawn with which seeds: the splits, the random reductions with several, the other models."""
    draws = {name: list(one.draws()) for name, one in spec.named_reductions().items()}
    several = {name: some for name, some in draws.items() if len(some) > 1}
    models: dict[str, list[int]] = {}
    for control in spec.controls:
        if isinstance(control, ModelControl):
            models.setdefault(control.control_name(), []).extend(control.all_seeds())
    return {"splits": spec.splits.seed, **({"reductions": several} if several else {}), **models}


def skipped(asked: Asked, bad: Mapping[int, str]) -> dict[str, Any]:
    """Return how many examples could not be read, and the reasons of the first 20 by id.

    Args:
        asked: whose examples they are.
        bad: the reason of each, by its place among the rows.
    """
    ids = asked.examples.columns["id"][asked.rows].astype(str)
    first = {str(ids[place]): reason for place, reason in list(bad.items())[:20]}
    return {"examples": len(bad), "first": first}


def model_facts(one: Reading) -> dict[str, Any]:
    """Return what a model was, what ran it, and what was checked of its features."""
    digests = one.runner.digests(one.extraction.rows)
    return {
        "backend": one.backend.model_dump(mode="json"),
        "fingerprint": one.backend.fingerprint(),
        "runtime": one.backend.runtime(),
        "batch_size": one.runner.batch_size,
        "data": hashlib.blake2b(digests.tobytes(), digest_size=16).hexdigest(),
        "checks": one.extraction.checks(),
        "passed_over": one.trial.skipped,
        **({} if one.control is None else {"control": one.control, "seed": one.seed}),
    }
