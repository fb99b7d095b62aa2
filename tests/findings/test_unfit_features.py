"""Features that do not vary, and fits that failed on NaN."""


def test_constant_features_are_named(make, probe, only):
    probes = [probe(tap, 0.9, features_constant=tap == "b") for tap in "abcd"]
    one = only(make(probes, warnings=["something else"]))
    assert one.sentence == "No feature varies at b, so nothing about digit can be read there."
    assert (one.severity, one.taps, one.evidence) == ("warning", ["b"], {"constant": [["b", "pool"]]})


def test_each_factor_says_so(make, probe, finding):
    probes = [probe("a", 0.9, factor=name, features_constant=True) for name in ("digit", "parity")]
    assert [one.factor for one in finding(make(probes))] == ["digit", "parity"]


def test_a_fit_that_failed_on_nan_is_a_problem(make, probe, only):
    text = (
        "the fit failed: model default, tap a, reduction pca: tap 'a' has 3 NaN or infinite values under 'pca' in 1 of "
        "9 examples, the first: '4'"
    )
    one = only(make([probe("b", 0.1)], warnings=[text, "the fit failed: model default, tap c: RuntimeError: no"]))
    assert one.severity == "problem"
    assert one.sentence.startswith(
        "No probe could be fitted: model default, tap a, reduction pca: tap 'a' has 3 NaN or "
    )
    assert (one.factor, one.taps, one.evidence) == (None, [], {"warning": text})


def test_nothing_is_said_where_all_vary(make, probe, finding):
    assert finding(make([probe("a", 0.9)])) == []
    assert finding(make([])) == []


def test_odd_names(make, probe, only, odd):
    one = only(make([probe(odd, 0.9, factor=odd, features_constant=True)]))
    assert one.taps == [odd]
    assert one.sentence.isprintable()
