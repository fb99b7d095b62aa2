"""The JSON Schema of a spec, plugins' kinds included, and the table of all keys and defaults made from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from probekit.hookspecs import REGISTER_HOOKS
from probekit.sections import COMPONENT_MARK
from probekit.spec.model import DEFAULTS, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from probekit.plugins import Plugins

_TITLES = {
    "backend": "Backends (`model`)",
    "dataset": "Datasets (`data`)",
    "factor": "Label factors (`labels`)",
    "reduction": "Reductions (`reduction`)",
    "probe": "Probes (`probe`)",
    "control": "Controls (`controls`)",
    "report": "Reports (`reports`)",
    "executor": "Executors (`executor`)",
}
_SECTIONS = {
    "TapEntry": "Entries of `taps`",
    "Splits": "`splits`",
    "ShareOf": "`splits.valid` as a mapping",
    "Rows": "`rows`",
    "Store": "`store`",
    "InputBinding": "`model.inputs.NAME`",
    "ModelOutput": "`model.output`",
    "CheckpointFiles": "`model.checkpoints` by a pattern",
}
"""The sections that are no components, with their titles."""


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
            name = f"{category}.{kind}"
            own = plugins.find(category, kind).model_json_schema(by_alias=True)
            nested = own.pop("$defs", {})
            # Two plugins may call different sections by one name.
            renamed = {key: f"{name}.{key}" for key, one in nested.items() if definitions.get(key, one) != one}
            definitions |= {renamed.get(key, key): _referring(one, renamed) for key, one in nested.items()}
            own["required"] = sorted({*own.get("required", []), "kind"})
            definitions[name] = _referring(own, renamed)
            references.append({"$ref": f"#/$defs/{name}"})
        definitions[category] = {"oneOf": references}
    for category in ("control", "report"):
        short = [kind for kind in plugins.kinds(category) if definitions[f"{category}.{kind}"]["required"] == ["kind"]]
        definitions[category]["oneOf"].append({"enum": short, "description": "short for {kind: NAME}"})
    definitions["TapEntry"]["anyOf"] = [{"required": ["match"]}, {"required": ["op"]}]
    for name in ("TapEntry", "Store"):
        definitions[name] = {"anyOf": [{"type": "string"}, definitions[name]]}
    # What a spec may leave out: name is made from the file's name, the others have defaults with kinds of their own.
    schema["required"] = ["probekit", "data", "labels"]
    schema["oneOf"] = [{"required": ["model"]}, {"required": ["models"]}]
    full = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}
    filled: dict[str, Any] = _filled(full)
    return filled


def _referring(node: Any, renamed: dict[str, str]) -> Any:
    if isinstance(node, dict):
        reference = str(node.get("$ref", "")).removeprefix("#/$defs/")
        new = {"$ref": f"#/$defs/{renamed[reference]}"} if reference in renamed else {}
        return {key: _referring(value, renamed) for key, value in node.items()} | new
    return [_referring(item, renamed) for item in node] if isinstance(node, list) else node


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
    definitions = schema["$defs"]
    lines = [
        "# Spec reference",
        "",
        "Made by `probekit schema --table`. A key without a default is required. Paths are relative to the spec's own",
        "file; `~`, `${VAR}` and `${VAR:-default}` are replaced in them.",
        "",
        "## The spec",
        "",
        *_table(schema, definitions, DEFAULTS | {"taps": ["*"]}),
    ]
    for name in ("TapEntry", "Rows", "Splits", "ShareOf", "Store"):
        lines += _section(f"### {_SECTIONS[name]}", definitions[name], definitions)
    for category, title in _TITLES.items():
        lines += ["", f"## {title}"]
        for name in ("InputBinding", "ModelOutput", "CheckpointFiles") if category == "backend" else ():
            lines += _section(f"### {_SECTIONS[name]}", definitions[name], definitions)
        for kind in plugins.kinds(category):
            section = definitions[f"{category}.{kind}"]
            lines += _section(f"### `kind: {kind}`", section, definitions)
            for name, key in _nested(section, definitions).items():
                lines += _section(f"#### `{key}` of `kind: {kind}`", definitions[name], definitions)
    return "\n".join(lines) + "\n"


def _section(title: str, section: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    section = section["anyOf"][1] if "properties" not in section else section
    about = _prose(section.get("description", ""))
    return ["", title, "", *([about, ""] if about else []), *_table(section, definitions)]


def _nested(section: dict[str, Any], definitions: dict[str, Any]) -> dict[str, str]:
    """Return the sections that only this kind has, each with the first key that leads to it, in their order."""
    found: dict[str, str] = {}
    open_sections = [("", section)]
    for path, one in open_sections:
        for key, value in one["properties"].items():
            for name in _references(value):
                if name not in found and name not in _SECTIONS and name not in REGISTER_HOOKS:
                    found[name] = f"{path}{key}"
                    open_sections.append((f"{path}{key}.", definitions[name]))
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].removeprefix("#/$defs/")
        yield from (name for value in node.values() for name in _references(value))
    elif isinstance(node, list):
        yield from (name for value in node for name in _references(value))


def _table(section: dict[str, Any], definitions: dict[str, Any], defaults: dict[str, Any] | None = None) -> list[str]:
    properties, required = section["properties"], section.get("required", [])
    rows = [key for key in properties if key != "kind"]
    if not rows:
        return ["No keys but `kind`."]
    if defaults is None:
        rows.sort(key=lambda key: key not in required)
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in rows:
        value = properties[key]
        meaning, default = _prose(value.get("description", "")), (defaults or {}).get(key, value.get("default", ...))
        if key in required:
            shown = ""
        elif default is not None and default is not ...:
            shown = f"`{_yaml(default)}`"
        else:
            # A description says in words what an absent value stands for.
            meaning, _, said = f"; {meaning}".partition("; default: ")
            shown = said or ("none" if default is None else "its own defaults" if "$ref" in value else "empty")
            meaning = meaning.removeprefix("; ") or _about(value, definitions)
        cells = [f"`{key}`", _either(_choices(value, definitions)), shown, meaning]
        lines.append(" ".join(f"| {cell}".rstrip() for cell in (cell.replace("|", "\\|") for cell in cells)) + " |")
    return lines


def _about(value: Any, definitions: dict[str, Any]) -> str:
    return next((_prose(definitions[name].get("description", "")) for name in _references(value)), "")


def _prose(text: str) -> str:
    """Return a docstring's words as one line of Markdown."""
    return " ".join(text.replace("``", "`").split())


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        return value if value[:1].isalnum() else json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _choices(schema: dict[str, Any], definitions: dict[str, Any], s: str = "") -> list[str]:
    """Return the types that a value can have, in words; ``s`` is the ending of a plural."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name not in REGISTER_HOOKS:
            return _choices(definitions[name], definitions, s)
        title = _TITLES[name]
        anchor = title.lower().replace(" ", "-").translate(dict.fromkeys(map(ord, "(`)")))
        return [f"[{title.split(' (')[0].lower().removesuffix('s')}{s}](#{anchor})"]
    if "anyOf" in schema and "properties" not in schema:
        words = [word for option in schema["anyOf"] for word in _choices(option, definitions, s)]
        return [word for word in dict.fromkeys(words) if word != f"whole number{s}" or f"number{s}" not in words]
    if "enum" in schema or "const" in schema:
        return [f"`{_yaml(value)}`" for value in schema.get("enum", [schema.get("const")])]
    kind = schema.get("type")
    if kind == "array":
        return [f"list{s} of {_either(_choices(schema.get('items', {}), definitions, 's'))}"]
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return [f"mapping{s} from names to {_either(_choices(schema['additionalProperties'], definitions, 's'))}"]
    if kind in ("null", "boolean"):
        return ["`true`", "`false`"] if kind == "boolean" else []
    words_of = {"string": "text", "integer": "whole number", "number": "number", "object": "mapping"}
    word = "path" if schema.get("format") == "path" else words_of.get(str(kind), "value")
    return [f"{word}{s}{_range(schema)}"]


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _range(schema: dict[str, Any]) -> str:
    most = "to" if "minimum" in schema else "at most"
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": most, "exclusiveMaximum": "below"}
    said = [f"{word} {schema[key]:,}".removesuffix(".0") for key, word in words.items() if key in schema]
    return f" {(' ' if most == 'to' else ' and ').join(said)}" if said else ""
