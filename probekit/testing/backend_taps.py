"""Checks of a backend's activations: one model, whatever is tapped and however examples are batched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probekit.errors import listed
from probekit.testing.checks import equal_arrays, expect, expect_near, no_crash, path_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from probekit.components import Array, Backend
    from probekit.testing.fed import FedBackend

_SERVE = "open must serve every tap that graph() lists without a reason in untappable"


class TapChecks:
    """What ``open`` gives."""

    def test_taps_together_are_those_alone(self, fed: FedBackend) -> None:
        """Every tap opens alone, in any order and with all others, and has the same values each time.

        Which taps a spec names together must not change a number. Where it does, an optimisation looks at what is
        tapped, or one tap overwrites another.
        """
        together = fed.activations()
        backwards = fed.activations(fed.names[::-1])
        for name in fed.names:
            alone = fed.activations([name])
            expect(list(alone) == [name], f"open([{name!r}]) gives the taps {listed(alone)}", "give what is asked")
            expect_near(alone[name], together[name], f"tap {name!r} alone and with all others", _SERVE)
            expect_near(backwards[name], together[name], f"tap {name!r} in another order of taps", _SERVE)
        expect(set(together) == set(fed.names), f"open gives the taps {listed(together)}", "give what is asked")

    def test_activations_stay_as_they_are(self, fed: FedBackend) -> None:
        """Activations are NumPy arrays of real numbers that no later batch changes, and what is fed is not changed.

        Batches are reduced while the next one runs. A view of a buffer that the runtime uses again would turn into the
        next batch's values.
        """
        one, other = fed.feed(), fed.feed(fed.rows[::-1][: fed.most])
        before = {name: np.array(array) for name, array in one.items()}
        with fed.backend.open([*fed.names, *fed.passed_over]) as run:
            first = dict(run(one))
            for name, array in first.items():
                fact = f"tap {name!r} gives {type(array).__name__} {getattr(array, 'dtype', '')}"
                real = isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
                expect(real, fact, "give NumPy arrays of real numbers, or a reason in Tap.untappable")
            kept = {name: np.array(array) for name, array in first.items()}
            run(other)
        for name, array in kept.items():
            expect(equal_arrays(first[name], array), f"tap {name!r} changes with the next batch", "give a copy")
        for name, array in before.items():
            expect(equal_arrays(np.asarray(one[name]), array), f"the fed input {name!r} is changed", "copy it first")

    def test_rows_do_not_depend_on_the_batch(self, fed: FedBackend) -> None:
        """An example has the same activations alone, in a batch of another size and beside other examples.

        Features are stored by example. Batch normalisation in training mode, padding to the longest example or a sum
        over the batch would make them depend on the neighbours.
        """
        rows, sizes = fed.rows[: fed.most], [size for size in (1, 2, 3) if size < fed.most]
        with fed.backend.open(fed.names) as run:
            whole = fed.rows_of(run, rows)
            parts = {f"batches of {size}": [rows[i : i + size] for i in range(0, len(rows), size)] for size in sizes}
            if fed.runner.fixed_batch:
                parts = {"batches that are filled up": [rows[i : i + 1] for i in range(len(rows))]}
            parts["another order"] = [rows[::-1]]
            for how, some in parts.items():
                pieces = [fed.rows_of(run, part) for part in some]
                order = np.argsort(np.concatenate(some))
                for name in fed.names:
                    joined = np.concatenate([piece[name] for piece in pieces])[order]
                    todo = "run in evaluation mode, and reduce nothing over the batch"
                    expect_near(joined, whole[name], f"tap {name!r} in one batch and in {how}", todo)

    def test_two_passes_are_the_same(self, fed: FedBackend) -> None:
        """Two passes, in one opening and in two, give the same activations.

        A run refuses a model of which two passes differ (``PK-M37``): dropout that is on, or random draws.
        """
        todo = "switch off dropout and whatever else draws at random"
        with fed.backend.open(fed.names) as run:
            first, second = ({name: np.array(a) for name, a in run(fed.feed()).items()} for _ in range(2))
        again = fed.activations()
        for name in fed.names:
            expect_near(second[name], first[name], f"tap {name!r} in two passes of one opening", todo)
            expect_near(again[name], first[name], f"tap {name!r} in two openings", todo)

    def test_no_batch_leaves_anything_behind(self, fed: FedBackend) -> None:
        """A batch has the same activations, to the bit, after other batches as before them.

        A running mean that goes on, or a recurrent state that is kept, makes features depend on the order of a
        dataset and on where a run was interrupted.
        """
        one, other = fed.feed(), fed.feed(fed.rows[::-1][: fed.most])
        todo = "reset the model's state for each batch, and update no buffers"
        with fed.backend.open(fed.names) as run:
            before = {name: np.array(array) for name, array in run(one).items()}
            for _ in range(3):
                run(other)
            after = run(one)
            for name in fed.names:
                expect_near(after[name], before[name], f"tap {name!r} before and after other batches", todo, 0.0)

    def test_tapping_leaves_the_model_as_it_was(
        self, backend: Backend, fed: FedBackend, weights: Callable[[], Mapping[str, Array]] | None
    ) -> None:
        """Opening, running and closing change no weight, no buffer, no file and no field.

        A probe looks at a model; one that changed it would tell of another one.
        """

        def state() -> dict[str, object]:
            found: dict[str, object] = {name: _content(path) for name, path in path_fields(backend).items()}
            found |= {name: np.array(array).tobytes() for name, array in (weights() if weights else {}).items()}
            return {**found, "the fields": backend.model_dump_json(), "fingerprint()": backend.fingerprint()}

        before = state()
        fed.activations()
        after = state()
        changed = [name for name in before if before[name] != after.get(name)]
        expect(
            not changed and len(before) == len(after), f"a run changes {listed(changed)}", "open a copy of the model"
        )

    def test_an_error_goes_out_and_nothing_stays_open(self, fed: FedBackend) -> None:
        """An exception inside of ``with backend.open(...)`` reaches the caller, and the model opens again after it.

        A run that is interrupted must end; hooks and sessions must not outlive it.
        """
        todo = "use try/finally around the yield, and return nothing true from __exit__"
        before = fed.activations()
        passed = False
        try:
            with fed.backend.open(fed.names) as run:
                run(fed.feed())
                raise _MadeError
        except _MadeError:
            passed = True
        expect(passed, "an exception inside of open is swallowed", todo)
        with no_crash("opening the model after an error", todo):
            after = fed.activations()
        for name in fed.names:
            expect_near(after[name], before[name], f"tap {name!r} before and after an error", todo)


class _MadeError(Exception):
    """Raised by a check itself."""


def _content(path: Path) -> object:
    return path.read_bytes() if path.is_file() else sorted(str(entry) for entry in path.glob("*"))
