"""Checks of a backend's graph and signature: what they say is true of what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probekit.components import LAYOUTS
from probekit.errors import listed
from probekit.testing.checks import expect, expect_near, no_crash

if TYPE_CHECKING:
    from probekit.testing.fed import FedBackend


class GraphChecks:
    """What ``graph`` and ``signature`` say."""

    def test_graph_is_in_execution_order(self, fed: FedBackend) -> None:
        """Taps have names of their own and stand in execution order, as their ``depth`` says.

        Results are told from the input to the output, and a spec names a tap by its name.
        """
        names, depths = [tap.name for tap in fed.graph.taps], [tap.depth for tap in fed.graph.taps]
        twice = sorted({name for name in names if names.count(name) > 1})
        expect(not twice, f"the taps {twice} stand twice in the graph", "give every tap a name of its own")
        falls = [name for name, low, high in zip(names[1:], depths, depths[1:], strict=False) if low >= high]
        expect(not falls, f"the depth does not rise at the taps {listed(falls)}", "number taps as they are computed")

    def test_edges_lead_forward_between_taps(self, fed: FedBackend) -> None:
        """Each edge (a, b) joins two taps of the graph, and a is computed before b.

        Neighbouring taps are compared along the edges, and the drawing of the model is made of them.
        """
        place = {tap.name: number for number, tap in enumerate(fed.graph.taps)}
        absent = [edge for edge in fed.graph.edges if not {*edge} <= place.keys()]
        expect(not absent, f"the edges {absent[:3]} name what is no tap", "name taps of this graph")
        back = [(a, b) for a, b in fed.graph.edges if place[a] >= place[b]]
        expect(not back, f"the edges {back[:3]} lead from a later tap to an earlier one", "write (from, to)")
        expect(
            fed.graph.edges or len(place) < 2,
            f"a graph of {len(place)} taps has no edge",
            "give the pairs (a, b) where b is computed from a",
        )

    def test_inputs_and_outputs_are_taps(self, fed: FedBackend) -> None:
        """The outputs are taps that can be tapped, and an input is one whose ``op`` is ``Input`` and that holds what
        was fed.

        ``output:`` compares probes with the model's own prediction, and a spec's ``input`` is the baseline of all taps.
        """
        todo = "name the tensors that the model returns, the main one first, in Graph.outputs"
        expect(fed.graph.outputs, "the graph has no outputs", todo)
        for name in fed.graph.outputs:
            tap = fed.graph.tap(name)
            expect(tap is not None, f"the output {name!r} is no tap", todo)
            why = "" if tap is None else tap.untappable
            expect(not why, f"the output {name!r} cannot be tapped: {why}", todo)
        inputs = [tap.name for tap in fed.graph.taps if tap.op == "Input"]
        expect(inputs, "no tap has the op 'Input'", "list the model's inputs as taps with op='Input'")
        fed_names = [name for name in inputs if name in fed.feed() and name in fed.names]
        found, given = fed.activations(fed_names) if fed_names else {}, fed.feed()
        for name in fed_names:
            expect_near(found[name], given[name], f"the input tap {name!r} and what was fed", "give what was fed")

    def test_graph_does_not_depend_on_the_example(self, fed: FedBackend) -> None:
        """Examples of other content and of another number give the same graph.

        A run makes the graph from its first rows; ``probekit taps`` must show the same one for any.
        """
        rows = fed.rows[::-1][: fed.runner.fixed_batch or 3]
        other = fed.backend.graph(fed.feed(rows))
        if other != fed.graph:
            pairs = zip(fed.graph.taps, other.taps, strict=False)
            first = next((f"{one} and {two}" for one, two in pairs if one != two), "its taps, edges or outputs")
            expect(False, f"graph() of 2 and of {len(rows)} examples differs: {first}", "leave the batch axis out")

    def test_shapes_are_those_of_activations(self, fed: FedBackend) -> None:
        """A tap's ``shape`` with the batch put in at ``batch_axis`` is the shape of its activation, and ``layout`` has
        a letter for each axis, N for the batch.

        Reductions are compiled for the shape, and ``probekit taps`` shows it before anything runs.
        """
        count = len(next(iter(fed.feed().values())))
        found = fed.activations()
        for tap in (one for one in fed.graph.taps if one.name in found):
            real = found[tap.name].shape
            if tap.shape is not None:
                stated = [*tap.shape[: tap.batch_axis], count, *tap.shape[tap.batch_axis :]]
                fits = len(stated) == len(real) and all(a in (None, b) for a, b in zip(stated, real, strict=True))
                todo = "give the shape without the batch axis, None for a size that is not known before a run"
                expect(fits, f"tap {tap.name!r} states {tuple(stated)} for {count} examples and gives {real}", todo)
            if tap.layout:
                fact = f"tap {tap.name!r} of shape {real} states the layout {tap.layout!r}"
                fits = len(tap.layout) == len(real) and tap.layout.find("N") == tap.batch_axis
                expect(fits, fact, "one letter an axis, N at batch_axis; '' where it is not certain")
                expect(tap.layout in LAYOUTS, fact, f"use one of {', '.join(LAYOUTS)}")

    def test_dtypes_are_those_of_activations(self, fed: FedBackend) -> None:
        """A tap's ``dtype`` is that of its activation: the model's own, not one that NumPy made of it.

        An activation that is widened costs memory and hides what the model computes in. Only a dtype that NumPy lacks,
        such as bfloat16, comes as float32.
        """
        found = fed.activations()
        for tap in (one for one in fed.graph.taps if one.name in found):
            try:
                stated = np.dtype(tap.dtype) if tap.dtype else None
            except TypeError:
                stated = np.dtype(np.float32)
            real = found[tap.name].dtype
            expect(
                stated in (None, real),
                f"tap {tap.name!r} states {tap.dtype} and gives {real}",
                "state what open gives, and give what the model computes",
            )

    def test_signature_says_what_is_fed(self, fed: FedBackend) -> None:
        """Each input of ``signature`` has a name of its own, and the shape and dtype that the model takes.

        Data are matched to inputs by these names and cast to these dtypes; what does not fit is refused before a run.
        """
        inputs = fed.backend.signature()
        names = [one.name for one in inputs]
        expect(inputs and len(set(names)) == len(names), f"the inputs are {names}", "give each of the inputs once")
        todo = "give the names, shapes (None for an axis of any size) and dtypes that the model takes"
        with no_crash(f"a pass with the inputs {inputs}", todo), fed.backend.open(list(fed.graph.outputs)) as run:
            run(fed.feed())
        again = fed.backend.signature()
        expect(again == inputs, f"signature() gives {inputs}, then {again}", "give the same every time")
