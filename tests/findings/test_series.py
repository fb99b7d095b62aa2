"""How probes are grouped, and what is said of a group."""

from probekit.findings.series import series_of


def test_models_checkpoints_factors_and_probes_are_apart_and_controls_are_beside(make, probe):
    probes = [
        probe("a", 0.1), probe("b", 0.1), probe("a", 0.1, factor="parity"), probe("a", 0.1, probe="paper"),
        probe("a", 0.1, checkpoint="1"), probe("a", 0.1, control="shuffled_labels"),
    ]  # fmt: skip
    series = series_of(make(probes))
    assert [[p.tap for p in one.probes] for one in series] == [["a", "b"], ["a"], ["a"], ["a"]]
    assert [len(one.controls) for one in series] == [1, 0, 0, 0]


def test_only_what_differs_is_named(make, probe):
    def whose(probes, **more):
        return [one.whose for one in series_of(make(probes, **more))]

    assert whose([probe("a", 0.1, checkpoint="9")]) == [""]
    assert whose([probe("a", 0.1, probe=name) for name in ("optimum", "paper")]) == ["probe optimum", "probe paper"]
    assert whose([probe("a", 0.1, checkpoint=name) for name in ("1", "2")]) == ["checkpoint 1", "checkpoint 2"]
    both = [probe("a", 0.1, model="fp32", checkpoint="1"), probe("a", 0.1, model="int8")]
    assert whose(both) == ["model fp32, checkpoint 1", "model int8"]


def test_the_best_is_chosen_on_valid_among_those_that_are_proven(make, probe):
    probes = [probe("a", 0.1, 0.3), probe("b", 0.5, 0.2), probe("c", 0.1, 0.2), probe("d", 0.0, status="missed")]
    (series,) = series_of(make(probes))
    assert series.best.tap == "b"
    assert [p.tap for p in series.ranked] == ["a", "b", "c"]
    assert series.best_at(["a", "d"]).tap == "a"
    assert series.best_at(["d"]) is None


def test_the_best_number_has_the_largest_r2(make, number):
    (series,) = series_of(make([number("a", 0.1, 0.8), number("b", 0.9, 0.5)]))
    assert series.best.tap == "a"


def test_chance_is_left_behind_only_by_the_whole_interval(make, probe, number):
    (series,) = series_of(
        make([probe("a", 0.5), probe("b", 0.89), probe("c", 0.95), probe("d", 0.1, intervals={"x": {}})])
    )
    assert [series.above_chance(p) for p in series.probes] == [True, False, False, None]
    (series,) = series_of(make([number("a", 0.5), number("b", 0.04), number("c", 0.3, intervals={})]))
    assert [series.above_chance(p) for p in series.probes] == [True, False, None]


def test_what_is_left_of_the_baseline(make, probe, number):
    (series,) = series_of(make([probe("a", 0.5)]))
    assert (series.left(0.9), series.left(0.45), series.left(0.0)) == (1.0, 0.5, 0.0)
    (series,) = series_of(make([number("a", 0.5)]))
    assert (series.left(-0.01), series.left(1.0)) == (1.0, 0.0)
    (series,) = series_of(make([probe("a", 0.0)], baseline=0.0))
    assert series.left(0.0) == 1.0


def test_curves_have_one_reduction_and_their_own_paths(make, probe, step):
    probes = [
        probe("a", 0.3),
        probe("b", 0.2, reduction="flatten"),
        probe("c", 0.1),
        probe("c", 0.1, reduction="flatten"),
    ]
    result = make(probes, edges=[("a", "b"), ("b", "c")], steps=[step("a", "c", -0.2)])
    (series,) = series_of(result)
    pool, flatten = series.curves()
    assert ([p.tap for p in pool.probes], pool.paths.edges) == (["a", "c"], (("a", "c"),))
    assert flatten.paths.order == ("b", "c")
    assert (len(pool.steps), len(flatten.steps)) == (1, 0)
    assert (series.asked, pool.asked) == ("digit", "digit under pool")
    assert (series.place(probes[0]), pool.place(probes[0])) == ("a (pool)", "a")


