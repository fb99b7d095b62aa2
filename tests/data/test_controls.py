"""Controls: permuted labels and control tasks, from what they draw to what a probe reaches on them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from probekit.components import ArrayMatrix, Control, Dataset, Examples, LabelControl, LabelFactor, Target
from probekit.data.arrays import DigitsDataset
from probekit.data.controls import ControlTask, ShuffledLabels
from probekit.data.factors import ColumnFactor, GroupFactor
from probekit.data.numbers import NumberFactor
from probekit.data.question import Question, ask
from probekit.data.targets import make_controls
from probekit.data.yes_no import MultilabelFactor
from probekit.errors import ProbekitWarning
from probekit.probes.linear import LinearProbe
from probekit.spec import Spec
from probekit.spec.rows import Rows
from probekit.spec.splits import ShareOf, Splits

Refused = Callable[[Callable[[], object]], list[tuple[str, str]]]

BY_PART = Splits(column="part", valid="valid")
CLASS = ColumnFactor(missing="drop")
TAGS = MultilabelFactor(columns=["speech", "music"], missing="drop")
SNR = NumberFactor(column="snr", missing="drop")
FACTORS: dict[str, LabelFactor] = {"class": CLASS, "tags": TAGS, "snr": SNR}
BOTH: list[Control] = [ShuffledLabels(), ControlTask(by="word")]


def question(
    columns: Mapping[str, Any],
    controls: list[Control],
    factors: dict[str, LabelFactor] | None = None,
    inputs: Mapping[str, Any] | None = None,
    mask: Any = None,
) -> Question:
    """Return what is asked of examples that are held; with a mask, of the positions where it is 1."""
    arrays = {name: np.array(values) for name, values in columns.items()}
    held = Examples(arrays, inputs if inputs is not None else {"x": np.arange(len(arrays["part"]))})

    class Held(Dataset):
        kind: Literal["held"] = "held"

        def open(self) -> Examples:
            return held

    rows = Rows() if mask is None else Rows(per="position", mask="mask")
    spec = Spec(
        probekit=1, name="x", data=Held(), labels=factors or {"class": CLASS}, splits=BY_PART, rows=rows,
        controls=controls, reports=[],
    )  # fmt: skip
    asked = ask(spec)
    if mask is None:
        return asked.question()
    return asked.question(mask.sum(axis=1), np.concatenate([np.flatnonzero(row) for row in mask]))


def drawn(seed: int, count: int = 60) -> dict[str, Any]:
    """Return columns whose labels are partly missing; each split has all of everything."""
    rng = np.random.default_rng(seed)
    sure = 4
    parts = np.array(["train"] * sure + ["valid"] * sure + ["test"] * sure + [""] * (count - 3 * sure), dtype="<U5")
    parts[3 * sure :] = rng.choice(["train", "valid", "test"], count - 3 * sure)
    label = rng.choice(["a", "b", "c", ""], count, p=[0.6, 0.2, 0.1, 0.1]).astype(object)
    label[: 3 * sure] = np.resize(["a", "b", "c", "a"], 3 * sure)
    speech, music = (rng.choice(["yes", "no", ""], count, p=[0.3, 0.6, 0.1]).astype(object) for _ in range(2))
    speech[: 3 * sure], music[: 3 * sure] = (
        np.resize(["yes", "no"], 3 * sure),
        np.resize(["yes", "yes", "no"], 3 * sure),
    )
    snr = rng.standard_normal(count) * 5
    snr[rng.integers(3 * sure, count, 5)] = np.nan
    word = rng.choice(list("uvwx"), count)
    word[: 3 * sure] = np.resize(list("uvwx"), 3 * sure)
    return {"part": parts, "label": label, "speech": speech, "music": music, "snr": snr, "word": word}


def texts(codes: Any) -> list[str]:
    return [repr(np.asarray(code).tolist()) for code in codes]


def of(asked: Question, factor: str, control: str | None) -> list[Target]:
    return [target for target in asked.targets if (target.factor, target.control) == (factor, control)]


seeds = st.integers(0, 2**32 - 1)


# --- what both controls keep ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_a_control_asks_the_same_rows_of_the_same_classes(seed: int) -> None:
    asked = question(drawn(seed), BOTH, FACTORS)
    assert asked.truths == asked.targets[:3]
    assert [(one.factor, one.control) for one in asked.controls] == [
        (factor, control.control_name()) for control in BOTH for factor in FACTORS
    ]
    for target in asked.controls:
        (truth,) = of(asked, target.factor, None)
        assert (target.classes, target.task, target.codes.dtype) == (truth.classes, truth.task, truth.codes.dtype)
        assert target.known().tolist() == truth.known().tolist()
        assert target.train.tolist() == truth.train.tolist()
        assert target.valid.tolist() == truth.valid.tolist()


@settings(deadline=None, max_examples=15)
@given(seeds, st.integers(0, 50))
def test_a_draw_depends_on_its_seed_factor_and_control_alone(seed: int, first: int) -> None:
    columns = drawn(seed)
    alone = question(columns, [ShuffledLabels(seed=first)]).controls[0]
    more: list[Control] = [
        ControlTask(by="word"),
        ShuffledLabels(seed=max(0, first - 1), seeds=3, factors=["class"]),
    ]
    among = of(question(columns, more, FACTORS), "class", "shuffled_labels")
    (same,) = [target for target in among if target.seed == first]
    assert texts(same.codes) == texts(alone.codes)
    assert len({tuple(texts(target.codes)) for target in among}) == 3


def test_several_seeds_are_several_targets() -> None:
    asked = question(drawn(0), [ShuffledLabels(seeds=3, seed=7), ControlTask(by="word", seeds=2)])
    assert [(one.control, one.seed) for one in asked.controls] == [
        ("shuffled_labels", 7), ("shuffled_labels", 8), ("shuffled_labels", 9),
        ("control_task by word", 0), ("control_task by word", 1),
    ]  # fmt: skip


def test_a_control_may_be_for_some_factors_only() -> None:
    asked = question(drawn(0), [ShuffledLabels(factors=["snr", "class"])], FACTORS)
    assert [one.factor for one in asked.controls] == ["class", "snr"]


def test_without_controls_the_true_labels_are_all_that_is_asked() -> None:
    asked = question(drawn(0), [], FACTORS)
    assert asked.truths == asked.targets
    assert asked.control_facts() == []


# --- shuffled labels --------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(0, 2**32 - 1))
def test_a_permutation_keeps_the_counts_of_every_split(seed: int, first: int) -> None:
    asked = question(drawn(seed), [ShuffledLabels(seed=first)], FACTORS)
    for target in asked.controls:
        (truth,) = of(asked, target.factor, None)
        for split in asked.parts:
            rows = asked.within(split, truth)
            assert Counter(texts(target.codes[rows])) == Counter(texts(truth.codes[rows]))
    assert any(texts(target.codes) != texts(of(asked, target.factor, None)[0].codes) for target in asked.controls)


def test_rows_in_two_splits_are_moved_once() -> None:
    truth = Target("class", ("a", "b"), np.array([0, 1, 0, 1, 1, 0]), np.arange(4), np.arange(2, 6))
    parts = {"train": np.arange(4), "valid": np.arange(2, 6)}
    codes = ShuffledLabels().draw(truth, parts, {}, np.random.default_rng(3))
    assert sorted(codes[:4]) == [0, 0, 1, 1]
    assert sorted(codes[4:]) == [0, 1]


def test_a_permuted_label_is_as_likely_as_any_other() -> None:
    """Each of the six orders of three labels comes about as often as the others."""
    truth = Target("class", ("a", "b", "c"), np.arange(3), np.arange(3), np.arange(3))
    orders = Counter(
        tuple(ShuffledLabels().draw(truth, {"train": np.arange(3)}, {}, np.random.default_rng(seed)).tolist())
        for seed in range(600)
    )
    assert len(orders) == 6
    assert all(binomtest(count, 600, 1 / 6).pvalue > 1e-4 for count in orders.values())


def test_positions_are_permuted_one_by_one() -> None:
    """The labels of an example's positions are alike before, and not after."""
    label = np.resize(["a", "b"], 30)
    mask = np.ones((30, 8), dtype=int)
    columns = {"part": np.repeat(["train", "valid", "test"], 10), "label": label, "mask": np.zeros(30)}
    asked = question(columns, [ShuffledLabels()], inputs={"x": mask, "mask": mask}, mask=mask)
    truth, control = asked.targets
    alike = [len(set(target.codes[asked.owners == 0])) for target in (truth, control)]
    assert alike == [1, 2]
    assert Counter(control.codes[asked.places["train"]]) == {0: 40, 1: 40}


