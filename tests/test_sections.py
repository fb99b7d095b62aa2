"""What sections and components are made of: names, paths, identity, lookup by kind."""

import pickle
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from probekit import Backend, InputError, Reduction, SpecPath, runtime_option
from probekit.components import InputBinding, ModelOutput
from probekit.errors import UnknownKindError
from probekit.plugins import Plugins, installed_providers
from probekit.sections import Component, Name, Pluggable, Section, SpecContext, expand_path, fault

NAMES = TypeAdapter(Name)
PATHS = TypeAdapter(SpecPath)


class Pick(Reduction):
    """A reduction as a third party writes it."""

    kind: Literal["pick"] = "pick"
    features: int = Field(3, description="how many")
    file: SpecPath | None = Field(None, description="where from")
    threads: int = runtime_option(1, "how fast", ge=1)

    def program(self, tap):
        return ()


class Kinds:
    """A lookup with one kind of reduction."""

    def find(self, category: str, kind: str) -> type[Component]:
        if (category, kind) == ("reduction", "pick"):
            return Pick
        raise UnknownKindError(f"no {category} {kind}", "take pick", "PK-Y31")

    def kinds(self, category: str) -> list[str]:
        return ["pick"] if category == "reduction" else []


class Holder(Section):
    """A section with components."""

    one: Annotated[Reduction, Pluggable("reduction")] | None = Field(None, description="one")
    short: Annotated[Reduction, Pluggable("reduction", bare=True)] | None = Field(None, description="by name too")


def errors(call, *arguments: Any, **options: Any):
    with pytest.raises(ValidationError) as refused:
        call(*arguments, **options)
    return [
        (e["type"], e["loc"], e.get("ctx", {}).get("what"), e.get("ctx", {}).get("hint"))
        for e in refused.value.errors()
    ]


# --- names and paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 80, "...", "COM", "console", "nul-1", "-"])
def test_a_name_is_kept_as_it_is(name):
    assert NAMES.validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "a b", "é", "a\n", "a\0", "x" * 81, "CON", "con.txt", "nul", "LPT9", "com1.a.b"],
)
def test_a_name_that_no_file_could_have_is_refused(name):
    [(code, _, what, hint)] = errors(NAMES.validate_python, name)
    assert code == "PK-Y28"
    assert what.endswith("is not a name")
    assert hint == "a name has 1 to 80 of A-Z a-z 0-9 . _ -"


@given(st.text())
def test_a_name_can_always_be_a_files(text):
    try:
        name = NAMES.validate_python(text)
    except ValidationError:
        return
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,80}", name)
    assert Path("folder", name).name == name


def test_a_path_without_a_spec_starts_from_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PK_TEST_FOLDER", "/data")
    assert PATHS.validate_python("a/../b") == str(tmp_path / "b")
    assert PATHS.validate_python("${PK_TEST_FOLDER}/b") == "/data/b"
    assert Pick(file="x.npy").file == str(tmp_path / "x.npy")


def test_a_path_in_a_spec_starts_from_its_folder():
    context = SpecContext(Kinds(), Path("/specs"), {"D": "data"})
    assert PATHS.validate_python("${D}/a", context=context) == "/specs/data/a"


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_a_path_is_not_empty_and_holds_no_nul(text):
    assert errors(PATHS.validate_python, text) == [("PK-Y28", (), f"{text!r} is not a path", "")]


