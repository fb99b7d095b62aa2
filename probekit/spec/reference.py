"""The JSON Schema of a spec, plugins' kinds included, and the table of all keys and defaults made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probekit.hookspecs import REGISTER_HOOKS
from probekit.sections import COMPONENT_MARK
from probekit.spec.model import DEFAULTS, NOT_BUILT_YET, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.plugins import Plugins

_TITLES = {
    "backend": "Backends (`model`)",
    "dataset": "Datasets (`data`)",
    "factor": "Label factors (`labels`)",
    "reduction": "Reductions (`reduction`)",
    "probe": "Probes (`probe`)",
    "report": "Reports (`reports`)",
}


def json_schema(plugins: Plugins) -> dict[str, Any]:
    """Return the schema, draft 2020-12, of a spec with every installed kind.

    Raises:
        MachineError: a plugin is broken.
    """
    schema = Spec.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema.pop("$defs", {})
    for category in REGISTER_HOOKS:
        references = []
        for kind in plugins.kinds(category):
            component = plugins.find(category, kind)
            own = component.model_json_schema(by_alias=True)
            definitions |= own.pop("$defs", {})
            own["required"] = sorted({*own.get("required", []), "kind"})
            definitions[f"{category}.{kind}"] = own
            references.append({"$ref": f"#/$defs/{category}.{kind}"})
        definitions[category] = {"oneOf": references}
    bare = {"enum": plugins.kinds("report"), "description": "short for {kind: NAME}"}
    definitions["report"]["oneOf"].append(bare)
    definitions["TapEntry"] = {"anyOf": [{"type": "string"}, definitions["TapEntry"]]}
    # What a spec may leave out: name is made from the file's name, the others have defaults with kinds of their own.
    schema["required"] = ["probekit", "data", "labels"]
    schema["oneOf"] = [{"required": ["model"]}, {"required": ["models"]}]
    full = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}
    filled: dict[str, Any] = _filled(full)
    return filled


def _filled(node: Any) -> Any:
    if isinstance(node, dict):
        if COMPONENT_MARK in node:
            rest = {key: value for key, value in node.items() if key != COMPONENT_MARK}
            return {"$ref": f"#/$defs/{node[COMPONENT_MARK]}", **rest}
        return {key: _filled(value) for key, value in node.items() if key != "shapes_values"}
    return [_filled(item) for item in node] if isinstance(node, list) else node


def reference(plugins: Plugins) -> str:
    """Return Markdown: every key of a spec with its type, default and meaning."""
    schema = json_schema(plugins)
    lines = [
        "# Spec reference",
        "",
        "Made by `probekit schema --table`. A key without a default is required. Paths are relative to the spec's own",
        "file; `~`, `${VAR}` and `${VAR:-default}` are replaced in them.",
        "",
        "## The spec",
        "",
        *_table(schema, schema["$defs"], DEFAULTS),
        "",
        "Not built yet, and refused: "
        + ", ".join(f"`{key}` ({meaning})" for key, meaning in NOT_BUILT_YET.items())
        + ".",
    ]
    sections = [
        ("### Entries of `taps`", "TapEntry"),
        ("### `splits`", "Splits"),
        ("### `splits.valid` as a mapping", "ShareOf"),
    ]
    sections += [("### `model.inputs.NAME`", "InputBinding"), ("### `model.output`", "ModelOutput")]
    for title, name in sections:
        section = schema["$defs"][name]
        section = section["anyOf"][1] if "anyOf" in section else section
        lines += ["", title, "", section.get("description", ""), "", *_table(section, schema["$defs"])]
    for category, title in _TITLES.items():
        lines += ["", f"## {title}"]
        for kind in plugins.kinds(category):
            section = schema["$defs"][f"{category}.{kind}"]
            about = " ".join(section.get("description", "").split())
            lines += ["", f"### `kind: {kind}`", "", about, "", *_table(section, schema["$defs"])]
            for key, name in _nested(section):
                lines += ["", f"`{key}`:", "", *_table(schema["$defs"][name], schema["$defs"])]
    return "\n".join(lines) + "\n"


def _nested(section: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the keys whose value is a section of its own that no other kind shares."""
    for key, value in section["properties"].items():
        for option in (value, *value.get("anyOf", [])):
            name = option.get("$ref", "").removeprefix("#/$defs/")
            if name.endswith("Preprocess"):
                yield key, name


def _table(section: dict[str, Any], definitions: dict[str, Any], defaults: dict[str, Any] | None = None) -> list[str]:
    properties = section.get("properties", {})
    rows = [key for key in properties if key != "kind"]
    if not rows:
        return ["No keys but `kind`."]
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    required = set(section.get("required", []))
    for key in rows:
        value = properties[key]
        default = "" if key in required else _default((defaults or {}).get(key, value.get("default", ...)), value)
        meaning = " ".join(str(value.get("description", "")).split())
        lines.append(f"| `{key}` | {_type(value, definitions)} | {default} | {meaning} |".replace("  ", " "))
    return lines


def _default(value: Any, schema: dict[str, Any]) -> str:
    if value is ... or value is None:
        return "none" if value is None or schema.get("type") not in {"array", "object"} else "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict | list):
        return f"`{_yaml(value)}`"
    return f"`{value}`"


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items() if item is not None) + "}"
    return "[" + ", ".join(_yaml(item) for item in value) + "]" if isinstance(value, list) else str(value)


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": ""}
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(filter(None, (_type(option, definitions) for option in schema["anyOf"]))))
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return f"a {name}" if name in REGISTER_HOOKS else "mapping"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), definitions)}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping from names to {_type(schema['additionalProperties'], definitions)}"
    if schema.get("format") == "path":
        return "path"
    return words.get(schema.get("type", ""), "value")