# --- control tasks ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seeds, st.integers(0, 2**32 - 1))
def test_a_control_task_is_a_function_of_the_columns_value(seed: int, first: int) -> None:
    columns = drawn(seed)
    asked = question(columns, [ControlTask(by="word", seed=first)], FACTORS)
    for target in asked.controls:
        known = np.flatnonzero(target.known())
        pairs = {(columns["word"][row], *texts([target.codes[row]])) for row in known}
        assert len(pairs) == len({word for word, _ in pairs})
        (truth,) = of(asked, target.factor, None)
        given_labels = set(texts(truth.codes[truth.train]))
        assert set(texts(target.codes[known])) <= given_labels
        assert len(set(texts(target.codes[target.train]))) > 1
        assert set(texts(target.codes[known])) <= set(texts(target.codes[target.train]))


def words(count: int, times: int = 2, **more: Any) -> dict[str, Any]:
    """Return columns in which each of many words stands in every split."""
    parts = np.repeat(["train", "valid", "test"], count * times)
    label = np.resize(["a", "a", "a", "b"], len(parts))
    return {"part": parts, "label": label, "word": np.tile([f"w{n}" for n in range(count)], 3 * times), **more}


def test_labels_are_drawn_with_the_shares_of_the_training_labels() -> None:
    columns = words(2001)
    asked = question(columns, [ControlTask(by="word")])
    (target,) = asked.controls
    once = target.codes[:2001]
    share = np.mean(asked.truths[0].codes[asked.truths[0].train] == 1)
    assert binomtest(int(once.sum()), 2001, float(share)).pvalue > 1e-3