@pytest.mark.parametrize(
    ("text", "environ", "code", "what"),
    [
        ("${A}", {}, "PK-Y33", "the variable ${A} in '${A}' is not set"),
        ("${A}", {"A": ""}, "PK-Y33", "the variable ${A} in '${A}' is empty"),
        ("x/${A:-}${B}", {}, "PK-Y33", "the variable ${B} in 'x/${A:-}${B}' is not set"),
        ("${A", {"A": "a"}, "PK-Y28", "'${A' holds a '${' that begins no variable"),
        ("${}", {}, "PK-Y28", "'${}' holds a '${' that begins no variable"),
        ("${1}", {"1": "a"}, "PK-Y28", "'${1}' holds a '${' that begins no variable"),
        ("${A:-${B}}", {"B": "b"}, "PK-Y28", "'${A:-${B}}' holds a '${' that begins no variable"),
        ("${A-b}", {"A": "a"}, "PK-Y28", "'${A-b}' holds a '${' that begins no variable"),
        ("~no-such-user/a", {}, "PK-Y28", "'~no-such-user/a' begins with the home folder of an unknown user"),
    ],
)
def test_a_path_with_a_hole_is_refused(text, environ, code, what):
    with pytest.raises(PydanticCustomError) as refused:
        expand_path(text, Path("/f"), environ)
    assert (refused.value.type, refused.value.context["what"]) == (code, what)


def test_lenience_keeps_a_variable_that_is_not_set():
    assert expand_path("${A}/${B}", Path("/f"), {"B": "b"}, lenient=True) == "/f/${A}/b"


@given(st.text("ab./~ $", min_size=1))
def test_a_path_is_always_absolute_and_never_expanded_twice(text):
    try:
        path = expand_path(text, Path("/f"), {})
    except PydanticCustomError:
        assert text.startswith("~")
        return
    assert Path(path).is_absolute()
    assert expand_path(path, Path("/other"), {}) == path


# --- sections and components ------------------------------------------------------------------------------------------


def test_a_section_converts_nothing_knows_its_keys_and_is_frozen():
    assert errors(Pick, features="3")[0][0] == "int_type"
    assert errors(Pick, features=True)[0][0] == "int_type"
    assert errors(Pick, colour=1)[0][:2] == ("extra_forbidden", ("colour",))
    with pytest.raises(ValidationError, match="frozen"):
        Pick().features = 4


def test_a_component_pickles_and_is_equal_by_its_fields():
    one = Pick(features=7)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one != Pick(features=8)
    assert Pick.kind_name() == "pick"
    assert one.code_to_trust() is None


def test_the_identity_holds_what_shapes_values_and_the_version():
    assert Pick(features=4, threads=8).identity() == {"version": 1, "kind": "pick", "features": 4, "file": None}
    assert Pick(threads=1).identity() == Pick(threads=2).identity()
    assert Pick(features=1).identity() != Pick(features=2).identity()

    class Second(Pick):
        """The same fields, another meaning."""

        version = 2

    assert Second().identity() == {**Pick().identity(), "version": 2}


def test_every_built_in_component_tells_its_identity_by_its_declared_fields():
    plugins = Plugins(installed_providers(autoload=False))
    options = {}
    for provider in plugins.providers:
        if provider.category == "finding":  # a function, not a section of the spec
            continue
        component = plugins.find(provider.category, provider.kind)
        fields = component.model_fields
        options[provider.kind] = {
            name
            for name, info in fields.items()
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("shapes_values") is False
        }
        assert all(info.description for name, info in fields.items() if name != "kind"), component
    assert options["onnx"] == {"batch_size", "providers", "path", "output", "checkpoints"}
    assert {"batch_size", "device", "output", "checkpoints"} <= options["torch"]
    assert options["images"] == options["digits"] == {"on_bad_input", "workers"}
    assert options["pool"] == options["column"] == set()


class Located(Backend):
    """A backend as a third party writes it: files in every place where a path can stand."""

    kind: Literal["located"] = "located"
    file: SpecPath = Field(description="where it is")
    table: SpecPath | None = Field(None, description="or nowhere")
    parts: dict[str, list[SpecPath]] = Field(default_factory=dict, description="many")
    precision: str = Field("full", description="of the sums")

    def signature(self):
        raise NotImplementedError

    def graph(self, example=None):
        raise NotImplementedError

    def open(self, taps):
        raise NotImplementedError

    def fingerprint(self):
        return "f"


