"""In what two runs differ: the models, the data, the spec as it was run, the versions."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from probekit.comparing.records import ChangedValue
from probekit.errors import UserError
from probekit.plugins import CORE
from probekit.spec import yaml_loader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from probekit.comparing.records import Part
    from probekit.results import RunResult

_LONG = {"model": "models", "reduction": "reductions", "probe": "probes"}
"""The singular keys of a spec, each short for a mapping with one entry named ``default``."""


def changes(first: RunResult, second: RunResult, first_model: str, second_model: str) -> list[ChangedValue]:
    """Return what differs, part by part, each in the order of its keys.

    Args:
        first: a run's result.
        second: the other's; the same one where two models of one run are compared.
        first_model: the model's key in the provenance: its name, ``NAME@CHECKPOINT`` where it has checkpoints.
        second_model: likewise.
    """
    ones, others = (_facts(*pair) for pair in ((first, first_model), (second, second_model)))
    return [
        ChangedValue(part=part, key=key, first=ones[part].get(key), second=others[part].get(key))
        for part in ones
        for key in dict.fromkeys([*ones[part], *others[part]])
        if ones[part].get(key) != others[part].get(key)
    ]


def _facts(result: RunResult, model: str) -> dict[Part, dict[str, str]]:
    """Return the values of one run as JSON text by part and dotted key."""
    provenance = result.provenance
    facts: Mapping[str, Any] = provenance.get("models", {}).get(model, {})
    backend = flat(facts.get("backend", {}))
    told = {key: json.dumps(facts[key]) for key in ("fingerprint", "batch_size") if key in facts}
    names = ("probekit", "python", "platform", "packages")
    versions: dict[str, Any] = {key: provenance[key] for key in names if key in provenance}
    versions |= {f"plugins.{name}": told for name, told in _plugins(provenance.get("plugins", [])).items()}
    inputs = {"digest": json.dumps(facts["data"])} if "data" in facts else {}
    return {
        "model": backend | told | flat(facts.get("runtime", {}), "runtime"),
        "data": inputs | flat(provenance.get("splits", {}), "splits"),
        "spec": _spec(provenance.get("spec", {})),
        "versions": flat(versions),
    }


def _plugins(loaded: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the version of each plugin that was loaded, with the digest of its files, by its distribution's name.

    >>> _plugins([{"distribution": "probekit-toy", "version": "0.1.0", "digest": "0123456789abcdef"}])
    {'probekit-toy': '0.1.0, files 0123456789ab'}
    """
    others = [one for one in loaded if one["distribution"] != CORE]
    return {one["distribution"]: f"{one['version']}, files {str(one.get('digest'))[:12]}" for one in others}


def flat(value: Any, key: str = "") -> dict[str, str]:
    """Return a tree's values as JSON text by dotted key; a list of plain values is one value.

    >>> flat({"taps": ["a", {"op": "Relu"}], "splits": {"seed": 0, "test": ["x", "y"]}})
    {'taps[0]': '"a"', 'taps[1].op': '"Relu"', 'splits.seed': '0', 'splits.test': '["x", "y"]'}
    """
    return dict(_leaves(value, key))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(inner, list | dict) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{number}]")
    elif key:
        yield key, json.dumps(value, ensure_ascii=False)


def _spec(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of a spec with what ``--set`` changed, without its models, which have a part of their own."""
    text, settings = str(facts.get("text", "")), list(facts.get("settings", []))
    try:
        values = flat(_long_keys(yaml_loader.load(text, "spec").value))
        for setting in settings:
            name, _, value = setting.partition("=")
            path = re.sub(r"^(model|reduction|probe)(?=[.\[]|$)", lambda match: f"{_LONG[match[1]]}.default", name)
            path = re.sub(r"\.([0-9]+)(?=\.|$)", r"[\1]", path)
            values = {key: each for key, each in values.items() if not _within(key, path)}
            new = yaml_loader.parse_value(value)
            values |= {} if new is None else flat(new, path)
    except UserError:  # another version's format: that it differs is all that can be told
        return {"text": hashlib.sha256("\0".join([text, *settings]).encode()).hexdigest()[:16]}
    return {key: value for key, value in values.items() if not _within(key, "models")}


def _long_keys(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {_LONG.get(key, key): {"default": value} if key in _LONG else value for key, value in tree.items()}


def _within(key: str, path: str) -> bool:
    return key == path or key.startswith((f"{path}.", f"{path}["))