def test_a_words_label_says_nothing_about_its_true_one() -> None:
    columns = words(2000)
    asked = question(columns, [ControlTask(by="word")])
    alike = asked.controls[0].codes[:2000] == asked.truths[0].codes[:2000]
    assert binomtest(int(alike.sum()), 2000, 0.75**2 + 0.25**2).pvalue > 1e-3


def test_a_control_task_is_never_the_task_by_other_names() -> None:
    """Of the eight ways to give three words two labels, two ask nothing and two are the true one."""
    word = np.resize(["u", "v", "w"], 90)
    columns = {
        "part": np.repeat(["train", "valid", "test"], 30),
        "label": np.where(word == "u", "a", "b"),
        "word": word,
    }
    asked = question(columns, [ControlTask(by="word", seeds=100)])
    ways = Counter("".join(map(str, target.codes[:3])) for target in asked.controls)
    assert set(ways) == {"001", "010", "101", "110"}


def test_a_word_that_train_lacks_gets_a_label_that_train_has() -> None:
    """Of three classes the few words of train get two at most; the 200 of test get no other."""
    parts = np.repeat(["train", "valid", "test"], [30, 10, 230])
    word = [*np.resize(["u", "v"], 40), *np.resize(["u", "v"], 30), *(f"t{n}" for n in range(200))]
    columns = {"part": parts, "label": np.resize(list("abc"), 270), "word": np.array(word)}
    with pytest.warns(ProbekitWarning) as caught:
        asked = question(columns, [ControlTask(by="word")])
    (target,) = asked.controls
    assert len(set(target.codes[:30])) == 2
    assert set(target.codes[70:]) == set(target.codes[:30])
    assert [str(warning.message) for warning in caught] == [
        "control_task by word for class: train has the value of 13 % of the 'test' rows; the others' control labels "
        "cannot be known, which makes the selectivity larger"
    ]
    (facts,) = asked.control_facts()
    assert facts["values"] == 202
    assert facts["seen"] == {"train": 1.0, "valid": 1.0, "test": pytest.approx(30 / 230)}


