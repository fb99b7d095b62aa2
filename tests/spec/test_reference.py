"""The JSON Schema against an independent validator, and the table of all keys."""

import copy
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from probekit import Dataset, Reduction, Section, hookimpl
from probekit.components import CheckpointFiles
from probekit.hookspecs import REGISTER_HOOKS
from probekit.plugins import Plugins, Provider, installed_providers
from probekit.spec import yaml_loader
from probekit.spec.model import Spec, TapEntry
from probekit.spec.reference import json_schema, reference
from probekit.spec.rows import Rows, Store
from probekit.spec.splits import ShareOf, Splits

ROOT = Path(__file__).parents[2]
CORE = Plugins(installed_providers(autoload=False))
ALL = Plugins()


def read(text: str):
    document = yaml_loader.load(text, "spec.yaml")
    assert document.problems == ()
    return document.value


@pytest.fixture(scope="module")
def schema():
    return json_schema(ALL)


@pytest.fixture(scope="module")
def validator(schema):
    return Draft202012Validator(schema)


def test_the_schema_is_valid_against_its_metaschema(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    Draft202012Validator.check_schema(json_schema(CORE))


def test_no_reference_of_the_schema_leads_nowhere_and_no_mark_is_left(schema):
    text = str(schema)
    names = set(re.findall(r"'\$ref': '#/\$defs/([^']+)'", text))
    assert names <= set(schema["$defs"])
    sections = {"TapEntry", "Rows", "Splits", "ShareOf", "Store", "InputBinding", "ModelOutput", "CheckpointFiles"}
    assert {*REGISTER_HOOKS, *sections} <= names
    assert "x-probekit" not in text
    assert "shapes_values" not in text


def test_the_schema_names_the_kinds_of_plugins_too(schema):
    assert {"backend.toy", "dataset.toy_blobs", "factor.toy_parity"} <= set(schema["$defs"])
    assert {one["$ref"] for one in schema["$defs"]["backend"]["oneOf"]} == {
        f"#/$defs/backend.{kind}" for kind in ALL.kinds("backend")
    }
    assert "backend.toy" not in json_schema(CORE)["$defs"]


SPECS = [*sorted((ROOT / "specs").glob("*.yaml")), ROOT / "plugins" / "probekit-toy" / "tests" / "toy.yaml"]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_every_spec_of_this_repository_is_accepted(validator, path):
    assert [error.message for error in validator.iter_errors(read(path.read_text(encoding="utf-8")))] == []


# The specs of the design, without the keys that a later version brings.
DESIGN = {
    "images": """
        probekit: 1
        name: resnet50-imagenet
        model:
          kind: onnx
          path: ${MODELS}/resnet50.onnx
          output: {name: logits, factor: class}
        data:
          kind: images
          path: ${IMAGENET}/val
          preprocess: {resize: 256, center_crop: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
        taps:
          - input
          - {op: Add, as: "add_{i}"}
        reduction: {kind: pool}
        labels:
          class: {kind: column, column: label}
          living: {kind: group, column: label, groups: {animal: "0-397", other: "398-999"}}
        splits: {train: 0.8, valid: 0.1, test: 0.1, stratify: class, seed: 0}
        probe: {kind: linear, penalty: auto}
        controls: [shuffled_labels]
        reports: [terminal, html, json, csv]
        """,
    "tokens": """
        probekit: 1
        model:
          kind: torch
          factory: ./net.py:build
          inputs: {input_ids: {column: ids}, attention_mask: {column: mask}}
        data: {kind: arrays, arrays: tokens.npz}
        rows: {per: position, mask: mask, group: sentence}
        taps: [{match: "layers.*", layout: TNC}]
        reduction: {kind: flatten}
        labels: {pos: {kind: column, column: pos, missing: drop}}
        controls: [shuffled_labels, {kind: control_task, by: word, factors: [pos], seeds: 5}]
        splits: {column: split, test: [in_domain, out_of_domain]}
        store: {path: ~/features, dtype: bfloat16, durability: fast}
        memory: 8GiB
        """,
    "training": """
        probekit: 1
        models:
          steps: {kind: torch, factory: "timm:vit", checkpoints: {glob: "ckpt/step_*.pt", step: "step_*"}}
          named: {kind: onnx, path: a.onnx, checkpoints: {late: late.onnx, early: early.onnx, untrained: null}}
        data: {kind: images, path: pictures, on_bad_input: skip, workers: 4}
        reductions:
          mean: {kind: pool, mask: mask}
          last: {kind: select, position: last, mask: mask}
        labels: {class: {kind: column}}
        memory: 1073741824
        """,
    "state": """
        probekit: 1
        model:
          kind: onnx
          path: vad.onnx
          inputs: {input: {column: frames}, state: {zeros: [2, N, 128]}, sr: {value: 16000, dtype: int64}}
        data: {kind: arrays, arrays: {frames: frames.npy}, columns: columns.csv}
        labels: {speech: {kind: column, column: speech}}
        """,
}


@pytest.mark.parametrize("name", DESIGN)
def test_the_specs_of_the_design_are_accepted(validator, name):
    assert [error.message for error in validator.iter_errors(read(DESIGN[name]))] == []


WRONG = {
    "an unknown key": lambda spec: spec.update(tapz=["a"]),
    "no model": lambda spec: spec.pop("model"),
    "no data": lambda spec: spec.pop("data"),
    "no labels": lambda spec: spec.pop("labels"),
    "labels without an entry": lambda spec: spec.update(labels={}),
    "no version": lambda spec: spec.pop("probekit"),
    "another version": lambda spec: spec.update(probekit=2),
    "both model and models": lambda spec: spec.update(models={"a": spec["model"]}),
    "a model without a kind": lambda spec: spec["model"].pop("kind"),
    "an unknown kind": lambda spec: spec["model"].update(kind="onx"),
    "a key of another kind": lambda spec: spec["model"].update(factory="a:b"),
    "an unknown key in a component": lambda spec: spec["data"]["preprocess"].update(resise=3),
    "a number out of range": lambda spec: spec["model"].update(batch_size=0),
    "text for a number": lambda spec: spec.update(max_taps="ten"),
    "a number for text": lambda spec: spec.update(name=3),
    "a tap that is a number": lambda spec: spec["taps"].append(3),
    "a tap without match and op": lambda spec: spec["taps"].append({"as": "x"}),
    "a misspelt tap key": lambda spec: spec["taps"].append({"match": "a", "reduction": ["x"]}),
    "taps that are text": lambda spec: spec.update(taps="relu"),
    "no taps": lambda spec: spec.update(taps=[]),
    "an unknown layout": lambda spec: spec["taps"].append({"match": "a", "layout": "NCX"}),
    "rows of an unknown kind": lambda spec: spec.update(rows={"per": "token"}),
    "an unknown key of rows": lambda spec: spec.update(rows={"per": "position", "maks": "m"}),
    "rows that are text": lambda spec: spec.update(rows="position"),
    "a store of a number": lambda spec: spec.update(store=3),
    "features of an unknown dtype": lambda spec: spec.update(store={"dtype": "int8"}),
    "a memory of a fraction": lambda spec: spec.update(memory=1.5),
    "a memory of nothing": lambda spec: spec.update(memory=0),
    "checkpoints in a list": lambda spec: spec["model"].update(checkpoints=["a.onnx"]),
    "no checkpoint": lambda spec: spec["model"].update(checkpoints={}),
    "a checkpoint that is a number": lambda spec: spec["model"].update(checkpoints={"a": 3}),
    "an unknown answer to bad inputs": lambda spec: spec["data"].update(on_bad_input="skpi"),
    "an unknown report": lambda spec: spec["reports"].append("htlm"),
    "a report that is a list": lambda spec: spec["reports"].append(["html"]),
    "plugins that are text": lambda spec: spec.update(plugins="openvino"),
    "a required version that is a number": lambda spec: spec.update(plugins={"probekit-toy": 0.1}),
    "an unknown control": lambda spec: spec["controls"].append("shufled_labels"),
    "a control without the key that it needs": lambda spec: spec["controls"].append("control_task"),
    "a control that is drawn never": lambda spec: spec["controls"].append({"kind": "shuffled_labels", "seeds": 0}),
    "a share beyond 1": lambda spec: spec["splits"].update(valid={"of": "a", "share": 1.5}),
    "a label that is a kind's name": lambda spec: spec["labels"].update(other="column"),
    "a learned reduction of a number": lambda spec: spec.update(reduction={"kind": "pca", "of": 3}),
    "an unknown key in a plugin's component": lambda spec: spec.update(data={"kind": "toy_blobs", "center": 3}),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_spec_is_refused(validator, fault):
    spec = copy.deepcopy(read(DESIGN["images"]))
    WRONG[fault](spec)
    assert not validator.is_valid(spec)


def test_a_report_may_be_a_name_or_a_mapping(validator):
    spec = read(DESIGN["images"])
    assert validator.is_valid({**spec, "reports": ["html", {"kind": "csv"}]})


def test_a_control_may_be_a_name_where_it_needs_no_other_key(validator):
    spec = read(DESIGN["images"])
    task = {"kind": "control_task", "by": "word"}
    assert validator.is_valid({**spec, "controls": ["shuffled_labels", {"kind": "shuffled_labels", "seed": 3}, task]})
    assert validator.is_valid({**spec, "controls": []})


def test_a_store_may_be_a_folder_or_a_mapping(validator):
    spec = read(DESIGN["images"])
    assert validator.is_valid({**spec, "store": "~/features"})
    assert validator.is_valid({**spec, "store": {"dtype": "float16"}})


def test_a_plugins_component_is_accepted(validator):
    spec = {**read(DESIGN["images"]), "data": {"kind": "toy_blobs", "centres": 3}}
    assert validator.is_valid({**spec, "labels": {"class": {"kind": "toy_parity"}}})


# --- two plugins that call different sections by one name ------------------------------------------------------------


def plugin(monkeypatch: pytest.MonkeyPatch, name: str, hook: str, component: type) -> None:
    module = types.ModuleType(name)
    setattr(module, hook, hookimpl(specname=hook)(lambda: [component]))
    monkeypatch.setitem(sys.modules, name, module)


def one_component():
    class Options(Section):
        """Options of one."""

        size: int = Field(1, description="how large")
        below: list["Options"] = Field(default_factory=list, description="more | of them")

    class OneDataset(Dataset):
        """One."""

        kind: Literal["one"] = "one"
        options: Options = Field(default_factory=Options, description="some; default: small ones")

        def open(self):
            raise NotImplementedError

    return OneDataset


def other_component():
    class Options(Section):
        """Options of the other."""

        colour: str = Field(description="which")

    class OtherReduction(Reduction):
        """The other."""

        kind: Literal["other"] = "other"
        options: dict[str, Options] = Field(default_factory=dict, description="by name")

        def program(self, tap):
            raise NotImplementedError

    return OtherReduction


@pytest.fixture
def two_plugins(monkeypatch):
    plugin(monkeypatch, "one_plugin", "register_datasets", one_component())
    plugin(monkeypatch, "other_plugin", "register_reductions", other_component())
    own = installed_providers(autoload=False)
    one = Provider("dataset", "one", "one_plugin", "one-plugin", "1")
    other = Provider("reduction", "other", "other_plugin", "other-plugin", "2")
    return Plugins([*own, one, other])


def test_sections_of_one_name_are_kept_apart(two_plugins):
    validator = Draft202012Validator(json_schema(two_plugins))
    spec = read(DESIGN["images"])
    good = {"kind": "one", "options": {"size": 3, "below": [{"size": 4}]}}
    assert validator.is_valid({**spec, "data": good})
    assert not validator.is_valid({**spec, "data": {"kind": "one", "options": {"colour": "red"}}})
    assert not validator.is_valid({**spec, "data": {"kind": "one", "options": {"below": [{"colour": "red"}]}}})
    assert validator.is_valid({**spec, "reduction": {"kind": "other", "options": {"a": {"colour": "red"}}}})
    assert not validator.is_valid({**spec, "reduction": {"kind": "other", "options": {"a": {"size": 3}}}})


def test_the_table_shows_the_sections_of_plugins(two_plugins):
    table = reference(two_plugins)
    assert "#### `options` of `kind: one`\n\nOptions of one.\n" in table
    assert "| `options` | mapping | small ones | some |" in table
    assert "| `size` | whole number | `1` | how large |" in table
    assert "| `below` | list of mappings | empty | more \\| of them |" in table
    assert "#### `options` of `kind: other`\n\nOptions of the other.\n" in table
    assert "| `colour` | text | | which |" in table


# --- the table -------------------------------------------------------------------------------------------------------


def rows(table: str) -> dict[str, dict[str, list[str]]]:
    """Return the rows of each heading by key: type, default, meaning."""
    found: dict[str, dict[str, list[str]]] = {}
    heading = ""
    for line in table.splitlines():
        if line.startswith(("## ", "### ")):
            heading = line.lstrip("# ")
            found[heading] = {}
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`") and not found[heading].get(cells[0]):
            found[heading][cells[0].strip("`")] = cells[1:]
    return found


def fields_of(section: type) -> dict[str, object]:
    return {info.alias or name: info for name, info in section.model_fields.items() if name != "kind"}


def test_every_key_of_every_section_stands_in_the_table_with_type_default_and_meaning():
    table = rows(reference(ALL))
    sections = {
        "The spec": Spec,
        "Entries of `taps`": TapEntry,
        "`splits`": Splits,
        "`splits.valid` as a mapping": ShareOf,
        "`rows`": Rows,
        "`store`": Store,
        "`model.checkpoints` by a pattern": CheckpointFiles,
    }
    titles = list(table)
    for category in REGISTER_HOOKS:
        for kind in ALL.kinds(category):
            title = f"`kind: {kind}`"
            assert titles.count(title) == 1
            sections[title] = ALL.find(category, kind)
    for title, section in sections.items():
        fields = fields_of(section)
        assert set(fields) <= set(table[title]), title
        for key, info in fields.items():
            kind, default, meaning = table[title][key]
            assert kind, (title, key)
            assert meaning, (title, key)
            required = info.is_required() and (section, key) not in {(Spec, "name"), (Spec, "reports")}
            assert bool(default) != required, (title, key)


EXPECTED = """\
| `max_taps` | whole number from 1 | `1000` | more taps than this are refused |
| `taps` | list of texts or mappings | `["*"]` | what to tap; `*` is everything |
| `reduction` | [reduction](#reductions-reduction) | `{kind: pool}` | short for
| `reports` | list of [reports](#reports-reports) | `[terminal, html, csv, json]` | views of the result |
| `controls` | list of [controls](#controls-controls) | none | other labels for the same rows,
| `by` | text | | the column whose values get a label each,
| `factors` | list of texts | all of them | the label factors that it is made for |
| `seeds` | whole number from 1 to 100 | `1` | how often it is drawn;
| `labels` | mapping from names to [label factors](#label-factors-labels) | | label factors by name |
| `seed` | whole number from 0 to 4,294,967,295 | `0` | of all draws |
| `share` | number above 0 and below 1 | | share of them,
| `allow_leakage` | `true` or `false` | `false` |
| `train` | number, text or list of texts | 0.7, or 'train' |
| `layout` | `NC`, `NCHW`, `NHWC`, `NCDHW`, `NCT`, `NTC` or `TNC` | none |
| `memory` | whole number from 1 or text | 80 % of what is free | bytes (or `8GiB`)
| `store` | text or mapping | its own defaults | where features are kept |
| `per` | `example` or `position` | `example` | one feature row per example or per position |
| `durability` | `full` or `fast` | `full` |
| `glob` | path | | the files: `ckpt/step_*.safetensors`;
| `on_bad_input` | `fail` or `skip` | `fail` |
| `checkpoints` | mapping from names to paths or mapping | none |
| `value` | number, `true`, `false` or list of numbers | none |
| `batch_size` | whole number from 1 to 1,000,000 | `64` | examples in one forward pass |
| `arrays` | path or mapping from names to paths | |
| `of` | [reduction](#reductions-reduction) | flatten |
| `column` | text | drawn at random | the column that names each example's split |
"""


@pytest.mark.parametrize("row", EXPECTED.splitlines())
def test_the_table_reads_well(row):
    assert f"\n{row}" in reference(CORE)


def test_the_links_of_the_table_lead_to_its_headings():
    table = reference(CORE)
    headings = re.findall(r"^#+ (.*)$", table, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]*)\)", table))
    assert links
    assert links <= anchors


def test_every_row_has_four_cells_and_no_markup_of_another_language():
    for line in reference(CORE).splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
        assert "``" not in line
        assert "  " not in line
        assert line == line.rstrip()


def test_the_page_in_the_repository_is_what_the_command_prints(tmp_path):
    out = tmp_path / "table.md"
    environ = {**os.environ, "PROBEKIT_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(
        [sys.executable, "-m", "probekit", "schema", "--table", "--out", str(out)],
        env=environ,
        check=True,
        cwd=tmp_path,
    )
    text = out.read_text(encoding="utf-8")
    assert text == reference(CORE)
    page = (ROOT / "docs" / "spec_reference.md").read_text(encoding="utf-8")
    command = "PROBEKIT_DISABLE_PLUGIN_AUTOLOAD=1 probekit schema --table --out docs/spec_reference.md"
    assert page == text, f"type: {command}"
