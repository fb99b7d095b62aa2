"""Opening a run directory, and what is said where it is none."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.errors import InputError
from probekit.report.saved_run import open_run


@pytest.fixture
def run(tmp_path, make, probe):
    """A run directory with a result, below a folder of runs."""
    folder = tmp_path / "runs" / "digits"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(make([probe("a", 0.1), probe("b", 0.2)]).to_json(), encoding="utf-8")
    return folder


def problems(path):
    with pytest.raises(InputError) as caught:
        open_run(path)
    return caught.value.problems


def codes(path):
    """Return the codes of what is wrong, none where it opens."""
    try:
        open_run(path)
    except InputError as error:
        return {problem.code for problem in error.problems}
    return set()


def changed(run, change):
    """Apply a function to the values of the file and write it anew."""
    path = run / "results.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_a_run_is_opened_by_its_directory_or_its_file(run, make, probe):
    result = make([probe("a", 0.1), probe("b", 0.2)])
    assert open_run(run) == open_run(str(run)) == open_run(run / "results.json") == result


def test_a_misspelt_run_is_answered_with_the_nearest(run):
    (problem,) = problems(run.with_name("digit"))
    assert problem.code == "PK-X40"
    assert problem.hint == "did you mean 'digits'?"


def test_a_folder_of_runs_names_them(run):
    (problem,) = problems(run.parent)
    assert (problem.code, problem.hint) == ("PK-X40", "it holds the runs digits; name one")


def test_an_empty_folder_says_what_to_type(tmp_path):
    (problem,) = problems(tmp_path)
    assert (problem.code, problem.hint) == ("PK-X40", "type: probekit run SPEC -o DIR")


def test_a_run_that_has_not_ended_is_told_from_a_foreign_folder(tmp_path):
    (tmp_path / "fits").mkdir()
    (problem,) = problems(tmp_path)
    assert "at work or was stopped" in problem.what
    assert "goes on where it was" in problem.hint


def test_a_name_that_no_file_can_have_is_no_run(tmp_path):
    assert problems(tmp_path / ("x" * 5000))[0].code == "PK-X40"


def test_a_cut_file_has_its_line_and_column(run):
    path = run / "results.json"
    text = path.read_text(encoding="utf-8")
    half = text[: len(text) // 2]
    path.write_text(half, encoding="utf-8")
    (problem,) = problems(run)
    assert (problem.code, problem.file) == ("PK-X41", str(path))
    assert 1 < problem.line <= half.count("\n") + 1
    assert problem.column


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no JSON from here on"),
        (b'{"name": "\xff"}', "byte 10 is no UTF-8"),
        (b'{"schema_version": 1, "x": NaN}', "NaN is no JSON"),
        (b"[" * 100_000, "no result"),
        (b"[]", "valid dictionary"),
    ],
)
def test_what_is_no_result_is_damaged(run, content, text):
    (run / "results.json").write_bytes(content)
    found = problems(run)
    assert {problem.code for problem in found} == {"PK-X41"}
    assert text in str(found[0])
    assert all("run the spec again" in problem.hint for problem in found)


@pytest.mark.parametrize("version", [2, 99])
def test_a_later_version_is_refused_before_its_fields_are_read(run, version):
    changed(run, lambda data: data.update(schema_version=version, news=[1]))
    (problem,) = problems(run)
    assert problem.code == "PK-X42"
    assert f"schema version {version}, where this one reads 1" in problem.what
    assert "pip install --upgrade probekit-platform" in problem.hint


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        (lambda data: data["probes"][1].update(penalty="much"), "probes.1.penalty", "here text 'much'"),
        (lambda data: data["probes"][0].pop("tap"), "probes.0.tap", "required"),
        (lambda data: data.update(more=1), "more", "not permitted"),
        (lambda data: data.update(schema_version=0), "schema_version", "here the number 0"),
        (lambda data: data["provenance"].pop("labels"), "provenance.labels", "is not there"),
        (lambda data: data["provenance"]["labels"].clear(), "provenance.labels.digit", "no rows and baseline"),
        (lambda data: data["probes"][0]["scores"]["error"].pop("test"), "probes.0.scores", "no error on train, valid"),
    ],
)
def test_what_does_not_fit_has_its_field(run, change, field, text):
    changed(run, change)
    found = problems(run)
    assert (found[0].code, found[0].field) == ("PK-X41", field)
    assert text in found[0].what


def test_of_many_faults_three_are_told(run):
    changed(run, lambda data: [data["probes"][0].pop(name) for name in ("tap", "seed", "model", "probe", "task")])
    assert len(problems(run)) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(place=st.floats(0, 1), junk=st.binary(max_size=8))
def test_whatever_is_changed_it_is_read_or_told(run, place, junk):
    whole = (run / "results.json").read_bytes()
    start = int(place * len(whole))
    (run / "results.json").write_bytes(whole[:start] + junk + whole[start + len(junk) :])
    try:
        assert codes(run) <= {"PK-X41", "PK-X42"}
    finally:
        (run / "results.json").write_bytes(whole)