@pytest.mark.parametrize(
    "values",
    [
        np.resize([1, 2, 3], 120),
        np.resize([0.5, 1.5, np.inf], 120),
        np.resize([True, False, True, True], 120),
        np.resize(np.array([b"\xff", b"a", "ü"], dtype=object), 120),
    ],
    ids=["integers", "floats", "booleans", "bytes"],
)
def test_values_of_any_type_are_told_apart(values: Any) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "part": rng.permutation(np.repeat(["train", "valid", "test"], 40)), "label": rng.choice(["a", "b"], 120),
        "word": values,
    }  # fmt: skip
    (target,) = question(columns, [ControlTask(by="word")]).controls
    pairs = {(str(value), int(code)) for value, code in zip(values, target.codes, strict=True)}
    assert len(pairs) == len({str(value) for value in values})
    assert len(set(target.codes)) == 2


def test_at_positions_the_column_may_be_an_input_the_position_or_the_examples() -> None:
    rng = np.random.default_rng(1)
    tokens, mask = rng.integers(0, 5, (30, 6)), np.ones((30, 6), dtype=int)
    mask[:, 4:] = 0
    columns = {
        "part": np.repeat(["train", "valid", "test"], 10), "label": rng.choice(["a", "b"], 30),
        "speaker": rng.choice(["s", "t", "u"], 30), "mask": np.zeros(30),
    }  # fmt: skip
    truth = {
        "tokens": tokens[:, :4].ravel(),
        "position": np.tile(np.arange(4), 30),
        "speaker": np.repeat(columns["speaker"], 4),
    }
    controls: list[Control] = [ControlTask(by=name) for name in truth]
    asked = question(columns, controls, inputs={"tokens": tokens, "mask": mask}, mask=mask)
    for target, values in zip(asked.controls, truth.values(), strict=True):
        pairs = set(zip(values.tolist(), target.codes.tolist(), strict=True))
        assert len(pairs) == len(set(values.tolist()))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_unknown_column_is_refused_before_anything_is_extracted(refused: Refused) -> None:
    columns = drawn(0)
    message = "controls[1].by: no column 'wrod'; did you mean 'word'?"
    assert refused(lambda: question(columns, [ShuffledLabels(), ControlTask(by="wrod")])) == [("PK-L16", message)]


def test_an_unknown_column_of_positions_is_refused_with_the_nearest_input(refused: Refused) -> None:
    mask = np.ones((9, 4), dtype=int)
    columns = {"part": np.repeat(["train", "valid", "test"], 3), "label": list("ababababa"), "mask": np.zeros(9)}
    inputs = {"tokens": mask, "mask": mask, "pixels": np.zeros((9, 4, 2))}

    def asking(by: str) -> Callable[[], object]:
        return lambda: question(columns, [ControlTask(by=by)], inputs=inputs, mask=mask)

    assert refused(asking("tokns")) == [("PK-L16", "controls[0].by: no column 'tokns'; did you mean 'tokens'?")]
    known = "columns: id, label, mask, part, position, tokens"
    assert refused(asking("pixels")) == [("PK-L16", f"controls[0].by: no column 'pixels'; {known}")]


OTHER = "name another column, or the factors that it is for: factors: [...]"


