"""What differs between two runs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.comparing.spec_changes import changes, flat

CODES = np.array([0, 1])
KEYS = st.text("abc", min_size=1, max_size=3)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def changed(runs, first=None, second=None, model="default"):
    """Return what differs between two runs with these settings of the builder, as (part, key, first, second)."""
    one, other = (runs([runs.said("t", CODES)], {"f": CODES}, **(some or {})) for some in (first, second))
    return [tuple(vars(found).values()) for found in changes(one.result, other.result, "default", model)]


def test_equal_runs_differ_in_nothing(runs):
    assert changed(runs) == []


@settings(max_examples=50)
@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_equal_trees_are_equal_flat_ones(tree):
    assert flat(tree) == flat(tree)
    assert all(isinstance(value, str) for value in flat(tree).values())


def test_the_spec_differs_by_key_whatever_its_order_and_layout(runs):
    base = "probekit: 1\nmodel: {kind: onnx, path: m.onnx}\ndata: {kind: digits}\nlabels: {f: {kind: column}}\n"
    other = "labels:\n  f:\n    kind: column\ndata: {kind: digits}\nmodel: {path: n.onnx, kind: onnx}\nprobekit: 1\n"
    assert changed(runs, {"text": base}, {"text": other}) == []
    more = f"{base}splits: {{seed: 1}}\nprobe: {{kind: linear, penalty: [0.1, 1e-2]}}\n"
    assert changed(runs, {"text": base}, {"text": more}) == [
        ("spec", "splits.seed", None, "1"),
        ("spec", "probes.default.kind", None, '"linear"'),
        ("spec", "probes.default.penalty", None, "[0.1, 0.01]"),
    ]


def test_settings_are_part_of_the_spec(runs):
    text = "probekit: 1\nprobe: {kind: linear, penalty: auto}\ntaps: [{match: a}, {match: b}]\nsplits: {seed: 0}\n"
    settings = ("probe.penalty=0.1", "taps.1.match=c", "splits=null", "labels={f: {kind: column}}")
    assert changed(runs, {"text": text}, {"text": text, "settings": settings}) == [
        ("spec", "probes.default.penalty", '"auto"', "0.1"),
        ("spec", "taps[1].match", '"b"', '"c"'),
        ("spec", "splits.seed", "0", None),
        ("spec", "labels.f.kind", None, '"column"'),
    ]


def test_short_and_long_keys_are_the_same(runs):
    short = "probekit: 1\nreduction: {kind: pool}\n"
    assert changed(runs, {"text": short}, {"text": "probekit: 1\nreductions: {default: {kind: pool}}\n"}) == []


def test_a_text_that_cannot_be_read_differs_as_a_whole(runs):
    found = changed(runs, {"text": "a: ["}, {"text": "a: [1"})
    assert [(part, key) for part, key, _, _ in found] == [("spec", "text")]


def test_models_data_and_versions(runs):
    def facts(path, print_, data):
        return {"backend": {"kind": "onnx", "path": path}, "fingerprint": print_, "data": data, "checks": {"x": 1}}

    first = {"models": {"default": facts("a.onnx", "1", "d")}, "packages": {"numpy": "2.0", "torch": "2.10"}}
    second = {"models": {"int8": facts("b.onnx", "2", "e")}, "packages": {"numpy": "2.1"}, "python": "3.12.0"}
    assert changed(runs, first, second, model="int8") == [
        ("model", "path", '"a.onnx"', '"b.onnx"'),
        ("model", "fingerprint", '"1"', '"2"'),
        ("data", "digest", '"d"', '"e"'),
        ("versions", "python", '"3.11.0"', '"3.12.0"'),
        ("versions", "packages.numpy", '"2.0"', '"2.1"'),
        ("versions", "packages.torch", '"2.10"', None),
    ]


def test_plugins_differ_by_version_and_by_their_files(runs):
    def loaded(**plugins):
        own = {"kind": "backend.onnx", "distribution": "probekit-platform", "version": "0.5.0", "digest": "e" * 32}
        others = [
            {"kind": f"{category}.x", "distribution": name.replace("_", "-"), "version": version, "digest": digest * 32}
            for name, (version, digest) in plugins.items()
            for category in ("backend", "listener")
        ]
        return {"plugins": [own, *others]}

    first = loaded(pk_same=("1.0", "a"), pk_new=("1.0", "b"), pk_edited=("2.0", "c"), pk_gone=("3", "d"))
    second = loaded(pk_same=("1.0", "a"), pk_new=("1.1", "f"), pk_edited=("2.0", "9"))
    assert changed(runs, first, second) == [
        ("versions", "plugins.pk-new", '"1.0, files bbbbbbbbbbbb"', '"1.1, files ffffffffffff"'),
        ("versions", "plugins.pk-edited", '"2.0, files cccccccccccc"', '"2.0, files 999999999999"'),
        ("versions", "plugins.pk-gone", '"3, files dddddddddddd"', None),
    ]
    assert changed(runs, loaded(), loaded(pk_new=("1.0", "b"))) == [
        ("versions", "plugins.pk-new", None, '"1.0, files bbbbbbbbbbbb"')
    ]
