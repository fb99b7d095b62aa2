"""From a file to a validated spec: the faults Y03 to Y37 with their whole messages, all of a file at once."""

import copy
import dataclasses
import functools
import json
import re
import sys
import types
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field
from pydantic_core import PydanticCustomError

from probekit import Dataset, Examples, SpecPath, hookimpl
from probekit.components import CheckpointFiles
from probekit.errors import EXIT_CODES, MachineError, SpecError
from probekit.executors import LocalExecutor
from probekit.plugins import Plugins, Provider, installed_providers
from probekit.spec.load import SOFT, check_spec, load_spec
from probekit.spec.rows import Rows, Store, parse_size

ROOT = Path(__file__).parents[2]
KINDS = {
    "backend": ["onnx", "torch"],
    "dataset": ["arrays", "digits", "images"],
    "factor": ["bins", "column", "group"],
    "reduction": ["flatten", "pca", "pool", "subset"],
    "probe": ["linear"],
    "control": ["control_task", "shuffled_labels"],
    "report": ["csv", "html", "json", "terminal"],
    "executor": ["local"],
}


class PointsDataset(Dataset):
    """What a third party might add."""

    kind: Literal["points"] = "points"
    file: SpecPath = Field(description="where they are")
    dimensions: int = Field(2, ge=1, description="how many")
    axes: dict[str, list[int]] = Field(default_factory=dict, description="by name")

    def open(self) -> Examples:
        raise NotImplementedError


@hookimpl
def register_datasets():
    return [PointsDataset]


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """Kinds that no later version changes, and one of a third party."""
    module = types.ModuleType("points_plugin")
    module.register_datasets = register_datasets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "points_plugin", module)
    own = [p for p in installed_providers(autoload=False) if p.kind in KINDS.get(p.category, ())]
    return Plugins([*own, Provider("dataset", "points", "points_plugin", "points-plugin", "1.0")])


