"""Redaction: no absolute path, user or host is left, and names of the model and the data stay."""

import doctest
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.report import redaction
from probekit.report.redaction import redact
from probekit.results import FindingRecord, GraphRecord, RunResult, TapRecord

PART = (
    st.text(st.sampled_from("abcdefgXYZ0189_-. é工"), min_size=3, max_size=9)
    .map(str.strip)
    .filter(lambda t: len(t) > 2)
)


def with_provenance(result, **changes):
    return result.model_copy(update={"provenance": {**result.provenance, **changes}})


@pytest.fixture
def result(make, probe, monkeypatch):
    """A run by Ann Lee, whose account is annlee, on a machine called gpu-box7."""
    monkeypatch.setattr(redaction, "_ASKED", (lambda: "annlee", lambda: "gpu-box7"))
    text = (
        "probekit: 1\nmodel: {kind: onnx, path: /home/annlee/nets/m.onnx}\n"
        "data:\n  path: /mnt/big disk/faces\n  root: C:\\Users\\annlee\\x\n"
        "taps: ['/layer1/*', '*/Add_output_0', /layer1/conv]\n"
        "# see https://annlee:secret@host.example/a/b and ~annlee/notes.txt\n"
    )
    made = make([probe("/layer1/conv", 0.1), probe("relu", 0.2)])
    made = made.model_copy(
        update={
            "graph": GraphRecord(
                taps=[
                    TapRecord(
                        model="default", tap="relu", name="/layer1/relu/Relu_output_0", op="Relu", shape=[8],
                        dtype="float32", layout="NC", depth=0,
                    )
                ],
                edges=[],
            ),
            "findings": [
                FindingRecord(
                    kind="made", severity="info", sentence="Read '/home/annlee/a b/x.npy' at /layer1/conv.",
                    evidence={"file": "/srv/data/x.npy", "share": 0.5},
                )
            ],
        }
    )  # fmt: skip
    return with_provenance(
        made,
        command="probekit run '/home/annlee/my specs/s.yaml' --set model.path=/data/big/m.onnx",
        spec={
            "file": "/home/annlee/my specs/s.yaml", "text": text, "settings": ["model.path=/data/big/m.onnx"],
            "digest": "0",
        },
        models={
            "default": {
                "backend": {"kind": "onnx", "path": "/home/annlee/nets/m.onnx"}, "passed_over": {"/layer2/x": "why"},
            }
        },
        store={"path": "/home/annlee/.cache/probekit", "dtype": "float32"},
        skipped={
            "examples": 1,
            "first": {"/mnt/big disk/faces/1.png": "cannot open /mnt/big disk/faces/1.png: annlee may not"},
        },
        warnings=[
            "tap /layer1/conv (pool): 10 rows for 64 features", "left out: /layer2/x", "at 3/4 of km/h on gpu-box7",
        ],
    )  # fmt: skip


def test_examples_in_docstrings_hold():
    assert doctest.testmod(redaction).failed == 0


def test_no_path_user_or_host_is_left(result):
    text = redact(result).to_json()
    for secret in ("annlee", "/home", "/mnt", "/srv", "/data", "big disk", "C:\\\\", "my specs", "secret", "gpu-box7"):
        assert secret not in text


def test_what_is_no_path_stays(result):
    cleared = redact(result)
    assert [one.tap for one in cleared.probes] == ["/layer1/conv", "relu"]
    assert cleared.graph == result.graph
    assert cleared.provenance["warnings"] == [
        "tap /layer1/conv (pool): 10 rows for 64 features", "left out: /layer2/x", "at 3/4 of km/h on USER",
    ]  # fmt: skip
    text = cleared.provenance["spec"]["text"]
    assert "taps: ['/layer1/*', '*/Add_output_0', /layer1/conv]" in text
    assert "https://host.example/a/b" in text
    assert cleared.findings[0].sentence == "Read '…/x.npy' at /layer1/conv."
    assert cleared.findings[0].evidence == {"file": "…/x.npy", "share": 0.5}


def test_the_last_part_of_a_path_stays(result):
    provenance = redact(result).provenance
    assert provenance["command"] == "probekit run '…/s.yaml' --set model.path=…/m.onnx"
    assert provenance["spec"]["file"] == "…/s.yaml"
    assert provenance["models"]["default"]["backend"]["path"] == "…/m.onnx"
    assert provenance["store"]["path"] == "…/probekit"
    assert provenance["redacted"] is True


def test_the_result_given_is_not_changed_and_the_new_one_is_a_result(result):
    before = result.to_json()
    cleared = redact(result)
    assert result.to_json() == before
    assert RunResult.model_validate_json(cleared.to_json()) == cleared
    assert cleared.probes[0].scores == result.probes[0].scores


def test_it_is_the_same_a_second_time(result):
    once = redact(result)
    assert redact(once).to_json() == once.to_json()


def test_remarks_of_fits_are_cleared(make, probe, fit):
    made = make([probe("a", 0.1, fit=fit(0.5, reason="no room in /scratch/me", notes=["see /scratch/me/log"]))])
    record = redact(made).probes[0].fit
    assert (record.reason, record.notes) == ("no room in …/me", ["see …/log"])


def test_classes_that_look_like_paths_stay(make, probe):
    made = make([probe("a", 0.1)])
    labels = {"digit": {**made.provenance["labels"]["digit"], "classes": ["/m/01rs", "/m/02zr"]}}
    cleared = redact(with_provenance(made, labels=labels, warnings=["no example of '/m/01rs' in test"]))
    assert cleared.provenance["labels"] == labels
    assert cleared.provenance["warnings"] == ["no example of '/m/01rs' in test"]


@pytest.mark.parametrize("name", ["root", "test", "ab"])
def test_account_names_that_tell_of_nobody_do_not_eat_the_spec(make, probe, monkeypatch, name):
    monkeypatch.setattr(redaction, "_ASKED", (lambda: name,))
    made = with_provenance(make([probe("a", 0.1)]), warnings=[f"{name} is a word of the text"])
    assert redact(made).provenance["warnings"] == [f"{name} is a word of the text"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(user=PART, folders=st.lists(PART, min_size=1, max_size=3), file=PART, quoted=st.booleans())
def test_wherever_a_path_stands_its_folders_are_gone(make, probe, user, folders, file, quoted):
    path = "/".join(["/home", user, *folders, f"{file}.yaml"])
    made = with_provenance(
        make([probe("a", 0.1)]),
        spec={"file": path, "text": json.dumps({"data": {"path": path}}), "settings": [], "digest": "0"},
        warnings=[f"cannot read {path!r}" if quoted else f"cannot read {path}: why"],
    )
    text = redact(made).to_json()
    assert "/home" not in text
    assert f"/{user}/" not in text
    assert "/".join(folders) + "/" not in text.replace("…/", "")
