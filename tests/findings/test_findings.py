"""All built-in findings together: whatever a result holds, each finds something or nothing, and says it plainly."""

import importlib
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.findings.paths import paths_of
from probekit.plugins import FINDINGS, SEVERITIES, Plugins, RunHooks, installed_providers
from probekit.results import CertificateRecord, FindingRecord, RunResult

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
TAPS = ["in", "a", "b", "c", "aux", "out"]
EDGES = [("in", "a"), ("a", "b"), ("in", "c"), ("b", "c"), ("a", "aux"), ("c", "out")]


@pytest.fixture(scope="module")
def plugins():
    return RunHooks(Plugins(installed_providers(autoload=False)))


def drawn(builders, fit, chance):
    """Return probes at some taps, of some reductions and controls, with any scores and certificates."""
    found = []
    for factor, builder in builders.items():
        for reduction in ("pool", "flatten")[: chance.randint(1, 2)]:
            for control in (None, "shuffled_labels", "control_task by w")[: chance.randint(1, 3)]:
                for tap in chance.sample(TAPS, chance.randint(0, len(TAPS))):
                    gap = chance.choice([None, 1e-3])
                    status = chance.choice(["proven", "proven", "missed", "not_applicable"])
                    record = CertificateRecord(status=status, gap=gap, of_chance=gap, of_objective=None)
                    scores = chance.choices([0.0, 0.1, 0.5, 0.88, 0.9, 0.95, 1.0], k=3)
                    changes = {"reduction": reduction, "control": control, "certificate": record, "factor": factor}
                    end = fit(end=chance.choice([None, "smallest", "largest"]))
                    changes["features_constant"] = chance.random() < 0.1
                    found.append(builder(tap, *scores, fit=end, **changes))
    return sorted(found, key=lambda one: TAPS.index(one.tap))


def judged(probes, step, told, chance):
    """Return steps, information and a graph for probes, drawn too."""
    steps, information = [], []
    for one in [one for one in probes if one.control is None]:
        whose = {"factor": one.factor, "reduction": one.reduction}
        answer = chance.choice(["yes", "no", "cannot_tell", ""])
        information += [told(one.tap, answer, **whose)] if answer else []
        metric = "error" if one.factor == "digit" else "r2"
        steps += [
            step(a, b, chance.choice([-0.1, 0.1]), chance.choice([1e-4, 0.5]), metric=metric, **whose)
            for a, b in EDGES
            if b == one.tap
        ]
    edges = chance.choice([[], EDGES])
    return {"steps": steps, "information": information, "edges": edges, "taps": TAPS, "inputs": ["in"]}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_nothing_raises_and_all_can_be_saved(make, probe, number, step, told, own, fit, plugins, seed):
    chance = random.Random(seed)
    some = drawn({"digit": probe, "snr": number}, fit, chance)
    result = make(some, **judged(some, step, told, chance), own=chance.choice([[], [own(0.2)]]))
    found = plugins.findings(result)
    ranks = [SEVERITIES.index(one.severity) for one in found]
    assert ranks == sorted(ranks)
    order = paths_of(result, "default").order
    for one in found:
        assert one.sentence.isprintable()
        assert not one.sentence[0].islower()
        assert one.sentence.endswith(".")
        assert "  " not in one.sentence
        assert one.taps == sorted(one.taps, key=order.index)
    whole = result.model_copy(update={"findings": found})
    assert RunResult.model_validate_json(whole.to_json()).findings == found


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_what_a_missed_probe_scores_changes_no_finding(make, probe, number, step, told, own, fit, plugins, seed):
    chance = random.Random(seed)
    builders = {"digit": probe, "snr": number}
    some = drawn(builders, fit, chance)
    others = []
    for one in some:
        other = builders[one.factor](one.tap, *chance.choices([0.0, 0.2, 0.5, 0.93, 1.0], k=3))
        scores = {name: getattr(other, name) for name in ("scores", "error", "intervals", "by_label")}
        others.append(one.model_copy(update=scores) if one.certificate.status == "missed" else one)
    beside = {**judged(some, step, told, chance), "own": chance.choice([[], [own(0.2)]])}
    assert plugins.findings(make(some, **beside)) == plugins.findings(make(others, **beside))


def test_the_page_has_a_heading_for_each_finding():
    headings = re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    assert sorted(headings[:-1]) == sorted(FINDINGS)
    assert headings[-1] == "Findings of your own"


def test_each_module_has_one_finding_and_says_what_it_does():
    folder = ROOT / "probekit" / "findings"
    helpers = {"__init__", "differences", "paths", "series", "wording"}
    assert {path.stem for path in folder.glob("*.py")} - helpers == set(FINDINGS)
    for name in FINDINGS:
        module = importlib.import_module(f"probekit.findings.{name}")
        assert module.__doc__
        assert module.find.__doc__


def test_the_example_of_the_page_works(make, probe):
    (example,) = re.findall(r"```python\n(.+?)```", PAGE, flags=re.DOTALL)
    names = {}
    exec(compile(example, "docs/findings.md", "exec"), names)
    assert names["find"](make([probe("a", 0.1)])) == []
    (found,) = names["find"](make([probe("a", 0.1, features_used=20_000)]))
    assert isinstance(found, FindingRecord)
    assert found.sentence == "1 probes have more than 10,000 features."


def test_findings_of_a_result_of_numbers_alone_are_strict_json(make, number, plugins):
    result = make([number("a", 0.5, intervals={}), number("b", 0.5, intervals={}), number("c", 0.5, intervals={})])
    found = plugins.findings(result)
    text = result.model_copy(update={"findings": found}).to_json()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word))["findings"]