def test_a_vector_is_in_the_curve_of_each_reduction_with_the_step_to_it(make, probe, step):
    probes = [
        probe("a", 0.5), probe("a", 0.4, reduction="flatten"), probe("b", 0.2, reduction="flatten", vector=True),
        probe("c", 0.1, reduction="flatten", vector=True),
    ]  # fmt: skip
    flat = {"reduction": "flatten"}
    steps = [
        step("a", "b", -0.3, **flat, before_reduction="pool"),
        step("a", "b", -0.2, **flat),
        step("b", "c", -0.1, **flat),
    ]
    (series,) = series_of(make(probes, edges=[("a", "b"), ("b", "c")], steps=steps))
    pool, flatten = series.curves()
    assert [(p.tap, p.reduction) for p in pool.probes] == [("a", "pool"), ("b", "flatten"), ("c", "flatten")]
    assert [pool.say("kind", "info", "text.", some).reduction for some in ((), pool.probes, pool.probes[1:])] == [
        "pool", "pool", "flatten",
    ]  # fmt: skip
    assert list(pool.steps) == [steps[0], steps[2]]
    assert list(flatten.steps) == steps[1:]
    assert (pool.asked, pool.asked_at(pool.probes), pool.asked_at(pool.probes[1:])) == (
        "digit under pool", "digit under pool", "digit",
    )  # fmt: skip


def test_a_step_that_passes_a_tap_of_a_curve_is_not_of_that_curve(make, probe, step):
    vectors = {tap: probe(tap, 0.1, reduction="flatten", vector=True) for tap in "ac"}
    probes = [vectors["a"], probe("b", 0.5), vectors["c"], probe("d", 0.1), probe("d", 0.1, reduction="flatten")]
    steps = [step("a", "c", 0.1, reduction="flatten")]
    (series,) = series_of(make(probes, edges=[("a", "b"), ("b", "c"), ("c", "d")], steps=steps))
    assert {curve.reduction: len(curve.steps) for curve in series.curves()} == {"pool": 0, "flatten": 1}


def test_one_curve_is_not_named(make, probe):
    probes = [probe("in", 0.5, reduction="flatten"), probe("a", 0.3), probe("b", 0.1, reduction="flatten", vector=True)]
    (series,) = series_of(make(probes, inputs=["in"]))
    (curve,) = series.curves()
    assert (curve.asked, series.place(probes[2])) == ("digit", "b (flatten)")
    assert [p.tap for p in curve.probes] == ["a", "b"]


def test_what_is_reached_has_n_and_interval(make, probe, number, tags, own):
    (series,) = series_of(make([probe("a", 0.1)], per="position"))
    assert (
        series.reached(series.probes[0]) == "10.0 % of 600 test positions wrong (95 % interval 7.8 % to 12.7 %, Wilson)"
    )
    assert series.reached(own(0.1)) == series.reached(series.probes[0])
    (series,) = series_of(make([number("a", 0.5)]))
    text = "R² 0.500 (95 % interval 0.450 to 0.550, bootstrap) on 600 test examples"
    assert series.reached(series.probes[0]) == text
    (series,) = series_of(make([tags("a", 0.1)]))
    text = "10.0 % of the answers for 600 test examples wrong (95 % interval 8.0 % to 12.0 %, bootstrap over 40 groups)"
    assert series.reached(series.probes[0]) == text
    (series,) = series_of(make([number("a", 0.5, intervals={})]))
    assert series.reached(series.probes[0]) == "R² 0.500 on 600 test examples"


def test_a_record_names_its_taps_once_and_a_reduction_if_there_is_one(make, probe):
    (series,) = series_of(make([probe("a", 0.1), probe("a", 0.1, reduction="flatten")]))
    one = series.say("kind", "info", "text.", series.probes, x=1)
    assert (one.taps, one.reduction, one.evidence, one.sentence) == (["a"], None, {"x": 1}, "Text.")
    assert series.say("kind", "info", "text.", series.probes[:1]).reduction == "pool"
    assert (one.model, one.checkpoint, one.factor, one.probe) == ("default", None, "digit", "default")


def test_a_run_without_probes_has_no_series(make):
    assert series_of(make([])) == []


def test_a_factor_of_which_only_a_control_was_fitted_has_no_series(make, probe):
    assert series_of(make([probe("a", 0.1, control="shuffled_labels")])) == []