def useless(**changes: Any) -> dict[str, Any]:
    return {**words(4, 10), **changes}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            useless(word=[*["w"] * 39, "", *["v"] * 80, ]),
            "column 'word' has no value at 1 of 120 labelled rows, the first: '39'; mend the column, or name the "
            "factors that it is for: factors: [...]",
        ),
        (
            useless(word=[*["w"] * 40, *["v"] * 80]),
            "column 'word' has one value only in the training rows of 'class'; name a column with more values",
        ),
        (
            useless(word=np.resize(["x", "x", "x", "y"], 120)),
            f"each label of 'class' has one value of column 'word': the control would be the task; {OTHER}",
        ),
        (
            useless(word=[f"{row}" for row in range(120)]),
            "no test row has a value of column 'word' that is in train, so that no label can be learned; name a "
            "column whose values come again, or use shuffled_labels",
        ),
    ],
    ids=["missing", "one value", "the task itself", "new values"],
)  # fmt: skip
def test_a_column_that_makes_no_control_task_is_refused(refused: Refused, columns: Any, message: str) -> None:
    assert refused(lambda: question(columns, [ControlTask(by="word")])) == [("PK-L28", f"controls[0].by: {message}")]


def test_a_label_that_is_too_common_is_refused(refused: Refused) -> None:
    """Two words, and one of 2,000 labels is another."""
    count = 2000
    label = np.full(3 * count, "a")
    label[[3, count, 2 * count]] = "b"
    columns = {
        "part": np.repeat(["train", "valid", "test"], count),
        "label": label,
        "word": np.resize(list("uvv"), 6000),
    }
    (problem,) = refused(lambda: question(columns, [ControlTask(by="word")]))
    assert problem == (
        "PK-L28",
        "controls[0].by: the values of column 'word' are too few, or one label of 'class' is too common: in 100 draws "
        "the training rows got one label, or their own by other names; name a column with more values",
    )


def test_numbers_that_all_differ_do_not_tell_the_value(refused: Refused) -> None:
    rng = np.random.default_rng(2)
    columns = words(5, 8, snr=rng.standard_normal(120))
    factors: dict[str, LabelFactor] = {"snr": NumberFactor(column="snr")}
    (target,) = question(columns, [ControlTask(by="word")], factors).controls
    assert len(np.unique(target.codes)) == 5
    repeated = {**columns, "snr": np.resize([1.0, 2.0, 4.0], 120)}
    (problem,) = refused(lambda: question(repeated, [ControlTask(by="snr")], factors))
    assert problem[1].startswith("controls[0].by: each label of 'snr' has one value of column 'snr'")


def test_a_word_of_an_unlabelled_row_may_be_missing() -> None:
    columns = words(4, 10)
    columns["label"], columns["word"] = columns["label"].astype(object), columns["word"].astype(object)
    columns["label"][5] = columns["word"][5] = ""
    (target,) = question(columns, [ControlTask(by="word")]).controls
    assert target.codes[5] == -1


def test_the_faults_of_all_controls_are_told_at_once(refused: Refused) -> None:
    columns = useless(one=["w"] * 120)
    controls: list[Control] = [ControlTask(by="one"), ShuffledLabels(), ControlTask(by="id")]
    assert [message.split(":")[0] for _, message in refused(lambda: question(columns, controls))] == [
        "controls[0].by",
        "controls[2].by",
    ]


class Broken(LabelControl):
    """A control of a plugin that gives what a function makes of the true codes."""

    kind: Literal["broken"] = "broken"
    how: str

    def draw(self, target: Target, parts: Any, columns: Any, generator: Any) -> Any:
        """Do what ``how`` says."""
        return {
            "short": lambda codes: codes[:-1],
            "gaps": lambda codes: np.where(np.arange(len(codes)) == 3, -1, codes),
            "unseen": lambda codes: np.where(np.isin(np.arange(len(codes)), target.train), 0, codes),
        }[self.how](target.codes)


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("short", "labels of shape (119,), the factor has (120,)"),
        ("gaps", "labels to other rows than those that have one"),
        ("unseen", "a class that no training row has"),
    ],
)
def test_what_a_plugins_control_gives_is_looked_at(refused: Refused, how: str, what: str) -> None:
    message = f"controls[0]: 'broken' gives 'class' {what}; leave it out"
    assert refused(lambda: question(words(4, 10), [Broken(how=how)])) == [("PK-L28", message)]