def test_the_identity_of_a_model_holds_no_place_and_no_question():
    own = {"version": 1, "kind": "located", "inputs": {}, "precision": "full"}
    assert Located(file="/a").identity() == own
    moved = Located(
        file="/b", table="/c", parts={"x": ["/d"]}, batch_size=2, output=ModelOutput(factor="f"),
        checkpoints={"late": "/e"},
    )  # fmt: skip
    assert moved.identity() == own
    assert Located(file="/a", precision="half").identity() == {**own, "precision": "half"}


def test_what_an_input_is_fed_is_part_of_a_models_identity():
    fed = Located(file="/a", inputs={"x": InputBinding(value=3)})
    assert fed.identity()["inputs"]["x"]["value"] == 3


def test_a_model_that_knows_no_better_tells_its_taps_by_the_whole_of_it():
    assert Located(file="/a").tap_fingerprints(["x", "y"]) == {"x": "f:x", "y": "f:y"}


def test_a_model_that_takes_no_checkpoints_says_so():
    with pytest.raises(InputError) as refused:
        Located(file="/a").with_checkpoint("/b/2.pt")
    message = (
        "model.checkpoints: a model of kind 'located' takes no checkpoints, got '/b/2.pt'; "
        "name several models: models: {NAME: ...}"
    )
    assert [(problem.code, str(problem)) for problem in refused.value.problems] == [("PK-M55", message)]


# --- components in sections -------------------------------------------------------------------------------------------

CONTEXT = SpecContext(Kinds(), Path("/specs"), {})


def load(**fields: Any) -> Holder:
    return Holder.model_validate(fields, context=CONTEXT)


def test_a_component_is_made_by_the_class_that_its_kind_names():
    held = load(one={"kind": "pick", "features": 5, "file": "a"})
    assert held.one == Pick(features=5, file="/specs/a")
    assert load(short="pick").short == load(short={"kind": "pick"}).short == Pick()


def test_a_component_that_is_made_already_needs_no_context():
    pick = Pick(features=2)
    assert Holder(one=pick).one is pick
    assert Holder(one=pick).model_dump()["one"]["features"] == 2


def test_plain_values_need_a_context():
    with pytest.raises(TypeError, match="SpecContext"):
        Holder(one={"kind": "pick"})


@pytest.mark.parametrize(
    ("fields", "code", "place", "what", "hint"),
    [
        ({"one": 3}, "PK-Y04", ("one",), "expected a mapping with a 'kind:', got the number 3", "installed: pick"),
        (
            {"one": "pick"},
            "PK-Y04",
            ("one",),
            "expected a mapping with a 'kind:', got text 'pick'",
            "write {kind: pick}",
        ),
        ({"one": []}, "PK-Y04", ("one",), "expected a mapping with a 'kind:', got an empty list", "installed: pick"),
        (
            {"short": 3},
            "PK-Y04",
            ("short",),
            "expected a kind or a mapping with one, got the number 3",
            "installed: pick",
        ),
        ({"one": {}}, "PK-Y31", ("one", "kind"), "is missing", "installed: pick"),
        ({"one": {"kind": None}}, "PK-Y31", ("one", "kind"), "is missing", "installed: pick"),
        ({"one": {"kind": 3}}, "PK-Y04", ("one", "kind"), "expected text, got the number 3", "installed: pick"),
        ({"one": {"kind": "pock"}}, "PK-Y31", ("one", "kind"), "no reduction pock", "take pick"),
        ({"short": "pock"}, "PK-Y31", ("short", "kind"), "no reduction pock", "take pick"),
    ],
)
def test_what_names_no_component_is_refused(fields, code, place, what, hint):
    assert errors(load, **fields) == [(code, place, what, hint)]


def test_the_faults_of_a_component_keep_their_places():
    [(kind, place, _, _)] = errors(load, one={"kind": "pick", "features": "x"})
    assert (kind, place) == ("int_type", ("one", "features"))


def test_a_fault_carries_its_code_and_hint():
    error = fault("PK-Y29", "a {brace} stays", "do this")
    assert (error.type, error.message()) == ("PK-Y29", "a {brace} stays")
    assert error.context == {"what": "a {brace} stays", "hint": "do this"}
