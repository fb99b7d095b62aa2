"""``probekit cache``, and what the command line says of a store that is damaged, foreign or cannot be written."""

import json
import shutil
from pathlib import Path

import pytest

SPEC = """\
probekit: 1
model: {{kind: onnx, path: "{model}"}}
data: {{kind: digits}}
taps: [relu_1, linear]
reduction: {{kind: pool}}
labels: {{digit: {{kind: column, column: label}}}}
splits:
  {{column: half, train: even, valid: {{of: odd, share: 0.3}}, test: odd, limit: {{train: 60, valid: 30, test: 30}}}}
probe: {{kind: linear, penalty: 0.1}}
reports: [json]
store: store
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory, specs) -> Path:
    """A folder with a spec, and a store that a run has filled."""
    from probekit import Plugins, load_spec, run_spec

    folder = tmp_path_factory.mktemp("filled")
    (folder / "s.yaml").write_text(SPEC.format(model=specs / "models" / "digits_convnet.onnx"))
    run_spec(load_spec(folder / "s.yaml", Plugins()), Plugins(), folder / "first")
    return folder


@pytest.fixture
def site(filled, tmp_path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(filled, tmp_path / "site"))


def shards(site: Path) -> list[Path]:
    return sorted((site / "store").glob("features/*/*/*.safetensors"))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


# --- path -------------------------------------------------------------------------------------------------------------


def test_the_path_is_the_options_else_the_variables(main, monkeypatch):
    assert main("cache", "path", "--store", "/a/b") == (0, "/a/b\n", "")
    monkeypatch.setenv("PROBEKIT_STORE", "/c")
    assert main("cache", "path") == (0, "/c\n", "")


def test_the_path_of_a_store_that_is_not_there_is_told_and_nothing_is_made(main, own_store):
    assert main("cache", "path") == (0, f"{own_store}\n", "")
    assert not own_store.exists()


# --- ls ---------------------------------------------------------------------------------------------------------------


def test_every_feature_matrix_has_a_line(main, site):
    code, out, err = main("cache", "ls", "--store", str(site / "store"))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split("  ")[-1] for line in lines[:-1]] == ["linear (flatten)", "relu_1 (default)"]
    assert "120 x 64 float32" in lines[0]
    assert lines[-1].startswith("2 feature matrices, 45.")


def test_the_list_in_json_says_the_same(main, site):
    code, out, _ = main("cache", "ls", "--json", "--store", str(site / "store"))
    assert code == 0
    found = json.loads(out)
    assert [(one["label"], one["rows"], one["width"], one["ranges"]) for one in found] == [
        ("linear (flatten)", 120, 64, 1), ("relu_1 (default)", 120, 32, 1)
    ]  # fmt: skip
    assert sum(one["bytes"] for one in found) == sum(path.stat().st_size for path in shards(site))


def test_an_empty_store_lists_nothing(main, own_store):
    assert main("cache", "ls") == (0, "0 feature matrices, 0 B\n", "")


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_sound_store_is_told_to_be_sound(main, site):
    assert main("cache", "verify", "--store", str(site / "store")) == (0, "the store is sound\n", "")


def test_a_flipped_bit_is_found_and_set_aside(main, site):
    damaged = shards(site)[0]
    flip_a_bit(damaged)
    code, out, err = main("cache", "verify", "--store", str(site / "store"))
    assert (code, out) == (0, "1 file is not what was written\n")
    assert err.startswith(f"warning PK-R17 {damaged.relative_to(site / 'store')}: ")
    assert damaged not in shards(site)
    assert len(list((site / "store" / "quarantine").iterdir())) == 1


# --- gc ---------------------------------------------------------------------------------------------------------------


def test_what_is_in_use_is_kept(main, site):
    before = shards(site)
    assert main("cache", "gc", "--store", str(site / "store")) == (0, "removed 0 files, 0 B\n", "")
    assert shards(site) == before


def test_what_was_not_used_for_so_long_goes_on_request(main, site):
    store = str(site / "store")
    code, out, _ = main("cache", "gc", "--older-than", "0", "--dry-run", "--store", store)
    assert (code, out[:21]) == (0, "would remove 3 files,")
    assert len(shards(site)) == 2
    code, out, _ = main("cache", "gc", "--older-than", "0", "--store", store)
    assert (code, out[:16]) == (0, "removed 3 files,")
    assert shards(site) == []
    assert main("cache", "gc", "--older-than", "30", "--store", store)[1] == "removed 0 files, 0 B\n"


def test_a_folder_that_is_no_store_is_left_alone(main, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    assert main("cache", "gc", "--older-than", "0", "--store", str(tmp_path))[0] == 0
    assert (tmp_path / "precious.txt").read_text() == "mine"


# --- runs over a store that is not as it should be --------------------------------------------------------------------


def run(main, site: Path, *arguments: str) -> tuple[int, str, str]:
    return main("run", str(site / "s.yaml"), "-o", str(site / "out"), "-q", "--in-process", *arguments)


def result(folder: Path) -> list[dict[str, object]]:
    found = json.loads((folder / "results.json").read_text())
    return [{name: value for name, value in probe.items() if name != "seconds"} for probe in found["probes"]]


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty", "longer", "gone", "swapped"])
def test_damaged_features_are_extracted_again_with_a_warning(main, site, damage):
    first, second = shards(site)
    if damage == "a bit":
        flip_a_bit(first)
    elif damage == "swapped":
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
    elif damage == "gone":
        first.unlink()
    else:
        content = first.read_bytes()
        first.write_bytes({"cut": content[:100], "empty": b"", "longer": content + b"x"}[damage])
    code, _, err = run(main, site)
    assert code == 0, err
    assert result(site / "out") == result(site / "first")
    provenance = json.loads((site / "out" / "results.json").read_text())["provenance"]
    assert any("extracted again" in text for text in provenance["warnings"])


def test_a_store_of_a_later_version_is_refused_and_left_as_it_is(main, site):
    marker = site / "store" / "probekit-store.json"
    marker.write_text('{"format": 99}\n')
    before = shards(site)
    for command in (
        ["run", str(site / "s.yaml")],
        ["plan", str(site / "s.yaml")],
        ["cache", "gc", "--store", str(site / "store")],
    ):
        code, _, err = main(*command)
        assert code == 4
        assert "PK-R18" in err
    assert shards(site) == before
    assert marker.read_text() == '{"format": 99}\n'


def test_a_store_that_cannot_be_made_ends_with_4(main, site):
    (site / "file").write_text("a file")
    code, out, err = run(main, site, "--set", f"store={site / 'file'}")
    assert (code, out) == (4, "")
    assert "PK-R13" in err
    assert str(site / "file") in err
