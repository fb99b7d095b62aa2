"""The checks across sections, on plain trees: each finds its fault, and none fails on a section of a wrong type."""

from hypothesis import given
from hypothesis import strategies as st

from probekit.spec.checks import check_tree

MODEL = {"kind": "onnx", "path": "a.onnx"}


def found(**sections):
    problems = check_tree({"model": MODEL, **sections}, lambda path: f"line of {path}")
    return [(one.path, one.problem.code, one.at_key) for one in problems]


def test_nothing_is_wrong_with_a_small_spec():
    assert found(labels={"d": {"kind": "column"}}, taps=["a", {"match": "b"}]) == []


def test_a_name_must_be_in_the_labels():
    labels = {"digit": {}, "parity": {}}
    assert found(labels=labels, splits={"stratify": "digits"}) == [(("splits", "stratify"), "PK-Y26", False)]
    assert found(labels=labels, splits={"stratify": "parity"}) == []
    assert found(labels=labels, model={**MODEL, "output": {"factor": "x"}}) == [
        (("model", "output", "factor"), "PK-Y26", False)
    ]


def test_the_output_of_every_model_is_looked_at():
    models = {name: {**MODEL, "output": {"factor": factor}} for name, factor in [("a", "d"), ("b", "e"), ("c", "f")]}
    assert [path for path, _, _ in found(model=None, models=models, labels={"d": {}})] == [
        ("models", "b", "output", "factor"),
        ("models", "c", "output", "factor"),
    ]


TASKS = {"d": {"kind": "column"}, "tags": {"kind": "multilabel"}, "snr": {"kind": "number"}, "p": {"kind": "plugins"}}


def test_examples_cannot_be_stratified_by_what_has_no_classes():
    for name in ("tags", "snr"):
        assert found(labels=TASKS, splits={"stratify": name}) == [(("splits", "stratify"), "PK-L27", False)]
    assert found(labels=TASKS, splits={"stratify": "p"}) == []
    tree = {"model": MODEL, "labels": TASKS, "splits": {"stratify": "tags"}}
    (one,) = check_tree(tree, str)
    assert one.problem.hint == "name another factor: 'd', 'p', or leave the key out"


def test_a_models_output_may_be_a_number_and_no_yes_no_labels():
    place = ("model", "output", "factor")
    assert found(labels=TASKS, model={**MODEL, "output": {"factor": "tags"}}) == [(place, "PK-L24", False)]
    assert found(labels=TASKS, model={**MODEL, "output": {"factor": "snr"}}) == []
    told = {"factor": "snr", "classes": "sorted", "classes_file": "x"}
    assert found(labels=TASKS, model={**MODEL, "output": told}) == [
        (("model", "output", "classes"), "PK-Y29", True),
        (("model", "output", "classes_file"), "PK-Y29", True),
    ]


def test_a_control_is_for_factors_that_there_are():
    controls = ["shuffled_labels", {"kind": "x", "factors": ["d", "tag", 3, "snr"]}, {"factors": "d"}, 7]
    assert found(labels=TASKS, controls=controls) == [(("controls", 1, "factors", 1), "PK-Y26", False)]
    (one,) = check_tree({"model": MODEL, "labels": TASKS, "controls": controls}, str)
    assert one.problem.hint == "did you mean 'tags'? (in 'labels')"
    assert found(labels=["d"], controls=controls) == []
    assert found(labels=TASKS, controls={"factors": ["e"]}) == []


def test_labels_that_are_no_mapping_leave_references_alone():
    assert found(labels=["d"], splits={"stratify": "e"}) == []


def test_a_reduction_must_be_defined():
    taps = ["a", {"match": "b", "reductions": ["pool", "max"]}, {"match": "c", "reductions": ["pool"]}]
    assert found(reductions={"pool": {}}, taps=taps) == [(("taps", 1, "reductions", 1), "PK-Y26", False)]
    assert found(reductions={"pool": {}, "max": {}}, taps=taps) == []


def test_the_single_reduction_is_called_default():
    taps = [{"match": "b", "reductions": ["default"]}]
    assert found(taps=taps) == []
    assert found(taps=taps, reduction={"kind": "pool"}) == []
    assert found(taps=taps, reductions={"pool": {}}) == [(("taps", 0, "reductions", 0), "PK-Y26", False)]


def test_singular_and_plural_exclude_each_other():
    assert found(models={"a": {}}, reduction={}, reductions={}, probe={"kind": "linear"}, probes=None) == [
        (("models",), "PK-Y29", True),
        (("reductions",), "PK-Y29", True),
    ]


def test_one_of_model_and_models_is_needed():
    assert found(model=None) == [(("model",), "PK-Y38", False)]
    assert found(model=None, models={"a": MODEL}) == []


def test_a_tap_that_stands_twice_names_where_it_stood_first():
    tree = {"model": MODEL, "taps": ["a", "b", {"match": "a"}, {"as": "b", "op": "Add"}, "a"]}
    problems = [one.problem for one in check_tree(tree, lambda path: f"<{path[-1]}>")]
    assert [(p.field, p.what) for p in problems] == [
        ("taps[2]", "tap 'a' stands twice, first in <0>"),
        ("taps[3]", "tap 'b' stands twice, first in <1>"),
        ("taps[4]", "tap 'a' stands twice, first in <0>"),
    ]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["match", "op", "as", "reductions", "output", "factor", "factors", "a"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from("model models labels taps splits reduction reductions probe probes controls".split()),
        anything,
    )
)
def test_no_tree_makes_a_check_fail(tree):
    for one in check_tree(tree, str):
        assert one.problem.code in {"PK-Y26", "PK-Y27", "PK-Y29", "PK-Y38"}
        assert one.problem.what


def test_a_controls_models_are_models():
    controls = [{"kind": "random_weights", "models": ["fp32", "int8"]}]
    assert found(model=None, models={"fp32": MODEL}, labels={"d": {}}, controls=controls) == [
        (("controls", 0, "models", 1), "PK-Y26", False)
    ]
    controls = [{"kind": "random_weights", "models": ["default"]}]
    assert found(labels={"d": {}}, controls=controls) == []
