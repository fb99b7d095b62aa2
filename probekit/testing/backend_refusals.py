"""Checks of what a backend refuses: with a code, the offending name and the nearest one, never with a crash."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from probekit.components import Examples
from probekit.features.runner import Runner
from probekit.testing.checks import absent_beside, expect, expect_named, path_fields, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from probekit.components import Array, Backend
    from probekit.testing.fed import FedBackend


class RefusalChecks:
    """What is refused, and how."""

    def test_a_tap_that_does_not_exist_is_refused(self, fed: FedBackend) -> None:
        """``open`` of an unknown tap raises a UserError with a code, the name and the nearest tap.

        A spec's taps are looked up in the graph, but a plugin's or a notebook's come straight to ``open``.
        """
        near = max((name for name in fed.names), key=len)
        request = f"a tap {near + 'x'!r}, which does not exist,"
        todo = "begin open with self.graph().require(taps), or raise PK-M26 with the nearest name"

        def ask() -> object:
            with fed.backend.open([f"{near}x"]) as run:
                return run(fed.feed())

        error = refusal(ask, request, todo)
        expect_named(error, f"{near}x", request, todo)
        known = [tap.name for tap in fed.graph.taps if f"'{tap.name}'" in str(error)]
        expect(known, f"{request} is refused with {str(error)!r}, which names no tap that there is", todo)

    def test_a_file_that_is_missing_is_refused(self, fed: FedBackend) -> None:
        """A file that is not there raises a UserError with a code, the path and the nearest name in its folder,
        whatever is asked of the model first.
        """
        files = _files(fed.backend)
        todo = "raise InputError(absent_file(path, field)): it names the nearest file"
        for field, path in files.items():
            absent = absent_beside(path)
            backend = fed.backend.model_copy(update={field: str(absent)})
            request = f"the absent {field} {str(absent)!r}"
            for error in (
                refusal(backend.fingerprint, f"{request} (fingerprint)", todo),
                refusal(partial(backend.graph, fed.feed()), f"{request} (graph)", todo),
                refusal(partial(_open, backend, fed), f"{request} (open)", todo),
            ):
                expect_named(error, absent.name, request, todo)
                expect_named(error, repr(path.name), request, todo)

    def test_a_file_that_is_damaged_is_refused(self, fed: FedBackend, tmp_path: Path) -> None:
        """A file that is empty, cut off or something else raises a UserError with a code that names it.

        Downloads break off; a traceback out of a file format's library helps nobody.
        """
        todo = "catch what the format's reader raises, and raise InputError(Problem('PK-M02', ...)) with the path"
        for field, path in _files(fed.backend).items():
            content = path.read_bytes()
            for how, some in (("empty", b""), ("cut-off", content[: len(content) // 2]), ("text", b"no model\n" * 9)):
                broken = tmp_path / f"{how}{path.suffix}"
                broken.write_bytes(some)
                request = f"a {field} that is {how}"
                backend = fed.backend.model_copy(update={field: str(broken)})
                error = refusal(partial(_open, backend, fed), request, todo)
                expect_named(error, broken.name, request, todo)

    def test_an_input_that_is_missing_is_refused(self, fed: FedBackend, batch: Mapping[str, Array]) -> None:
        """A dataset that lacks an input of the model is refused with the input's name, before anything runs.

        ``signature`` tells what a model must be fed; an input that it leaves out ends in a crash of the runtime.
        """
        todo = "name in signature() every input that the model must be fed"
        for name in batch:
            others = {key: array for key, array in batch.items() if key != name}
            request = f"data without the input {name!r}"

            def ask(given: dict[str, Array] = others) -> object:
                columns = {"id": np.arange(len(fed.rows)).astype(str)}
                runner = Runner(fed.backend, Examples(columns, given))
                feed = runner.read(fed.rows[: fed.most]).feed
                with fed.backend.open(fed.names) as run:
                    return run(feed)

            error = refusal(ask, request, todo)
            sources = [one for one, source in fed.runner.sources.items() if source == name]
            told = any(sign in str(error) for one in [*sources, name] for sign in (repr(one), f"inputs.{one}"))
            expect(told, f"{request} is refused with {str(error)!r}, which does not say {name!r}", todo)


def _files(backend: Backend) -> dict[str, Path]:
    files = {name: path for name, path in path_fields(backend).items() if path.is_file()}
    if not files:
        pytest.skip("no field of the backend names a file")
    return files


def _open(backend: Backend, fed: FedBackend) -> object:
    with backend.open(fed.names) as run:
        return run(fed.feed())