@pytest.fixture
def found(plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return what a check of a text finds, as (code, whole message)."""
    monkeypatch.chdir(tmp_path)

    def check(text: str, *changes: str, environ: dict[str, str] | None = None) -> list[tuple[str, str]]:
        (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
        checked = check_spec("spec.yaml", plugins, changes, environ=environ or {})
        assert (checked.loaded is None) == bool(checked.problems)
        return [(problem.code, str(problem)) for problem in checked.problems]

    return check


START = """\
probekit: 1
model: {kind: onnx, path: a.onnx}
data: {kind: digits}
labels: {d: {kind: column}}
"""
TOP_KEYS = (
    "valid: controls, data, executor, labels, max_features, max_taps, memory, model, models, name, plugins, probe, "
    "probekit, probes, reduction, reductions, reports, rows, splits, store, taps"
)
REDUCTIONS = "flatten, pca, pool, subset"
REPORTS = "csv, html, json, terminal"
NAME_HINT = "a name has 1 to 80 of A-Z a-z 0-9 . _ -"

FAULTS = [
    # Y03: unknown keys, at the key, with the keys of the section that it stands in
    ("tapz: [a]", "PK-Y03", "5:1: tapz: unknown key 'tapz'; did you mean 'taps'?"),
    ("TAPS: [a]", "PK-Y03", "5:1: TAPS: unknown key 'TAPS'; did you mean 'taps'?"),
    ("colour: red", "PK-Y03", f"5:1: colour: unknown key 'colour'; {TOP_KEYS}"),
    ("reduction:\n  kind: pool\n  hwo: max", "PK-Y03", "7:3: reduction.hwo: unknown key 'hwo'; did you mean 'how'?"),
    ("taps: [{mach: x}]", "PK-Y03", "5:9: taps[0].mach: unknown key 'mach'; did you mean 'match'?"),
    (
        "taps: [a, {match: x, depth: 3}]",
        "PK-Y03",
        "5:22: taps[1].depth: unknown key 'depth'; valid: as, layout, match, op, reductions",
    ),
    (
        "splits: {column: c, valid: {of: x, share: 0.3, seed: 3}}",
        "PK-Y03",
        "5:48: splits.valid.seed: unknown key 'seed'; valid: of, share",
    ),
    (
        "reductions: {a: {kind: pca, of: {kind: subset, featurs: 3}}}",
        "PK-Y03",
        "5:48: reductions.a.of.featurs: unknown key 'featurs'; did you mean 'features'?",
    ),
    ("reports: [{kind: html, x: 1}]", "PK-Y03", "5:24: reports[0].x: unknown key 'x'; valid: kind"),
    ("reports: [html]\n1: 2", "PK-Y03", f"6:1: 1: unknown key '1'; {TOP_KEYS}"),
    # Y04: wrong types, with the form that was probably meant
    ("max_taps: ten", "PK-Y04", "5:11: max_taps: expected a whole number, got text 'ten'"),
    ('max_taps: "20"', "PK-Y04", "5:11: max_taps: expected a whole number, got text '20'; write 20"),
    ("max_taps: 1_000", "PK-Y04", "5:11: max_taps: expected a whole number, got text '1_000'; write 1000"),
    ("max_taps: 1e3", "PK-Y04", "5:11: max_taps: expected a whole number, got the number 1000.0; write 1000"),
    ("max_taps: 1.5", "PK-Y04", "5:11: max_taps: expected a whole number, got the number 1.5"),
    ("max_taps: true", "PK-Y04", "5:11: max_taps: expected a whole number, got true"),
    ("max_taps:", "PK-Y04", "5:10: max_taps: expected a whole number, got nothing"),
    ("name: 3", "PK-Y04", "5:7: name: expected text, got the number 3; quote it: '3'"),
    ("name: true", "PK-Y04", "5:7: name: expected text, got true; quote it: 'true'"),
    ("name: [a]", "PK-Y04", '5:7: name: expected text, got a list ["a"]'),
    ("taps: relu", "PK-Y04", "5:7: taps: expected a list, got text 'relu'; write [relu]"),
    (
        "taps: {match: a}",
        "PK-Y04",
        '5:1: taps: expected a list, got a mapping {"match": "a"}; put \'- \' before it, or [ ] around it',
    ),
    ("taps: [3]", "PK-Y04", "5:8: taps[0]: expected text or a mapping, got the number 3"),
    ("taps: [[a]]", "PK-Y04", '5:8: taps[0]: expected text or a mapping, got a list ["a"]'),
    ("taps: [a, ]\nmax_taps: []", "PK-Y04", "6:11: max_taps: expected a whole number, got an empty list"),
    ("taps: [null]", "PK-Y04", "5:8: taps[0]: expected text or a mapping, got nothing"),
    ("taps: [{match: 3}]", "PK-Y04", "5:16: taps[0].match: expected text or a list, got the number 3; quote it: '3'"),
    ("taps: [{op: [a, 1]}]", "PK-Y04", "5:17: taps[0].op[1]: expected text, got the number 1; quote it: '1'"),
    (
        "taps: [{match: x, reductions: pool}]",
        "PK-Y04",
        "5:31: taps[0].reductions: expected a list, got text 'pool'; write [pool]",
    ),
    (
        "taps: [{match: x, layout: NCX}]",
        "PK-Y04",
        (
            "5:27: taps[0].layout: expected 'NC', 'NCHW', 'NHWC', 'NCDHW', 'NCT', 'NTC' or 'TNC', got text 'NCX'; "
            "did you mean 'NC'?"
        ),
    ),
    (
        "probe: {kind: linear, penalty: atuo}",
        "PK-Y04",
        "5:32: probe.penalty: expected 'auto', a number or a list, got text 'atuo'; did you mean 'auto'?",
    ),
    ("probe: {kind: linear, penalty: [1, a]}", "PK-Y04", "5:36: probe.penalty[1]: expected a number, got text 'a'"),
    (
        "probe: {kind: linear, penalty: true}",
        "PK-Y04",
        "5:32: probe.penalty: expected 'auto', a number or a list, got true",
    ),
    (
        "reduction: {kind: pool, how: 3}",
        "PK-Y04",
        "5:30: reduction.how: expected 'mean', 'max' or 'std', got the number 3",
    ),
    (
        "splits: {allow_leakage: yes}",
        "PK-Y04",
        "5:25: splits.allow_leakage: expected true or false, got text 'yes'; write true",
    ),
    (
        "splits: {column: c, valid: true}",
        "PK-Y04",
        "5:28: splits.valid: expected text, a number, a list or a mapping, got true; quote it: 'true'",
    ),
    (
        "reduction: pool",
        "PK-Y04",
        "5:12: reduction: expected a mapping with a 'kind:', got text 'pool'; write {kind: pool}",
    ),
    (
        "reduction: 3",
        "PK-Y04",
        f"5:12: reduction: expected a mapping with a 'kind:', got the number 3; installed: {REDUCTIONS}",
    ),
    (
        "reduction: {kind: pca, of: [pool]}",
        "PK-Y04",
        f"5:28: reduction.of: expected a mapping with a 'kind:', got a list [\"pool\"]; installed: {REDUCTIONS}",
    ),
    (
        "reduction: {kind: [pool]}",
        "PK-Y04",
        f'5:19: reduction.kind: expected text, got a list ["pool"]; installed: {REDUCTIONS}',
    ),
    (
        "reports: [3]",
        "PK-Y04",
        f"5:11: reports[0]: expected a kind or a mapping with one, got the number 3; installed: {REPORTS}",
    ),
    # Y06 and Y17 reach validation's list: the loader's own problems stand beside it
    ("max_taps: .nan", "PK-Y06", "5:11: '.nan' is not a finite number; quote it if text is meant"),
    (
        "taps: !!python/object/apply:os.system [a]",
        "PK-Y17",
        "5:7: tag !!python/object/apply:os.system is not allowed; a spec runs no code; remove the tag",
    ),
    # what cannot be a key (Y12, Y24)
    ("[a]: 3", "PK-Y24", "5:1: a list cannot be a key; write text, in quotes if need be"),
    ("<<: {max_taps: 3}", "PK-Y12", "5:1: merge keys (<<) are not allowed; write the keys out"),
    # Y26: references, at the reference
    ("splits: {stratify: e}", "PK-Y26", "5:20: splits.stratify: no label factor 'e'; valid: d (in 'labels')"),
    (
        "reductions: {mean: {kind: pool}}\ntaps:\n  - {match: x, reductions: [mean, maen]}",
        "PK-Y26",
        "7:35: taps[0].reductions[1]: no reduction 'maen'; did you mean 'mean'? (in 'reductions')",
    ),
    (
        "taps: [{match: x, reductions: [pool]}]",
        "PK-Y26",
        "5:32: taps[0].reductions[0]: no reduction 'pool'; define it: reductions: {pool: ...}",
    ),
    ("splits: {limit: {tset: 5}}", "PK-Y26", "5:24: splits.limit.tset: no split 'tset'; did you mean 'test'?"),
    # Y27: one name twice, with both lines
    ("taps:\n  - relu\n  - b\n  - relu", "PK-Y27", "8:5: taps[2]: tap 'relu' stands twice, first in line 6; keep one"),
    (
        "taps:\n  - {match: a, as: x}\n  - {op: Add, as: x}",
        "PK-Y27",
        "7:5: taps[1]: tap 'x' stands twice, first in line 6; keep one",
    ),
    # what is no name (Y28)
    ("name: a/b", "PK-Y28", f"5:7: name: 'a/b' is not a name; {NAME_HINT}"),
    ("name: ..", "PK-Y28", f"5:7: name: '..' is not a name; {NAME_HINT}"),
    ("name: con", "PK-Y28", f"5:7: name: 'con' is not a name; {NAME_HINT}"),
    ("name: lpt1.txt", "PK-Y28", f"5:7: name: 'lpt1.txt' is not a name; {NAME_HINT}"),
    ('name: "a\\0b"', "PK-Y28", f"5:7: name: 'a\\x00b' is not a name; {NAME_HINT}"),
    ('name: ""', "PK-Y28", f"5:7: name: '' is not a name; {NAME_HINT}"),
    (f"name: {'x' * 300}", "PK-Y28", f"5:7: name: '{'x' * 40}... (300 characters)' is not a name; {NAME_HINT}"),
    ("reductions: {a/b: {kind: pool}}", "PK-Y28", f"5:14: reductions.a/b: 'a/b' is not a name; {NAME_HINT}"),
    # what contradicts itself (Y29)
    (
        "models: {a: {kind: onnx, path: x}}",
        "PK-Y29",
        "5:1: models: 'model' and 'models' are two ways to say one thing; keep one",
    ),
    ("taps: [{as: x}]", "PK-Y29", "5:8: taps[0]: needs 'match:' or 'op:'"),
    # what is out of range (Y30)
    ("max_taps: 0", "PK-Y30", "5:11: max_taps: must be at least 1, got 0"),
    ("max_taps: -1", "PK-Y30", "5:11: max_taps: must be at least 1, got -1"),
    ("splits: {seed: 99999999999}", "PK-Y30", "5:16: splits.seed: must be at most 4294967295, got 99999999999"),
    ("probe: {kind: linear, tolerance: 0}", "PK-Y30", "5:34: probe.tolerance: must be more than 0, got 0"),
    (
        "splits: {column: c, valid: {of: x, share: 2}}",
        "PK-Y30",
        "5:43: splits.valid.share: must be less than 1, got 2",
    ),
    ("taps: []", "PK-Y30", "5:7: taps: must have at least 1 entry, got an empty list"),
    ("taps: [{match: []}]", "PK-Y30", "5:16: taps[0].match: must have at least 1 entry, got an empty list"),
    (
        "taps: [{match: x, reductions: []}]",
        "PK-Y30",
        "5:31: taps[0].reductions: must have at least 1 entry, got an empty list",
    ),
    # Y31: kinds, at the kind
    (
        "reduction:\n  kind: polo",
        "PK-Y31",
        f"6:9: reduction.kind: no plugin provides kind 'polo'; did you mean 'pool'? installed: {REDUCTIONS}",
    ),
    (
        "reduction: {kind: Fourier}",
        "PK-Y31",
        f"5:19: reduction.kind: no plugin provides kind 'Fourier'; installed: {REDUCTIONS}",
    ),
    ("reduction: {how: max}", "PK-Y31", f"5:1: reduction.kind: is missing; installed: {REDUCTIONS}"),
    (
        "reports: [htlm]",
        "PK-Y31",
        f"5:11: reports[0]: no plugin provides kind 'htlm'; did you mean 'html'? installed: {REPORTS}",
    ),
    (
        "reduction: {kind: pca, of: {kind: subst}}",
        "PK-Y31",
        f"5:35: reduction.of.kind: no plugin provides kind 'subst'; did you mean 'subset'? installed: {REDUCTIONS}",
    ),
    (
        "executor: {kind: locl}",
        "PK-Y31",
        "5:18: executor.kind: no plugin provides kind 'locl'; did you mean 'local'? installed: local",
    ),
    (
        "executor: local",
        "PK-Y04",
        "5:11: executor: expected a mapping with a 'kind:', got text 'local'; write {kind: local}",
    ),
    (
        "executor: {kind: local, proceses: 2}",
        "PK-Y03",
        "5:25: executor.proceses: unknown key 'proceses'; did you mean 'processes'?",
    ),
    ("executor: {kind: local, processes: 0}", "PK-Y30", "5:36: executor.processes: must be at least 1, got 0"),
    # Y35: no regular expressions
    ('taps: ["re:(a+)+$"]', "PK-Y35", "5:8: taps[0]: 're:(a+)+$': there are no regular expressions; use * and ?"),
    (
        'taps: [{match: [a, "re:b"]}]',
        "PK-Y35",
        "5:16: taps[0].match: 're:b': there are no regular expressions; use * and ?",
    ),
    # what one feature row is
    ("rows: {per: token}", "PK-Y04", "5:13: rows.per: expected 'example' or 'position', got text 'token'"),
    ("rows: {pre: position}", "PK-Y03", "5:8: rows.pre: unknown key 'pre'; did you mean 'per'?"),
    ("rows: {}\nmax_taps: 0", "PK-Y30", "6:11: max_taps: must be at least 1, got 0"),
    ("rows: position", "PK-Y04", "5:7: rows: expected a mapping, got text 'position'"),
    ("rows:", "PK-Y04", "5:6: rows: expected a mapping, got nothing"),
    ("rows: {group: 3}", "PK-Y04", "5:15: rows.group: expected text, got the number 3; quote it: '3'"),
    *(
        (
            f"rows: {text}",
            "PK-Y29",
            "5:1: rows: 'mask' is for per: position; give the mask to a reduction: {kind: pool, mask: ...}",
        )
        for text in ("{mask: m}", "{per: example, mask: m}")
    ),
    (
        "reduction: {kind: pool, mask: 3}",
        "PK-Y04",
        "5:31: reduction.mask: expected text, got the number 3; quote it: '3'",
    ),
    # where features are kept
    ("store:", "PK-Y04", "5:7: store: expected a folder or a mapping, got nothing"),
    ("store: 3", "PK-Y04", "5:8: store: expected a folder or a mapping, got the number 3"),
    ("store: []", "PK-Y04", "5:8: store: expected a folder or a mapping, got an empty list"),
    ('store: ""', "PK-Y28", "5:8: store: '' is not a path"),
    ('store: {path: ""}', "PK-Y28", "5:15: store.path: '' is not a path"),
    ("store: {paht: a}", "PK-Y03", "5:9: store.paht: unknown key 'paht'; did you mean 'path'?"),
    ("store: {path: 3}", "PK-Y04", "5:15: store.path: expected text, got the number 3; quote it: '3'"),
    ("store: ${NO}/x", "PK-Y33", "5:8: store: the variable ${NO} in '${NO}/x' is not set; type: export NO=..."),
    (
        "store: {dtype: int8}",
        "PK-Y04",
        "5:16: store.dtype: expected 'float32', 'float16' or 'bfloat16', got text 'int8'",
    ),
    (
        "store: {dtype: flaot16}",
        "PK-Y04",
        ("5:16: store.dtype: expected 'float32', 'float16' or 'bfloat16', got text 'flaot16'; did you mean 'float16'?"),
    ),
    (
        "store: {durability: slow}",
        "PK-Y04",
        "5:21: store.durability: expected 'full' or 'fast', got text 'slow'",
    ),
    # sizes
    *(
        (f"memory: {text}", "PK-Y04", f"5:9: memory: expected a size, got {told}; write 8GiB, or a number of bytes")
        for text, told in [
            ("lots", "text 'lots'"),
            ("8 gigs", "text '8 gigs'"),
            ("8  GiB", "text '8  GiB'"),
            ("-8GiB", "text '-8GiB'"),
            ("1e3GB", "text '1e3GB'"),
            (".5GB", "text '.5GB'"),
            ("GiB", "text 'GiB'"),
            ("'8GiB '", "text '8GiB '"),
            ('"8\\nGiB"', "text '8\\nGiB'"),
            ("٨GiB", "text '٨GiB'"),
            ("8_000", "text '8_000'"),
            ("1.5", "the number 1.5"),
            ("1e9", "the number 1000000000.0"),
            ("true", "true"),
            ("[8]", "a list [8]"),
        ]
    ),
    (
        f"memory: '{'9' * 400}'",
        "PK-Y04",
        f"5:9: memory: expected a size, got text '{'9' * 56}...; write 8GiB, or a number of bytes",
    ),
    (
        "memory: {GiB: 8}",
        "PK-Y04",
        '5:1: memory: expected a size, got a mapping {"GiB": 8}; write 8GiB, or a number of bytes',
    ),
    ("memory: 0", "PK-Y30", "5:9: memory: must be at least 1, got 0"),
    ("memory: -1", "PK-Y30", "5:9: memory: must be at least 1, got -1"),
    ("memory: 0.1B", "PK-Y30", "5:9: memory: must be at least 1, got 0"),
    # controls
    *(
        (f"controls: {text}", code, message)
        for text, code, message in [
            (
                "[shufled_labels]",
                "PK-Y31",
                "5:12: controls[0]: no plugin provides kind 'shufled_labels'; did you mean 'shuffled_labels'? "
                "installed: control_task, shuffled_labels",
            ),
            ("[control_task]", "PK-Y38", "5:12: controls[0].by: is missing"),
            (
                "shuffled_labels",
                "PK-Y04",
                "5:11: controls: expected a list, got text 'shuffled_labels'; write [shuffled_labels]",
            ),
            (
                "[{kind: shuffled_labels, sedes: 3}]",
                "PK-Y03",
                "5:36: controls[0].sedes: unknown key 'sedes'; did you mean 'seeds'?",
            ),
            (
                "[{kind: shuffled_labels, by: word}]",
                "PK-Y03",
                "5:36: controls[0].by: unknown key 'by'; valid: factors, kind, seed, seeds",
            ),
            ("[{kind: shuffled_labels, seeds: 0}]", "PK-Y30", "5:43: controls[0].seeds: must be at least 1, got 0"),
            (
                "[{kind: shuffled_labels, factors: [e]}]",
                "PK-Y26",
                "5:46: controls[0].factors[0]: no label factor 'e'; valid: d (in 'labels')",
            ),
            (
                "[shuffled_labels, {kind: control_task, by: a}, {kind: shuffled_labels, factors: [d]}]",
                "PK-Y27",
                "5:58: controls[2]: 'shuffled_labels' with seed 0 for 'd' stands twice, first in controls[0]; "
                "give one of them another seed",
            ),
        ]
    ),
    # Y40, G05, G06: required plugins
    *(
        (f"plugins: {value}", code, f"5:{column}: plugins{at}: {message}")
        for value, code, column, at, message in [
            ("points-plugin", "PK-Y04", 10, "", "expected a list or a mapping, got text 'points-plugin'"),
            ("[3]", "PK-Y04", 11, "[0]", "expected text, got the number 3; quote it: '3'"),
            (
                "[points-plugin, points-plugin 1.0]",
                "PK-Y40",
                26,
                "[1]",
                "'points-plugin 1.0' is no requirement; write points-plugin >= 1.0",
            ),
            (
                "[points-plugin = 1.0]",
                "PK-Y40",
                11,
                "[0]",
                "'points-plugin = 1.0' is no requirement; write points-plugin >= 1.0",
            ),
            (
                '["points-plugin[extra]"]',
                "PK-Y40",
                11,
                "[0]",
                "'points-plugin[extra]' is no requirement; write points-plugin, or points-plugin >= 0.1",
            ),
            (
                '["points-plugin @ https://a.org/b.whl"]',
                "PK-Y40",
                11,
                "[0]",
                "'points-plugin @ https://a.org/b.whl' is no requirement; write points-plugin, or points-plugin >= 0.1",
            ),
            (
                "['']",
                "PK-Y40",
                11,
                "[0]",
                "'' is no requirement; write the distribution's name and versions: probekit-toy >= 0.1",
            ),
            (
                '{points-plugin: "0.5"}',
                "PK-Y40",
                26,
                ".points-plugin",
                "'points-plugin 0.5' is no requirement; write points-plugin >= 0.5",
            ),
            ("{points-plugin: 0.5}", "PK-Y04", 26, ".points-plugin", "expected text, got the number 0.5"),
            (
                "[points-plugin, Points_Plugin>=1]",
                "PK-Y29",
                26,
                "[1]",
                "the plugin 'points-plugin' stands twice; keep one entry",
            ),
            (
                "[points-plugin>=2]",
                "PK-G06",
                11,
                "[0]",
                "points-plugin 1.0 is installed, but the spec requires 'points-plugin>=2'; "
                "type: pip install 'points-plugin>=2'",
            ),
            (
                "{points-plugin: '>=0.1', zebra: }",
                "PK-G05",
                41,
                ".zebra",
                "the required plugin 'zebra' is not installed; type: pip install 'zebra'",
            ),
        ]
    ),
]


@pytest.mark.parametrize(("text", "code", "message"), FAULTS, ids=[text[:40] for text, _, _ in FAULTS])
def test_one_fault_gives_one_whole_message(found, text, code, message):
    assert found(f"{START}{text}\n") == [(code, f"spec.yaml:{message}")]


def whole(model="{kind: onnx, path: a.onnx}", data="{kind: digits}", labels="{d: {kind: column}}", version="1"):
    return f"probekit: {version}\nmodel: {model}\ndata: {data}\nlabels: {labels}\n"


BIGGER = [
    # the version of the format
    (
        whole(version="2"),
        "PK-Y32",
        (
            "1:11: probekit: written for version 2 of the format; this is probekit 0.1.0, which reads version 1; "
            "type: pip install --upgrade probekit-platform"
        ),
    ),
    (whole(version="0"), "PK-Y04", "1:11: probekit: expected 1, got the number 0; write probekit: 1"),
    (whole(version='"1"'), "PK-Y04", "1:11: probekit: expected 1, got text '1'; write probekit: 1"),
    (whole(version="1.0"), "PK-Y04", "1:11: probekit: expected 1, got the number 1.0; write probekit: 1"),
    (whole(version="true"), "PK-Y04", "1:11: probekit: expected 1, got true; write probekit: 1"),
    # the model
    (
        whole(model="3"),
        "PK-Y04",
        "2:8: model: expected a mapping with a 'kind:', got the number 3; installed: onnx, torch",
    ),
    (
        whole(model="onnx"),
        "PK-Y04",
        "2:8: model: expected a mapping with a 'kind:', got text 'onnx'; write {kind: onnx}",
    ),
    (
        whole(model="{kind: ONNX, path: a}"),
        "PK-Y31",
        "2:15: model.kind: no plugin provides kind 'ONNX'; did you mean 'onnx'? installed: onnx, torch",
    ),
    (whole(model="{kind: onnx}"), "PK-Y38", "2:1: model.path: is missing"),
    (
        whole(model="{kind: onnx, path: 3}"),
        "PK-Y04",
        "2:27: model.path: expected text, got the number 3; quote it: '3'",
    ),
    (whole(model='{kind: onnx, path: ""}'), "PK-Y28", "2:27: model.path: '' is not a path"),
    (whole(model='{kind: onnx, path: "a\\0b"}'), "PK-Y28", "2:27: model.path: 'a\\x00b' is not a path"),
    (
        whole(model="{kind: onnx, path: ~nobody-has-this-name/a.onnx}"),
        "PK-Y28",
        (
            "2:27: model.path: '~nobody-has-this-name/a.onnx' begins with the home folder of an unknown user; "
            "write ./~... for a file of that name"
        ),
    ),
    (
        whole(model='{kind: onnx, path: "${A:-${B}}"}'),
        "PK-Y28",
        "2:27: model.path: '${A:-${B}}' holds a '${' that begins no variable; write ${NAME} or ${NAME:-default}",
    ),
    (
        whole(model='{kind: onnx, path: "${MODELS}/a.onnx"}'),
        "PK-Y33",
        "2:27: model.path: the variable ${MODELS} in '${MODELS}/a.onnx' is not set; type: export MODELS=...",
    ),
    (
        whole(model="{kind: onnx, path: a, batch_size: 0}"),
        "PK-Y30",
        "2:42: model.batch_size: must be at least 1, got 0",
    ),
    (
        whole(model="{kind: onnx, path: a, batch_size: 1000000000000}"),
        "PK-Y30",
        "2:42: model.batch_size: must be at most 1000000, got 1000000000000",
    ),
    (
        whole(model="{kind: onnx, path: a, providers: cpu}"),
        "PK-Y04",
        "2:41: model.providers: expected a list, got text 'cpu'; write [cpu]",
    ),
    (
        whole(model="{kind: onnx, path: a, output: d}"),
        "PK-Y04",
        "2:38: model.output: expected a mapping, got text 'd'",
    ),
    (
        whole(model="{kind: onnx, path: a, output: {factor: D}}"),
        "PK-Y26",
        "2:47: model.output.factor: no label factor 'D'; did you mean 'd'? (in 'labels')",
    ),
    (
        whole(model="{kind: onnx, path: a, output: {factor: d, classes: [0, no]}}"),
        "PK-Y04",
        "2:60: model.output.classes[0]: expected text, got the number 0; quote it: '0'",
    ),
    (
        whole(model="{kind: onnx, path: a, inputs: {x: {colum: y, value: 1}}}"),
        "PK-Y03",
        "2:43: model.inputs.x.colum: unknown key 'colum'; did you mean 'column'?",
    ),
    (
        whole(model='{kind: torch, factory: "timm:vit", checkpoints: {glob: a, stp: x}}'),
        "PK-Y03",
        "2:66: model.checkpoints.stp: unknown key 'stp'; did you mean 'step'?",
    ),
    (
        whole(model="{kind: onnx, path: a, checkpoints: {glob: a, step: 3}}"),
        "PK-Y04",
        "2:59: model.checkpoints.step: expected text, got the number 3; quote it: '3'",
    ),
    (
        whole(model="{kind: onnx, path: a, checkpoints: {glob: }}"),
        "PK-Y04",
        "2:49: model.checkpoints.glob: expected text, got nothing",
    ),
    (
        whole(model="{kind: onnx, path: a, checkpoints: {a: 3}}"),
        "PK-Y04",
        "2:47: model.checkpoints.a: expected text, got the number 3; quote it: '3'",
    ),
    (
        whole(model="{kind: onnx, path: a, checkpoints: {a/b: x}}"),
        "PK-Y28",
        f"2:49: model.checkpoints.a/b: 'a/b' is not a name; {NAME_HINT}",
    ),
    (
        whole(model='{kind: onnx, path: a, checkpoints: {a: "${X}/a"}}'),
        "PK-Y33",
        "2:47: model.checkpoints.a: the variable ${X} in '${X}/a' is not set; type: export X=...",
    ),
    (
        whole(model="{kind: onnx, path: a, checkpoints: {}}"),
        "PK-Y30",
        "2:30: model.checkpoints: must have at least 1 entry, got an empty mapping",
    ),
    (
        whole(model="{kind: onnx, path: a, checkpoints: [a]}"),
        "PK-Y04",
        '2:43: model.checkpoints: expected a mapping, got a list ["a"]',
    ),
    (
        whole(data="{kind: digits, on_bad_input: skpi}"),
        "PK-Y04",
        "3:36: data.on_bad_input: expected 'fail' or 'skip', got text 'skpi'; did you mean 'skip'?",
    ),
    (whole(data="{kind: digits, workers: -1}"), "PK-Y30", "3:31: data.workers: must be at least 0, got -1"),
    (
        whole(model="{kind: torch, factory: net:build}"),
        "PK-M47",
        "2:1: model: runs the code 'net:build'; if you trust it, add --trust-code to the command",
    ),
    # the data, with a third party's component
    (
        whole(data="{kind: toy_blobs}"),
        "PK-Y31",
        (
            "3:14: data.kind: no installed plugin provides kind 'toy_blobs'; "
            "type: pip install ./plugins/probekit-toy  (in probekit's source folder)"
        ),
    ),
    (
        whole(data="{kind: points, file: a, dimension: 3}"),
        "PK-Y03",
        "3:31: data.dimension: unknown key 'dimension'; did you mean 'dimensions'?",
    ),
    (
        whole(data="{kind: points, file: a, dimensions: 0}"),
        "PK-Y30",
        "3:43: data.dimensions: must be at least 1, got 0",
    ),
    (
        whole(data="{kind: points, file: a, axes: {x: [1, b]}}"),
        "PK-Y04",
        "3:45: data.axes.x[1]: expected a whole number, got text 'b'",
    ),
    (whole(data="{kind: points}"), "PK-Y38", "3:1: data.file: is missing"),
    # the labels
    (whole(labels="3"), "PK-Y04", "4:9: labels: expected a mapping, got the number 3"),
    (whole(labels="{}"), "PK-Y30", "4:1: labels: must have at least 1 entry, got an empty mapping"),
    (
        whole(labels="{d: column}"),
        "PK-Y04",
        "4:13: labels.d: expected a mapping with a 'kind:', got text 'column'; write {kind: column}",
    ),
    (
        whole(labels="{d: }"),
        "PK-Y04",
        "4:12: labels.d: expected a mapping with a 'kind:', got nothing; installed: bins, column, group",
    ),
    (
        whole(labels='{"v1.2": {kind: column, colum: x}}'),
        "PK-Y03",
        "4:33: labels.v1.2.colum: unknown key 'colum'; did you mean 'column'?",
    ),
    (
        whole(labels="{d: {kind: group, groups: {a: {b: 1}, c: x}}}"),
        "PK-Y04",
        '4:36: labels.d.groups.a: expected text or a list, got a mapping {"b": 1}',
    ),
    (
        whole(labels="{d: {kind: group, groups: {a: [1.5], c: x}}}"),
        "PK-Y04",
        "4:40: labels.d.groups.a[0]: expected text or a whole number, got the number 1.5",
    ),
    # what is missing as a whole
    (
        "labels: {d: {kind: column}}\nmodel: {kind: onnx, path: a}\nprobekit: 1\n",
        "PK-Y38",
        "1:1: data: is missing; write data: {kind: digits}",
    ),
    (
        "probekit: 1\ndata: {kind: digits}\nlabels: {d: {kind: column}}\n",
        "PK-Y38",
        "1:1: model: is missing; write model: {kind: onnx, path: FILE.onnx}",
    ),
    (
        "model: {kind: onnx, path: a}\ndata: {kind: digits}\nlabels: {d: {kind: column}}\n",
        "PK-Y38",
        "1:1: probekit: is missing; write probekit: 1",
    ),
    (
        "probekit: 1\ndata: {kind: digits}\nlabels: {d: {kind: column}}\nmodels: {}\n",
        "PK-Y30",
        "4:1: models: must have at least 1 entry, got an empty mapping",
    ),
]


@pytest.mark.parametrize(("text", "code", "message"), BIGGER, ids=[message[:60] for _, _, message in BIGGER])
def test_one_fault_in_a_whole_spec_gives_one_whole_message(found, text, code, message):
    assert found(text) == [(code, f"spec.yaml:{message}")]


def test_text_that_other_readers_of_yaml_change_stays_text(plugins, tmp_path):
    (tmp_path / "s.yaml").write_text(
        whole(labels="{d: {kind: group, groups: {no: [on, 010], 1:30: [2024-01-01, yes]}}}")
        + "probe: {kind: linear, tolerance: 1e-3}\n"
    )
    spec = load_spec(tmp_path / "s.yaml", plugins).spec
    assert spec.labels["d"].groups == {"no": ["on", "010"], "1:30": ["2024-01-01", "yes"]}
    assert spec.probe.tolerance == 0.001


MANY = """\
probekit: 3
name: nightly run
modell: {kind: onnx}
model:
  kind: onnx
  path: ${MODELS}/net.onnx
  batch_size: 0
  batch_size: 64
  output: {factor: clas, nam: logits}
models:
  int8: {kind: onnx, path: "int8\\0.onnx", optimization: on}
data:
  kind: points
  file: a.npy
  dimension: 3
  axes: {x: 7}
taps:
  - relu
  - {op: Conv, as: conv, layout: NCWH}
  - relu
  - {match: "re:.*", reductions: [pol]}
  - 12
labels:
  class: {kind: colunm}
  size: {kind: bins, column: size, edges: .inf}
reductions:
  pool: {kind: pool}
plugins: [points plugin]
splits: {column: split, train: !mine 1, valid: {of: train, share: 1.5}, test: [a, 3]}
reports: [terminal, htlm]
"""
MANY_FOUND = """\
PK-Y32 1:11: probekit: written for version 3 of the format; this is probekit 0.1.0, which reads version 1; \
type: pip install --upgrade probekit-platform
PK-Y28 2:7: name: 'nightly run' is not a name; a name has 1 to 80 of A-Z a-z 0-9 . _ -
PK-Y03 3:1: modell: unknown key 'modell'; did you mean 'model'?
PK-Y33 6:9: model.path: the variable ${MODELS} in '${MODELS}/net.onnx' is not set; type: export MODELS=...
PK-Y02 8:3: duplicate key 'batch_size', first in line 7; keep one of them
PK-Y26 9:20: model.output.factor: no label factor 'clas'; did you mean 'class'? (in 'labels')
PK-Y03 9:26: model.output.nam: unknown key 'nam'; did you mean 'name'?
PK-Y29 10:1: models: 'model' and 'models' are two ways to say one thing; keep one
PK-Y28 11:28: models.int8.path: 'int8\\x00.onnx' is not a path
PK-Y04 11:57: models.int8.optimization: expected 'all' or 'off', got text 'on'
PK-Y03 15:3: data.dimension: unknown key 'dimension'; did you mean 'dimensions'?
PK-Y04 16:13: data.axes.x: expected a list, got the number 7; write [7]
PK-Y04 19:34: taps[1].layout: expected 'NC', 'NCHW', 'NHWC', 'NCDHW', 'NCT', 'NTC' or 'TNC', got text 'NCWH'; \
did you mean 'NCHW'?
PK-Y27 20:5: taps[2]: tap 'relu' stands twice, first in line 18; keep one
PK-Y35 21:13: taps[3].match: 're:.*': there are no regular expressions; use * and ?
PK-Y26 21:35: taps[3].reductions[0]: no reduction 'pol'; did you mean 'pool'? (in 'reductions')
PK-Y04 22:5: taps[4]: expected text or a mapping, got the number 12
PK-Y31 24:17: labels.class.kind: no plugin provides kind 'colunm'; did you mean 'column'? installed: bins, column, group
PK-Y06 25:43: '.inf' is not a finite number; quote it if text is meant
PK-Y40 28:11: plugins[0]: 'points plugin' is no requirement; write points, or points >= 0.1
PK-Y18 29:32: tag !mine is not allowed; remove it, or quote text that begins with '!'
PK-Y30 29:67: splits.valid.share: must be less than 1, got 1.5
PK-Y04 29:83: splits.test[1]: expected text, got the number 3; quote it: '3'
PK-Y31 30:21: reports[1]: no plugin provides kind 'htlm'; did you mean 'html'? installed: csv, html, json, terminal
"""


def test_a_file_with_two_dozen_faults_tells_them_all_in_the_order_of_their_places(found):
    expected = [line.split(" ", 1) for line in MANY_FOUND.splitlines()]
    assert found(MANY) == [(code, f"spec.yaml:{text}") for code, text in expected]


POINTED_AT = [
    "3", "nightly run", "modell:", "${MODELS}", "batch_size: 64", "clas,", "nam:", "models:", '"int8', "on}",
    "dimension:", "7}", "NCWH", "relu", '"re:', "pol]", "12", "colunm", ".inf", "points plugin", "!mine", "1.5", "3]",
    "htlm",
]  # fmt: skip


def test_every_place_of_that_file_is_where_the_fault_stands(found):
    lines = MANY.splitlines()
    places = [re.match(r"spec\.yaml:(\d+):(\d+):", message).groups() for _, message in found(MANY)]
    texts = [lines[int(line) - 1][int(column) - 1 :] for line, column in places]
    assert [text[: len(start)] for text, start in zip(texts, POINTED_AT, strict=True)] == POINTED_AT


def test_an_alias_is_told_where_it_stands_and_where_it_points(found):
    text = START + "reductions:\n  a: &x {kind: pool, hwo: max}\n  b: *x\n"
    assert found(text) == [
        ("PK-Y03", "spec.yaml:6:22: reductions.a.hwo: unknown key 'hwo'; did you mean 'how'?"),
        ("PK-Y03", "spec.yaml:7:6: reductions.b.hwo: unknown key 'hwo'; did you mean 'how'?"),
    ]


def test_what_the_loader_refused_is_not_told_a_second_time(found):
    assert found(START + "max_taps: .inf\ntaps: [*relu]\nsplits: {train: .inf, valid: 0.6, test: .nan}\n") == [
        ("PK-Y06", "spec.yaml:5:11: '.inf' is not a finite number; quote it if text is meant"),
        ("PK-Y08", "spec.yaml:6:8: alias *relu names no anchor before it; quote it: '*relu'"),
        ("PK-Y06", "spec.yaml:7:17: '.inf' is not a finite number; quote it if text is meant"),
        ("PK-Y06", "spec.yaml:7:41: '.nan' is not a finite number; quote it if text is meant"),
    ]


def test_control_characters_and_direction_overrides_are_shown(found):
    messages = [message for _, message in found(START + '"\\e[31mred": 1\n"two\\nlines": 1\n"\\u202eabc": 1\n')]
    assert [message.split(";")[0] for message in messages] == [
        r"spec.yaml:5:1: \x1b[31mred: unknown key '\x1b[31mred'",
        r"spec.yaml:6:1: two\nlines: unknown key 'two\nlines'",
        r"spec.yaml:7:1: \u202eabc: unknown key '\u202eabc'",
    ]


GOOD = {
    "probekit": 1,
    "name": "good",
    "models": {
        "a": {"kind": "onnx", "path": "a", "output": {"factor": "d"}, "inputs": {"x": {"zeros": [1, "N"]}}},
        "b": {"kind": "torch", "factory": "timm:vit", "arguments": {"depth": 3}, "checkpoints": {"c": "c", "d": None}},
        "e": {"kind": "onnx", "path": "a", "checkpoints": {"glob": "e*.onnx", "step": "e*"}},
    },
    "rows": {"per": "position", "mask": "m", "group": "g"},
    "store": {"path": "f", "dtype": "float16", "durability": "fast"},
    "memory": "8GiB",
    "data": {"kind": "points", "file": "${PK_TEST_UNSET:-a}", "axes": {"x": [1, 2]}},
    "taps": ["a", {"match": ["b", "c*"], "as": "b{i}", "reductions": ["p"], "layout": "NCT"}, {"op": "Add"}],
    "reductions": {"p": {"kind": "pca", "of": {"kind": "subset", "features": 3}}, "q": {"kind": "pool"}},
    "labels": {
        "d": {"kind": "group", "groups": {"low": "0-3, 7", "high": [8, "9"]}},
        "e": {"kind": "bins", "column": "x", "edges": [1, 2.5]},
    },
    "splits": {"column": "s", "valid": {"of": ["odd"], "share": 0.3}, "test": ["t", "u"], "limit": {"t": 3}},
    "probe": {"kind": "linear", "penalty": [1, 0.1]},
    "reports": ["html", {"kind": "csv"}],
}


def paths_in(node, path=()):
    yield path
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from paths_in(value, (*path, key))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**12)
    | st.floats(-1, 2)
    | st.sampled_from(["", "a", "re:x", "pool", "no"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["kind", "of", "match", "x"]), inner),
    max_leaves=4,
)


def test_that_spec_is_good(found):
    assert found(json.dumps(GOOD)) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(path=st.sampled_from([path for path in paths_in(GOOD) if path]), value=values, as_setting=st.booleans())
def test_any_value_at_any_place_is_accepted_or_told_in_words_with_a_place(plugins, tmp_path, path, value, as_setting):
    tree = copy.deepcopy(GOOD)
    *parents, last = path
    node = functools.reduce(lambda outer, key: outer[key], parents, tree)
    given_settings = []
    if as_setting:
        given_settings = [f"{'.'.join(map(str, path))}={json.dumps(value)}"]
    else:
        node[last] = value
    (tmp_path / "s.yaml").write_text(json.dumps(tree, indent=1))
    checked = check_spec(tmp_path / "s.yaml", plugins, given_settings, environ={})
    assert (checked.loaded is None) == bool(checked.problems)
    for problem in checked.problems:
        assert re.fullmatch(r"PK-[YM]\d\d", problem.code)
        assert str(problem).isprintable()
        assert problem.line > 0 or problem.file.startswith("--set ")
        # No word of pydantic or of Python's reaches the user.
        assert not re.search("pydantic|Input should|valid (dict|list|str)|None|True|False|\\btype=", str(problem))


# --- one pattern may stand twice where it chooses different tensors ---------------------------------------------------


@pytest.mark.parametrize(
    "taps",
    [
        '[{match: "*", op: Conv}, {match: "*", op: Relu}]',
        '[{op: Conv, as: "conv{i}"}, {op: Gemm, as: "conv{i}"}]',
        "[{match: [a, b]}, {match: [a, b]}]",
        "[{match: a, as: x}, {match: a, as: y}]",
    ],
)
def test_entries_that_may_choose_different_tensors_pass(found, taps):
    assert found(f"{START}taps: {taps}\n") == []


# --- paths and variables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "environ", "expected"),
    [
        ("a.onnx", {}, "{folder}/a.onnx"),
        ("./sub/../a.onnx", {}, "{folder}/a.onnx"),
        ("../a.onnx", {}, "{parent}/a.onnx"),
        ("/abs/a.onnx", {}, "/abs/a.onnx"),
        ("~/a.onnx", {}, "/home/someone/a.onnx"),
        ("./~/a.onnx", {}, "{folder}/~/a.onnx"),
        ("${M}/a.onnx", {"M": "/models"}, "/models/a.onnx"),
        ("${M}/a.onnx", {"M": "models"}, "{folder}/models/a.onnx"),
        ("${M}${N}.onnx", {"M": "/m/", "N": "n"}, "/m/n.onnx"),
        ("${M}/a.onnx", {"M": "~"}, "/home/someone/a.onnx"),
        ("${M:-data}/a.onnx", {}, "{folder}/data/a.onnx"),
        ("${M:-data}/a.onnx", {"M": ""}, "{folder}/data/a.onnx"),
        ("${M:-data}/a.onnx", {"M": "/m"}, "/m/a.onnx"),
        ("${M:-}a.onnx", {}, "{folder}/a.onnx"),
        ("${M}/a.onnx", {"M": "/has/$N"}, "/has/$N/a.onnx"),
        ("$M/a.onnx", {"M": "/m"}, "{folder}/$M/a.onnx"),
    ],
)
def test_paths_start_from_the_folder_of_the_spec(plugins, tmp_path, monkeypatch, path, environ, expected):
    monkeypatch.setenv("HOME", "/home/someone")
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "s.yaml").write_text(whole(model=f'{{kind: onnx, path: "{path}"}}'))
    spec = load_spec(folder / "s.yaml", plugins, environ=environ).spec
    assert spec.model.path == expected.format(folder=folder, parent=tmp_path)


def test_the_spec_may_be_named_from_anywhere(plugins, tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text(whole())
    monkeypatch.chdir(tmp_path)
    assert load_spec("s.yaml", plugins).spec.model.path == str(tmp_path / "a.onnx")


def test_variables_come_from_the_process_unless_they_are_given(plugins, tmp_path, monkeypatch):
    monkeypatch.setenv("PK_TEST_MODELS", "/from/process")
    (tmp_path / "s.yaml").write_text(whole(model='{kind: onnx, path: "${PK_TEST_MODELS}/a"}'))
    assert load_spec(tmp_path / "s.yaml", plugins).spec.model.path == "/from/process/a"
    assert [p.code for p in check_spec(tmp_path / "s.yaml", plugins, environ={}).problems] == ["PK-Y33"]


def test_a_variable_that_is_empty_is_told_as_such(found):
    assert found(whole(model='{kind: onnx, path: "${M}"}'), environ={"M": ""}) == [
        ("PK-Y33", "spec.yaml:2:27: model.path: the variable ${M} in '${M}' is empty; type: export M=...")
    ]


def test_a_variable_that_is_not_set_hides_nothing_else_of_its_section(found):
    model = '{kind: torch, factory: "net:build", program: a.pt2, weights: "${W}"}'
    assert [code for code, _ in found(whole(model=model))] == ["PK-Y29", "PK-Y33"]
    trusted = whole(model='{kind: torch, factory: "net:build", weights: "${W}"}', data='{kind: images, path: "${I}"}')
    assert [code for code, _ in found(trusted)] == ["PK-M47", "PK-Y33", "PK-Y33"]


# --- --set ------------------------------------------------------------------------------------------------------------

SPLIT = START + "taps: [a, {match: b}]\nsplits: {column: half, valid: {of: odd, share: 0.3}}\n"
SETTINGS = [
    (["splits.seed=3"], lambda spec: spec.splits.seed, 3),
    (["splits.seed= 3 "], lambda spec: spec.splits.seed, 3),
    (["splits.valid.share=0.5"], lambda spec: spec.splits.valid.share, 0.5),
    (["splits=null"], lambda spec: spec.splits.column, None),
    (["splits="], lambda spec: spec.splits.column, None),
    (["splits.valid=~"], lambda spec: spec.splits.valid, None),
    (["taps.0=x"], lambda spec: spec.taps[0].match, "x"),
    (["taps[1].match=x"], lambda spec: spec.taps[1].match, "x"),
    (["taps.1={op: Conv}"], lambda spec: (spec.taps[1].op, spec.taps[1].match), ("Conv", None)),
    (["taps=['*relu*']"], lambda spec: [tap.match for tap in spec.taps], ["*relu*"]),
    (["name=no"], lambda spec: spec.name, "no"),
    (['name="1"'], lambda spec: spec.name, "1"),
    (["name=a", "name=b"], lambda spec: spec.name, "b"),
    (["model.output.factor=d"], lambda spec: spec.model.output.factor, "d"),
    (["labels.e.kind=column"], lambda spec: sorted(spec.labels), ["d", "e"]),
    (["labels.e={kind: column}", "labels.d=null"], lambda spec: sorted(spec.labels), ["e"]),
    (["reports.0=html"], lambda spec: [report.kind for report in spec.reports], ["html", "html", "csv", "json"]),
    # what a spec leaves out begins as its default
    (["reduction.how=max"], lambda spec: (spec.reduction.kind, spec.reduction.how), ("pool", "max")),
    (["probe.penalty=[1, 0.1]"], lambda spec: spec.probe.penalty, [1, 0.1]),
    (["reductions.x.kind=flatten"], lambda spec: (sorted(spec.named_reductions()), spec.reduction), (["x"], None)),
]


@pytest.mark.parametrize(("changes", "value", "expected"), SETTINGS, ids=[" ".join(s) for s, _, _ in SETTINGS])
def test_set_changes_one_value(plugins, tmp_path, changes, value, expected):
    (tmp_path / "s.yaml").write_text(SPLIT)
    loaded = load_spec(tmp_path / "s.yaml", plugins, changes)
    assert value(loaded.spec) == expected
    assert loaded.settings == tuple(changes)


WRONG_SETTINGS = [
    # wrong values: the place is the setting
    ("splits.seed=x", "PK-Y04", "splits.seed: expected a whole number, got text 'x'"),
    ("splits.sede=1", "PK-Y03", "splits.sede: unknown key 'sede'; did you mean 'seed'?"),
    ("splits.valid.of=[a, 3]", "PK-Y04", "splits.valid.of[1]: expected text, got the number 3; quote it: '3'"),
    ("taps.1.match=3", "PK-Y04", "taps[1].match: expected text or a list, got the number 3; quote it: '3'"),
    ("taps[0]=3", "PK-Y04", "taps[0]: expected text or a mapping, got the number 3"),
    ("taps.0=null", "PK-Y04", "taps[0]: expected text or a mapping, got nothing"),
    ("taps=relu", "PK-Y04", "taps: expected a list, got text 'relu'; write [relu]"),
    ("name.first=a", "PK-Y04", 'name: expected text, got a mapping {"first": "a"}'),
    ("model.output.factor=e", "PK-Y26", "model.output.factor: no label factor 'e'; valid: d (in 'labels')"),
    ("model=null", "PK-Y38", "model: is missing; write model: {kind: onnx, path: FILE.onnx}"),
    ("model.path=null", "PK-Y38", "model.path: is missing"),
    (
        "labels.d.kind=colum",
        "PK-Y31",
        "labels.d.kind: no plugin provides kind 'colum'; did you mean 'column'? installed: bins, column, group",
    ),
    ("labels.e.column=x", "PK-Y31", "labels.e.kind: is missing; installed: bins, column, group"),
    ("rows.per=token", "PK-Y04", "rows.per: expected 'example' or 'position', got text 'token'"),
    ("store=3", "PK-Y04", "store: expected a folder or a mapping, got the number 3"),
    ("store.dtype=int8", "PK-Y04", "store.dtype: expected 'float32', 'float16' or 'bfloat16', got text 'int8'"),
    ("memory=lots", "PK-Y04", "memory: expected a size, got text 'lots'; write 8GiB, or a number of bytes"),
    ("plugins=[a b]", "PK-Y40", "plugins[0]: 'a b' is no requirement; write a, or a >= 0.1"),
    ("controls=[{kind: control_task}]", "PK-Y38", "controls[0].by: is missing"),
    ("name=two words", "PK-Y28", f"name: 'two words' is not a name; {NAME_HINT}"),
    ("taps.1=a", "PK-Y27", "taps[1]: tap 'a' stands twice, first in line 5; keep one"),
    # wrong paths and syntax
    ("splits.seed", "PK-Y39", "is no setting; write --set KEY=VALUE, such as splits.seed=1"),
    ("=3", "PK-Y39", "is no setting; write --set KEY=VALUE, such as splits.seed=1"),
    ("model..path=3", "PK-Y39", "is no setting; write --set KEY=VALUE, such as splits.seed=1"),
    ("taps.2=x", "PK-Y39", "'2' is no position in a list of 2; the first one is 0"),
    ("taps.-1=x", "PK-Y39", "'-1' is no position in a list of 2; the first one is 0"),
    ("taps.first=x", "PK-Y39", "'first' is no position in a list of 2; the first one is 0"),
    ("taps.\u00b2=x", "PK-Y39", "'\u00b2' is no position in a list of 2; the first one is 0"),
    ("taps.0.match=x", "PK-Y39", "'taps.0' is text 'a' and has no keys; write --set taps.0=VALUE"),
    ("probekit.a.b=1", "PK-Y39", "'probekit' is the number 1 and has no keys; write --set probekit=VALUE"),
    ("taps=[relu", "PK-Y11", "the '[' opened here is never closed; add ']'"),
    ("taps=*relu*", "PK-Y08", "unquoted '*relu*' is read as an alias; quote it: '*relu*'"),
    ("splits.seed=!!int 3", "PK-Y18", "tag !!int is not allowed; remove it, or quote text that begins with '!'"),
    ("splits.seed=.nan", "PK-Y06", "'.nan' is not a finite number; quote it if text is meant"),
]


@pytest.mark.parametrize(("setting", "code", "message"), WRONG_SETTINGS, ids=[s for s, _, _ in WRONG_SETTINGS])
def test_a_wrong_setting_is_the_place_of_its_problem(found, setting, code, message):
    assert found(SPLIT, setting) == [(code, f"--set {setting}: {message}")]


def test_problems_of_settings_and_of_the_file_are_told_together(found):
    assert found(SPLIT + "max_taps: 0\n", "splits.seed=x", "taps.9=a", "name") == [
        ("PK-Y39", "--set name: is no setting; write --set KEY=VALUE, such as splits.seed=1"),
        ("PK-Y04", "--set splits.seed=x: splits.seed: expected a whole number, got text 'x'"),
        ("PK-Y39", "--set taps.9=a: '9' is no position in a list of 2; the first one is 0"),
        ("PK-Y30", "spec.yaml:7:11: max_taps: must be at least 1, got 0"),
    ]


def test_the_setting_that_held_last_is_the_place(found):
    assert found(SPLIT, "splits.seed=2", "splits={seed: x}") == [
        ("PK-Y04", "--set splits={seed: x}: splits.seed: expected a whole number, got text 'x'")
    ]
    assert found(SPLIT, "splits={seed: x}", "splits.seed=2") == []


def test_a_setting_can_mend_the_file(found):
    assert found(SPLIT.replace("share: 0.3", "share: 3"), "splits.valid.share=0.3") == []


def test_what_a_setting_makes_wrong_elsewhere_is_told_at_its_place_in_the_file(found):
    assert found(SPLIT, "model.kind=torch", "model.factory=timm:vit") == [
        (
            "PK-Y03",
            (
                "spec.yaml:2:21: model.path: unknown key 'path'; valid: arguments, autocast, batch_size, "
                "channels_last, checkpoints, device, factory, inputs, kind, output, program, seed, weights"
            ),
        )
    ]


# --- rows, store and memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 2**30),
        ("1.5 GB", 1_500_000_000),
        ("8", 8),
        ("'8'", 8),
        ("1", 1),
        ("1B", 1),
        ("3kb", 3_000),
        ("3KiB", 3_072),
        ("0.5 MiB", 2**19),
        ("2mb", 2_000_000),
        ("1tib", 2**40),
        ("1TB", 10**12),
        ("0.3 KB", 300),
        ("1.1 KB", 1_100),
        ("1.9999B", 1),
        ("9007199254740993", 2**53 + 1),
        ("'9007199254740993'", 2**53 + 1),
        ("000000000000000008B", 8),
    ],
)
def test_a_size_is_a_number_of_bytes_or_text_with_a_unit(plugins, tmp_path, text, size):
    (tmp_path / "s.yaml").write_text(f"{whole()}memory: {text}\n")
    assert load_spec(tmp_path / "s.yaml", plugins).spec.memory == size


@given(st.integers(1, 2**50), st.sampled_from(["", "B", " B", "b"]))
def test_every_number_of_bytes_is_read_as_it_is(count, unit):
    assert parse_size(count) == parse_size(f"{count}{unit}") == count


@settings(max_examples=200)
@given(st.text("0123456789. GiBMKkT-+e_x\n\u0663", max_size=9))
def test_any_text_is_a_size_or_is_refused_in_words(text):
    if re.fullmatch("[0-9]+([.][0-9]+)? ?([KMGT]i?)?B?", text, re.IGNORECASE) and not text.lower().endswith(
        tuple("kmgti")
    ):
        assert parse_size(text) >= 0
        return
    with pytest.raises(PydanticCustomError) as refused:
        parse_size(text)
    assert (refused.value.type, refused.value.context["hint"]) == ("PK-Y04", "write 8GiB, or a number of bytes")


@pytest.mark.parametrize(("text", "path"), [("f", "{folder}/f"), ("~/f", "/home/someone/f"), ("${S}", "/s")])
@pytest.mark.parametrize("form", ["{}", "{{path: {}}}"])
def test_a_store_may_be_a_folder_alone(plugins, tmp_path, monkeypatch, text, path, form):
    monkeypatch.setenv("HOME", "/home/someone")
    value = '"' + text + '"'
    (tmp_path / "s.yaml").write_text(f"{whole()}store: {form.format(value)}\n")
    store = load_spec(tmp_path / "s.yaml", plugins, environ={"S": "/s"}).spec.store
    assert (store.path, store.dtype, store.durability) == (path.format(folder=tmp_path), "float32", "full")


def test_without_the_sections_rows_are_examples_kept_whole_in_the_usual_store(plugins, tmp_path):
    (tmp_path / "s.yaml").write_text(whole())
    spec = load_spec(tmp_path / "s.yaml", plugins).spec
    assert (spec.rows, spec.store, spec.memory) == (Rows(per="example"), Store(), None)
    assert (spec.store.path, spec.store.dtype, spec.store.durability) == (None, "float32", "full")


def test_rows_may_be_positions_with_a_mask_and_any_rows_may_have_a_group(plugins, tmp_path):
    for text, rows in [
        ("{per: position, mask: m, group: g}", Rows(per="position", mask="m", group="g")),
        ("{per: position}", Rows(per="position")),
        ("{group: g}", Rows(group="g")),
        ("{}", Rows()),
    ]:
        (tmp_path / "s.yaml").write_text(f"{whole()}rows: {text}\n")
        assert load_spec(tmp_path / "s.yaml", plugins).spec.rows == rows


@pytest.mark.parametrize("text", ["[{match: x, layout: TNC}]", "[{match: x, layout: NCDHW}]"])
def test_a_layout_may_have_its_batch_axis_second(found, text):
    assert found(f"{START}taps: {text}\n") == []


# --- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoints_of(plugins, folder, text):
    (folder / "s.yaml").write_text(whole(model=f"{{kind: onnx, path: a, checkpoints: {text}}}"))
    return load_spec(folder / "s.yaml", plugins).spec.model.checkpoints


def test_checkpoints_are_named_files_in_the_order_of_the_spec(plugins, tmp_path):
    found = checkpoints_of(plugins, tmp_path, "{late: c/9.onnx, early: /abs/1.onnx, untrained: null}")
    expected = {"late": f"{tmp_path}/c/9.onnx", "early": "/abs/1.onnx", "untrained": None}
    assert list(found.items()) == list(expected.items())


def test_a_mapping_with_glob_is_a_pattern_and_no_file_of_that_name(plugins, tmp_path):
    found = checkpoints_of(plugins, tmp_path, '{glob: "c/step_*.onnx", step: "step_*"}')
    assert found == CheckpointFiles(glob=f"{tmp_path}/c/step_*.onnx", step="step_*")
    assert checkpoints_of(plugins, tmp_path, '{glob: "c/*.onnx"}').step == "*"


# --- the loaded spec --------------------------------------------------------------------------------------------------


def test_what_a_spec_leaves_out_has_a_default(plugins, tmp_path):
    path = tmp_path / "my first spec.yaml"
    path.write_text(START)
    spec = load_spec(path, plugins).spec
    assert spec.name == "my-first-spec"
    assert [tap.match for tap in spec.taps] == ["*"]
    assert {name: one.kind for name, one in spec.named_reductions().items()} == {"default": "pool"}
    assert {name: one.kind for name, one in spec.named_probes().items()} == {"default": "linear"}
    assert list(spec.named_models()) == ["default"]
    assert [report.kind for report in spec.reports] == ["terminal", "html", "csv", "json"]
    assert spec.executor == LocalExecutor()


def test_the_executor_is_a_component_like_any_other_and_one_of_its_keys_can_be_set(plugins, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(START)
    spec = load_spec(path, plugins, ["executor.processes=3"]).spec
    assert spec.components()["executor",] == spec.executor == LocalExecutor(processes=3)
    path.write_text(START + "executor: {kind: local, processes: 5}\n")
    assert load_spec(path, plugins).spec.executor == LocalExecutor(processes=5)


def test_the_digest_changes_with_the_text_and_with_the_settings(plugins, tmp_path):
    path = tmp_path / "s.yaml"

    def digest(text: str, *changes: str) -> str:
        path.write_text(text)
        return load_spec(path, plugins, changes).digest

    digests = [digest(START), digest(START + "# a word\n"), digest(START, "max_taps=3"), digest(START, "max_taps=4")]
    assert len(set(digests)) == 4
    assert digest(START) == digests[0]


def test_code_runs_only_when_it_is_trusted(plugins, tmp_path):
    (tmp_path / "s.yaml").write_text(
        "probekit: 1\ndata: {kind: digits}\nlabels: {d: {kind: column}}\nmodels:\n"
        "  one: {kind: torch, factory: './net.py:build'}\n  two: {kind: torch, factory: 'timm:vit'}\n"
        "  three: {kind: torch, program: a.pt2}\n"
    )
    problems = check_spec(tmp_path / "s.yaml", plugins).problems
    assert [(p.code, p.field, p.what, p.line) for p in problems] == [
        ("PK-M47", "models.one", f"runs the code '{tmp_path}/net.py:build'", 5),
        ("PK-M47", "models.three", f"runs the code '{tmp_path}/a.pt2'", 7),
    ]
    assert {p.code for p in problems} <= SOFT
    loaded = load_spec(tmp_path / "s.yaml", plugins, trust_code=True)
    assert set(loaded.spec.named_models()) == {"one", "two", "three"}


def test_a_spec_is_frozen(plugins, tmp_path):
    (tmp_path / "s.yaml").write_text(START)
    loaded = load_spec(tmp_path / "s.yaml", plugins)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.file = "other"
    with pytest.raises(ValueError, match="frozen"):
        loaded.spec.name = "other"


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_spec_of_this_repository_is_valid_but_for_variables_and_trust(path):
    problems = check_spec(path, Plugins(), environ={}).problems
    assert {problem.code for problem in problems} <= SOFT


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[]", []),
        ("[Points_Plugin]", ["points-plugin"]),
        ('["points.plugin >= 1.0, < 2"]', ["points-plugin"]),
        ("{points-plugin: }", ["points-plugin"]),
        ('{points-plugin: "==1.*", probekit-platform: ">=0.1"}', ["points-plugin", "probekit-platform"]),
    ],
)
def test_required_plugins_are_a_list_or_a_mapping(plugins, tmp_path, text, names):
    (tmp_path / "s.yaml").write_text(START + f"plugins: {text}\n")
    assert load_spec(tmp_path / "s.yaml", plugins).spec.required_plugins() == names


MISSING = START + "data: {kind: dots}\nplugins: [dots-plugin>=1]\n"


def test_a_kind_that_a_missing_plugin_may_provide_is_no_fault_of_the_spec(plugins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = MISSING.replace("data: {kind: digits}\n", "", 1)
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(MachineError) as refused:
        load_spec("s.yaml", plugins)
    assert [problem.code for problem in refused.value.problems] == ["PK-G05", "PK-G05"]
    assert "no plugin provides kind 'dots' while 'dots-plugin' cannot be used; see 'plugins'" in str(refused.value)
    (tmp_path / "s.yaml").write_text(text + "tapz: []\n")
    with pytest.raises(SpecError) as wrong:
        load_spec("s.yaml", plugins)
    assert sorted(problem.code for problem in wrong.value.problems) == ["PK-G05", "PK-G05", "PK-Y03"]


def test_the_exit_code_of_a_wrong_spec_is_documented(plugins, tmp_path):
    with pytest.raises(SpecError) as refused:
        load_spec(tmp_path / "absent.yaml", plugins)
    assert "spec" in EXIT_CODES[refused.value.exit_code]
    assert [problem.code for problem in refused.value.problems] == ["PK-Y25"]