# --- beside the true labels -------------------------------------------------------------------------------------------


def test_examples_of_one_content_may_have_two_control_labels() -> None:
    columns = words(4, 10)
    content = np.array([f"{part} {label}" for part, label in zip(columns["part"], columns["label"], strict=True)])
    asked = question(columns, BOTH, inputs={"x": content})
    asked.refuse_duplicates(asked.examples.digests(asked.rows), allow=False)


def test_the_facts_of_a_control_are_its_identity_and_its_baseline() -> None:
    asked = question(words(4, 10), [ShuffledLabels(seed=3), ControlTask(by="word", seeds=2)])
    shuffled, first, second = asked.control_facts()
    (truth,) = asked.truths
    assert shuffled == {
        "factor": "class", "control": "shuffled_labels", "seed": 3, "baseline": asked.label_facts(truth)["baseline"],
    }  # fmt: skip
    assert [(one["control"], one["seed"], one["values"]) for one in (first, second)] == [
        ("control_task by word", 0, 4),
        ("control_task by word", 1, 4),
    ]
    assert first["seen"] == {"train": 1.0, "valid": 1.0, "test": 1.0}
    for target, facts in zip(asked.controls[1:], (first, second), strict=True):
        counts = np.bincount(target.codes[target.train], minlength=2)
        assert facts["baseline"]["train"] == pytest.approx(1 - counts.max() / counts.sum())


def test_controls_count_within_the_rows_that_could_be_read() -> None:
    columns = words(4, 10)
    whole = question(columns, [])
    counts = np.ones(120, dtype=np.int64)
    counts[[0, 50, 100]] = 0
    asked = question(columns, BOTH)
    assert len(asked.controls[0].codes) == 120
    spec = Spec(
        probekit=1, name="x", data=DigitsDataset(), labels={"class": CLASS}, splits=BY_PART, controls=BOTH, reports=[]
    )
    from probekit.data.question import Asked

    labels = {"class": CLASS.label({**whole.examples.columns})}
    left = Asked(spec, whole.examples, labels, whole.parts, whole.rows).question(counts)
    for target in left.targets:
        assert len(target.codes) == 117
        assert len(target.train) == 39
    word = left.column("word")
    task = left.controls[1]
    assert len(set(zip(word.tolist(), task.codes.tolist(), strict=True))) == 4


def test_a_fault_without_a_field_stands_at_the_control(refused: Refused) -> None:
    truth = Target("class", ("a", "b"), np.array([0, 1, 0, 1]), np.arange(2), np.arange(2, 4))
    places = {"train": np.arange(2), "valid": np.arange(2, 4)}
    (problem,) = refused(lambda: make_controls([ShuffledLabels(), Broken(how="short")], [truth], places, {}))
    assert problem[1].startswith("controls[1]: 'broken' gives 'class'")


# --- what a probe reaches ---------------------------------------------------------------------------------------------


def fitted_errors(features: Any, asked: Question, penalty: float) -> dict[tuple[str | None, int], dict[str, float]]:
    """Return the error of a linear probe on each control and on the true labels, by split."""
    probes = LinearProbe(penalty=penalty, device="cpu").fit(
        ArrayMatrix(np.ascontiguousarray(features, np.float32)), asked.targets
    )
    found = {}
    for target, probe in zip(asked.targets, probes, strict=True):
        said = probe.logits(features.astype(np.float32)).argmax(axis=1)
        rows = {split: asked.within(split, target) for split in asked.parts}
        found[target.control, target.seed] = {
            split: float(np.mean(said[part] != target.codes[part])) for split, part in rows.items()
        }
    return found


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Question]:
    """Pixels, and what is asked of them: parity, permuted three times, and a random answer for each digit."""
    groups = {"even": "0, 2, 4, 6, 8", "odd": "1, 3, 5, 7, 9"}
    controls: list[Control] = [ShuffledLabels(seeds=3), ControlTask(by="label", seeds=3)]
    spec = Spec(
        probekit=1, name="x", data=DigitsDataset(), labels={"parity": GroupFactor(groups=groups)},
        splits=Splits(column="half", train="even", valid=ShareOf(of="odd", share=0.3), test="odd"),
        controls=controls, reports=[],
    )  # fmt: skip
    asked = ask(spec).question()
    return (sklearn.datasets.load_digits().images.reshape(-1, 64) / 16)[asked.rows], asked


