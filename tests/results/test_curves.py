"""Which probes make a curve."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probekit.results import CertificateRecord, GraphRecord, ProbeResult, TapRecord, curves_of, inputs_of


def probe(tap, reduction="pool", vector=False):
    error = dict.fromkeys(("train", "valid", "test"), 0.5)
    return ProbeResult(
        model="m", checkpoint=None, tap=tap, reduction=reduction, factor="f", probe="p", control=None, seed=0,
        scores={"error": error}, primary="error", error=error, penalty=None, features_raw=4, features_used=4,
        vector=vector, rows={}, seconds=0.0,
        certificate=CertificateRecord(status="proven", gap=None, of_chance=None, of_objective=None),
    )  # fmt: skip


def vectors(*taps):
    return [probe(tap, "flatten", vector=True) for tap in taps]


def named(probes, inputs=()):
    """Return the curves as text: each tap with the first letter of its reduction."""
    curves = curves_of(probes, inputs)
    return {name: " ".join(f"{one.tap}:{one.reduction[0]}" for one in curve) for name, curve in curves.items()}


def test_a_vector_goes_on_with_the_curve_of_the_reduction_that_does_not_apply_to_it():
    assert named([probe("conv"), probe("relu"), *vectors("fc", "out")]) == {"pool": "conv:p relu:p fc:f out:f"}


def test_a_vector_before_and_between_is_of_the_curve_too():
    probes = [*vectors("in"), probe("conv"), *vectors("squeeze"), probe("relu"), *vectors("out")]
    assert named(probes) == {"pool": "in:f conv:p squeeze:f relu:p out:f"}


def test_each_of_several_reductions_goes_on_with_the_same_vectors():
    maps = [probe(tap, name) for tap in ("conv", "relu") for name in ("pool", "max", "flatten")]
    assert named([*maps, *vectors("fc")]) == {
        "pool": "conv:p relu:p fc:f", "max": "conv:m relu:m fc:f", "flatten": "conv:f relu:f fc:f",
    }  # fmt: skip


def test_an_input_that_alone_is_flattened_on_purpose_has_no_curve_beside_another():
    probes = [probe("image", "flatten"), probe("conv"), *vectors("fc")]
    assert named(probes, inputs=["image"]) == {"pool": "conv:p fc:f"}
    assert named([probe("image"), *probes], inputs=["image"]) == {"pool": "image:p conv:p fc:f"}
    assert named(probes) == {"flatten": "image:f fc:f", "pool": "conv:p fc:f"}  # it is a layer


def test_with_vectors_alone_beside_the_input_nothing_is_dropped():
    assert named([probe("image", "flatten"), *vectors("fc", "out")], ["image"]) == {"flatten": "image:f fc:f out:f"}
    both = [probe("image"), probe("image", "flatten"), *vectors("fc")]
    assert named(both, ["image"]) == {"pool": "image:p fc:f", "flatten": "image:f fc:f"}


def test_vectors_alone_are_one_curve_for_each_reduction_that_they_have():
    assert named(vectors("a", "b")) == {"flatten": "a:f b:f"}
    some = [probe("a", "flatten", vector=True), probe("b", "subset", vector=True)]
    assert named(some) == {"flatten": "a:f b:s"}  # the same probes under another name are no other curve


def test_a_vector_that_is_reduced_is_of_that_reduction_alone():
    probes = [probe("conv"), probe("conv", "subset"), probe("fc", "subset"), *vectors("out")]
    assert named(probes) == {"pool": "conv:p out:f", "subset": "conv:s fc:s out:f"}


def test_its_own_probe_comes_before_that_of_another_reduction():
    small = [*vectors("out"), probe("out", "subset", vector=True)]
    assert named([probe("conv"), probe("conv", "subset"), *small]) == {
        "pool": "conv:p out:f", "subset": "conv:s out:s",
    }  # fmt: skip


@pytest.mark.parametrize("probes", [[], [probe("a")], vectors("a")])
def test_few_probes(probes):
    assert list(curves_of(probes).values()) == ([probes] if probes else [])


@given(
    st.lists(st.booleans(), min_size=1, max_size=8),
    st.lists(st.sampled_from(["pool", "max", "flatten"]), unique=True, min_size=1),
)
def test_each_tap_is_once_in_the_curve_of_each_reduction_of_a_spec(kinds, reductions):
    """As the program assigns them: a map has every reduction, a vector is flattened."""
    taps = [f"t{number}" for number in range(len(kinds))]
    probes = []
    for tap, vector in zip(taps, kinds, strict=True):
        probes += vectors(tap) if vector else [probe(tap, name) for name in reductions]
    found = curves_of(probes)
    assert [[one.tap for one in curve] for curve in found.values()] == [taps] * len(found)
    for name, curve in found.items():
        assert all(one.vector or one.reduction == name for one in curve)
    assert set(found) == ({"flatten"} if all(kinds) else set(reductions))
    assert {id(one) for curve in found.values() for one in curve} == set(map(id, probes))


def test_the_inputs_are_those_of_the_model():
    def record(model, tap, op):
        return TapRecord(model=model, tap=tap, name=tap, op=op, shape=[4], dtype="float32", layout="NC", depth=0)

    graph = GraphRecord(taps=[record("m", "a", "Input"), record("m", "b", "Relu"), record("n", "c", "Input")], edges=[])
    assert (inputs_of(graph, "m"), inputs_of(graph, "n")) == ({"a"}, {"c"})
