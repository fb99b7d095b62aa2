"""Checks of what every component is: one section of a spec and the thing that it configures."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Literal, get_origin

import pytest
from pydantic import ValidationError

from probekit.errors import UnknownKindError
from probekit.plugins import Plugins
from probekit.testing.checks import expect, no_crash, storable

if TYPE_CHECKING:
    from probekit.sections import Component


class ComponentConformance:
    """What any component must hold to; each category's class adds its own."""

    @pytest.fixture
    def component(self) -> Component:
        """The component; a category's class takes it from the fixture of its own name."""
        raise NotImplementedError("override the fixture that gives the component")

    def test_kind_is_declared_and_found(self, component: Component) -> None:
        """A spec's ``kind: NAME`` gives this class, from the entry points of what is installed.

        Without the entry point no spec can name it; with another class under the same name, runs use that one.
        """
        made, category = type(component), type(component).category
        expect(
            get_origin(made.model_fields["kind"].annotation) is Literal,
            f"{made.__name__}.kind is {made.model_fields['kind'].annotation}",
            'write kind: Literal["name"] = "name"',
        )
        name, line = f"{category}.{component.kind}", f'"{category}.{component.kind}" = "{made.__module__}"'
        todo = f"put {line} under [project.entry-points.probekit] and type: pip install -e ."
        try:
            found = Plugins().find(category, component.kind)
        except UnknownKindError as error:
            raise AssertionError(f"no installed distribution declares {name}; {todo}") from error
        expect(found is made, f"{name} is {found.__module__}.{found.__qualname__}, not {made.__module__}", todo)

    def test_every_field_is_described(self, component: Component) -> None:
        """Each field has a description, and the class a docstring: the reference of a spec's keys is made of them."""
        own = {name: info for name, info in type(component).model_fields.items() if name != "kind"}
        bare = [name for name, info in own.items() if not info.description]
        expect(not bare, f"the fields {bare} have no description", 'write Field(default, description="...")')
        expect(type(component).__doc__, f"{type(component).__name__} has no docstring", "say in a line what it is")

    def test_a_component_is_closed_and_frozen(self, component: Component) -> None:
        """An unknown key is refused, and no field can be set: a spec's typing error must not pass in silence, and what
        identifies features must not change while a run uses it.
        """
        todo = "leave model_config as the base class has it: extra='forbid', frozen=True"
        values = {**component.model_dump(), "no_such_key": 1}
        expect(_refuses(lambda: type(component).model_validate(values)), "the key 'no_such_key' is accepted", todo)
        expect(_refuses(lambda: setattr(component, "kind", component.kind)), "the field 'kind' can be set", todo)

    def test_a_component_pickles(self, component: Component) -> None:
        """It survives pickling, and a process that imports its module can read it: extraction runs in a process of
        its own.
        """
        todo = "keep plain values in the fields; what open() makes belongs to what it returns"
        with no_crash("pickling the component", todo):
            again = pickle.loads(pickle.dumps(component))  # noqa: S301 - our own bytes
        expect(again == component, f"unpickled it is {again!r}, not {component!r}", todo)
        identity = in_another_process(component, "identity")
        expect(
            identity == repr(component.identity()),
            f"in another process its identity is {identity}, here {component.identity()}",
            "identity() must depend on the fields alone",
        )

    def test_the_identity_leaves_runtime_options_out(self, component: Component) -> None:
        """``identity()`` is plain and holds no ``runtime_option``: it goes into the keys of stored features and fits,
        and another batch size must not make them anew.
        """
        identity = component.identity()
        expect(storable(identity), f"identity() is {identity!r}", "return what JSON can hold, without NaN")
        options = {
            name
            for name, info in type(component).model_fields.items()
            if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("shapes_values") is False
        }
        found = sorted(options & identity.keys())
        expect(not found, f"identity() holds the runtime options {found}", "call super().identity()")
        expect("kind" in identity and "version" in identity, f"identity() is {identity}", "call super().identity()")


def _refuses(call: Any) -> bool:
    try:
        call()
    except (ValidationError, TypeError):
        return True
    return False


_CODE = "import pickle, sys; name, it = pickle.load(sys.stdin.buffer); print(repr(getattr(it, name)()), end='')"


def in_another_process(component: Component, method: str) -> str:
    """Return the ``repr`` of what a method gives in a process of its own, where hashes of text differ.

    Raises:
        AssertionError: the process cannot unpickle the component, or the method fails there.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "20260101"}
    content = pickle.dumps((method, component))
    done = subprocess.run([sys.executable, "-c", _CODE], input=content, capture_output=True, env=environ, check=False)  # noqa: S603
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    todo = "define the class at the top of a module that can be imported, and keep its state in its fields"
    expect(done.returncode == 0, f"in another process {method}() fails: {''.join(last)}", todo)
    return done.stdout.decode()
