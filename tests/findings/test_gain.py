"""The gain over chance and over the input."""


def test_over_chance_alone_where_the_input_is_not_tapped(make, probe, only):
    one = only(make([probe("a", 0.5), probe("b", 0.1)]))
    assert (
        one.sentence
        == "For digit, the error at b is 80.0 points better than always saying the commonest class (90.0 %)."
    )
    assert (one.severity, one.evidence) == ("info", {"baseline": 0.9, "test": 0.1, "over_chance": 0.8})


def test_over_the_input_by_the_paired_difference_where_there_is_one(make, probe, step, only):
    probes = [probe("x", 0.3), probe("b", 0.1)]
    one = only(make(probes, inputs=["x"], steps=[step("x", "b", -0.2, half=0.02)]))
    assert one.sentence.endswith(
        ", and 20.0 points better than the input, x (30.0 %); 95 % interval 18.0 to 22.0 points, paired."
    )
    assert (one.severity, one.taps) == ("info", ["x", "b"])
    assert one.evidence["input"]["over_input"]["paired"] is True


def test_over_the_input_on_the_same_rows_wherever_it_is(make, probe, contrast, only):
    probes = [probe("x", 0.3), probe("a", 0.2), probe("b", 0.1)]
    one = only(make(probes, inputs=["x"], contrasts=[contrast("b", "x", -0.2)]))
    assert one.sentence.endswith("; 95 % interval 19.5 to 20.5 points, paired; p = 0.004 by McNemar's exact test.")
    assert one.evidence["input"]["over_input"]["test"] == "mcnemar_exact"


def test_over_the_input_without_pairs(make, probe, only):
    one = only(make([probe("x", 0.3), probe("a", 0.2), probe("b", 0.1)], inputs=["x"]))
    assert one.evidence["input"]["over_input"]["paired"] is False
    assert one.sentence.endswith("points, unpaired.")


def test_the_best_reduction_of_the_input_counts(make, probe, only):
    probes = [probe("x", 0.8), probe("x", 0.2, reduction="flatten"), probe("b", 0.1)]
    assert "the input, x (flatten) (20.0 %)" in only(make(probes, inputs=["x"])).sentence


def test_it_is_a_notice_where_the_input_may_be_as_good(make, probe, only):
    one = only(make([probe("x", 0.11), probe("b", 0.1)], inputs=["x"]))
    assert one.severity == "notice"
    assert ", but not shown to be better than the input, x (11.0 %): 1.0 points, 95 % interval -" in one.sentence


def test_it_is_a_notice_where_the_input_is_the_best(make, probe, only):
    one = only(make([probe("x", 0.1), probe("b", 0.2)], inputs=["x"]))
    assert one.severity == "notice"
    assert one.sentence.endswith("; that is the model's input, and no later tap does better on valid.")


def test_it_is_a_warning_where_chance_is_within_the_interval(make, probe, only):
    one = only(make([probe("a", 0.89)]))
    assert one.severity == "warning"
    assert one.sentence == (
        "No tap is shown to do better than chance for digit: the one chosen on valid, a, has 89.0 % of 600 test "
        "examples wrong (95 % interval 86.2 % to 91.3 %, Wilson); chance is always saying the commonest class (90.0 %)."
    )


def test_it_is_a_notice_where_the_probabilities_tell_something(make, probe, told, only):
    """With uneven classes a probe may know much and still always say the commonest one."""
    one = only(make([probe("a", 0.05)], baseline=0.05, information=[told("a", "yes")]))
    assert one.severity == "notice"
    assert one.sentence.endswith("(5.0 %). Its probabilities do tell something, only not enough to change the answer.")
    assert only(make([probe("a", 0.05)], baseline=0.05, information=[told("a", "no")])).severity == "warning"


def test_without_an_interval_the_value_decides(make, probe, only):
    bare = {"intervals": {"error": {"train": probe("a", 0.1).intervals["error"]["train"]}}}
    assert only(make([probe("a", 0.89, **bare)])).severity == "info"
    assert only(make([probe("a", 0.90, **bare)])).severity == "warning"


def test_numbers_gain_r2(make, number, only):
    one = only(make([number("x", 0.2), number("b", 0.6)], inputs=["x"]))
    assert one.sentence.startswith(
        "For snr, the R² at b is 0.610 better than always saying the mean (-0.010), and 0.400 "
    )
    assert one.severity == "info"
    assert only(make([number("a", 0.03)])).severity == "warning"


def test_a_missed_input_is_not_compared(make, probe, only):
    one = only(make([probe("x", 0.01, status="missed"), probe("b", 0.1)], inputs=["x"]))
    assert "input" not in one.evidence


def test_nothing_is_said_without_ranked_probes(make, probe, finding):
    assert finding(make([probe("a", 0.1, status="missed")])) == []
    assert finding(make([])) == []


def test_odd_names(make, probe, only, odd):
    one = only(make([probe(odd, 0.3, factor=odd), probe("b", 0.1, factor=odd)], inputs=[odd]))
    assert one.taps == [odd, "b"]
    assert one.sentence.isprintable()
