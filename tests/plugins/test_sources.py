"""What identifies the files of a plugin, and whose an error is."""

import hashlib
import importlib
import subprocess
import sys

import pytest

from probekit import Plugins
from probekit.isolation import CrashedError
from probekit.plugins import CORE
from probekit.plugins.sources import blamed, digest

FILES = {"pk_pack/__init__": "from pk_pack.inner import f\n", "pk_pack/inner": "def f():\n    return 1\n"}


def load(module):
    importlib.invalidate_caches()
    return importlib.import_module(module)


def by_hand(files: dict[str, bytes]) -> str:
    """Return the digest of files by name: of each its name with the name's length, and the digest of its content."""
    whole = b"".join(
        f"{len(name)}:{name}".encode() + hashlib.blake2b(content, digest_size=16).digest()
        for name, content in sorted(files.items())
    )
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def test_both_kinds_of_installation_have_the_digest_of_the_same_source(site):
    site.add("pk-listed", {"reduction.good": "pk_pack"}, FILES, record=True)
    listed = digest("pk-listed", ["pk_pack"])
    assert listed == by_hand({f"{name}.py": text.encode() for name, text in FILES.items()})
    load("pk_pack")  # which also leaves bytecode there
    assert (site.folder / "pk_pack" / "__pycache__").is_dir() or sys.dont_write_bytecode
    (site.folder / "pk_listed-1.0.dist-info" / "RECORD").unlink()
    assert digest("pk-listed", ["pk_pack"]) == listed
    assert digest("pk-listed", ["pk_pack", "pk_pack.inner"]) == listed


@pytest.mark.parametrize("record", [True, False])
def test_a_changed_file_changes_the_digest_though_its_version_is_the_same(site, record):
    site.add("pk-pack", {"reduction.good": "pk_pack"}, FILES, record=record)
    load("pk_pack")
    before = digest("pk-pack", ["pk_pack"])
    (site.folder / "pk_pack" / "inner.py").write_text("def f():\n    return 2\n")
    assert digest("pk-pack", ["pk_pack"]) != before


def test_a_renamed_file_changes_the_digest(site):
    site.add("pk-pack", {"reduction.good": "pk_pack"}, FILES)
    load("pk_pack")
    (site.folder / "pk_pack" / "data.txt").write_text("x")
    before = digest("pk-pack", ["pk_pack"])
    (site.folder / "pk_pack" / "data.txt").rename(site.folder / "pk_pack" / "other.txt")
    assert digest("pk-pack", ["pk_pack"]) != before


def test_a_single_module_and_a_package_without_a_file_of_its_own(site):
    site.add("pk-one", {"reduction.good": "pk_one"}, {"pk_one": "x = 1\n"})
    site.add("pk-two", {"reduction.fine": "pk_space.two"}, {"pk_space/two": "x = 1\n"})
    load("pk_one")
    load("pk_space.two")
    assert digest("pk-one", ["pk_one"]) == by_hand({"pk_one.py": b"x = 1\n"})
    assert digest("pk-two", ["pk_space.two"]) == by_hand({"pk_space/two.py": b"x = 1\n"})


def test_where_there_is_no_file_there_is_no_digest():
    assert digest("no-distribution-of-this-name", ["no_module_of_this_name"]) is None


def test_probekit_and_the_toy_have_digests():
    Plugins().find("factor", "toy_parity")
    found = {digest(CORE, ["probekit.reductions.pca"]), digest("probekit-toy", ["probekit_toy.data"])}
    assert len(found) == 2
    assert all(len(one) == 32 for one in found)


# --- whose an error is ------------------------------------------------------------------------------------------------

FAULTY = """\
import json

def fail():
    return json.loads("{")

def call(function):
    return function()
"""


def caught(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.fixture
def faulty(site):
    site.add("pk-faulty", {"reduction.good": "pk_faulty"}, {"pk_faulty": FAULTY}, "0.3")
    return load("pk_faulty")


def test_an_error_is_the_plugins_that_the_innermost_call_lies_in(faulty):
    assert str(blamed(caught(faulty.fail))) == "pk-faulty 0.3 (pk_faulty)"  # raised in the standard library, for it
    assert str(blamed(caught(faulty.call, lambda: faulty.fail()))) == "pk-faulty 0.3 (pk_faulty)"


def test_probekits_own_errors_and_those_of_nobody_are_not_the_plugins(faulty):
    from probekit.components import Examples

    assert blamed(caught(faulty.call, lambda: Examples({}).read([0])["x"])) is not None
    assert blamed(caught(faulty.call, lambda: len(Examples({"id": 3})))) is None
    assert blamed(caught(lambda: {}["x"])) is None
    assert blamed(ValueError("never raised")) is None


def test_the_traceback_of_another_process_tells_whose_an_error_is(faulty):
    code = f"import sys; sys.path.insert(0, {faulty.__file__.rsplit('/', 1)[0]!r}); import pk_faulty; pk_faulty.fail()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert str(blamed(CrashedError(done.stderr))) == "pk-faulty 0.3 (pk_faulty)"