def test_probes_on_shuffled_labels_reach_chance_on_test_and_no_more(digits: tuple[Any, Question]) -> None:
    found = fitted_errors(*digits, 0.001)
    test_rows = len(digits[1].parts["test"])
    for seed in range(3):
        error = found["shuffled_labels", seed]
        assert binomtest(round(error["test"] * test_rows), test_rows, 0.5).pvalue > 1e-3
        assert found[None, 0]["train"] < error["train"] < 0.5
    # A random answer for each digit is a function of the digit, as parity is: the probe reads both.
    for seed in range(3):
        assert found["control_task by label", seed]["test"] < 0.3


def test_with_more_features_than_rows_a_probe_learns_shuffled_labels_by_heart() -> None:
    rng = np.random.default_rng(5)
    columns = {"part": np.repeat(["train", "valid", "test"], [40, 20, 400]), "label": np.resize(list("ab"), 460)}
    asked = question(columns, [ShuffledLabels()])
    features = rng.standard_normal((460, 120))
    found = fitted_errors(features, asked, 1e-4)
    assert found["shuffled_labels", 0]["train"] == 0
    assert binomtest(round(found["shuffled_labels", 0]["test"] * 400), 400, 0.5).pvalue > 1e-3


def test_a_probe_with_a_feature_for_each_word_learns_its_control_label() -> None:
    columns = words(6, 10)
    asked = question(columns, [ControlTask(by="word")])
    one_hot = (columns["word"][:, None] == np.unique(columns["word"])).astype(np.float64)
    assert fitted_errors(one_hot, asked, 1e-4)["control_task by word", 0] == {"train": 0, "valid": 0, "test": 0}


def test_fits_of_true_labels_are_those_without_controls(digits: tuple[Any, Question]) -> None:
    """All heads share their passes; the certificates bound how far apart two fits can be."""
    features, asked = digits
    alone = replace(asked, targets=asked.truths, told=[])
    with_controls, without = (fitted_errors(features, one, 0.01)[None, 0] for one in (asked, alone))
    for split, error in without.items():
        assert with_controls[split] == pytest.approx(error, abs=0.01)


# --- the section ------------------------------------------------------------------------------------------------------


def test_seeds_stay_within_32_bits() -> None:
    from pydantic import ValidationError

    ShuffledLabels(seed=2**32 - 1)
    with pytest.raises(ValidationError, match="the seeds 4294967295 to 4294967296 go beyond 4294967295"):
        ShuffledLabels(seed=2**32 - 1, seeds=2)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(1, 30), st.integers(0, 40), st.integers(1, 30))
def test_controls_of_one_name_may_not_share_a_seed(seed: int, count: int, other: int, others: int) -> None:
    from pydantic import ValidationError

    controls = [ShuffledLabels(seed=seed, seeds=count), ShuffledLabels(seed=other, seeds=others)]
    fields: dict[str, Any] = {
        "probekit": 1,
        "name": "x",
        "data": DigitsDataset(),
        "labels": {"class": CLASS},
        "reports": [],
    }
    if set(range(seed, seed + count)).isdisjoint(range(other, other + others)):
        paths = [path for path in Spec(**fields, controls=controls).components() if path[0] == "controls"]
        assert paths == [("controls", "0"), ("controls", "1")]
    else:
        with pytest.raises(ValidationError, match=r"'shuffled_labels' with seed \d+ for 'class' stands twice"):
            Spec(**fields, controls=controls)
