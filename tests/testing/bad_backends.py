"""Backends with one fault each, by the check that must find it and what it must say."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy_net import LIVE, NumpyNet, write
from pydantic import ConfigDict, PrivateAttr

from probekit.components import Backend, Graph, ModelInput
from probekit.sections import runtime_option
from probekit.steps import run_program

Found = dict[str, Any]


class _Changed(NumpyNet):
    """Opens as usual; what a pass gives goes through ``change``, which knows how often it was called since then."""

    def change(self, found: Found, taps: Any, calls: int) -> Found:
        raise NotImplementedError

    @contextmanager
    def open(self, taps: Any) -> Iterator[Any]:
        calls = 0
        with super().open(taps) as run:

            def changed(feed: Any) -> Found:
                nonlocal calls
                calls += 1
                return self.change(run(feed), taps, calls)

            yield changed

    @contextmanager
    def open_reduced(self, wanted: Any) -> Iterator[Any]:
        with self.open(list(dict.fromkeys(one.tap.name for one in wanted))) as run:

            def reduced(feed: Any, masks: Any) -> Any:
                found = run(feed)
                return [run_program(one.program, found[one.tap.name], masks) for one in wanted]

            yield reduced


class _Reduced(NumpyNet):
    """Reduces with other masks, other features, or both."""

    def masks(self, masks: Found) -> Found:
        return masks

    def features(self, features: Any, wanted: Any) -> Any:
        return features

    @contextmanager
    def open_reduced(self, wanted: Any) -> Iterator[Any]:
        with super().open_reduced(wanted) as run:
            yield lambda feed, masks: [self.features(one, wanted) for one in run(feed, self.masks(masks))]


# --- graph


class _Graph(NumpyNet):
    def graph(self, example: Any = None) -> Graph:
        return self.changed(super().graph(example), example)

    def changed(self, graph: Graph, example: Any) -> Graph:
        raise NotImplementedError


class Twice(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, taps=(*graph.taps, graph.taps[-1]))


class Unordered(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, taps=graph.taps[::-1])


class Backwards(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, edges=tuple((b, a) for a, b in graph.edges))


class EdgesToNowhere(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, edges=(*graph.edges, ("logits", "softmax")))


class NoEdges(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, edges=())


class NoOutput(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, outputs=("softmax",))


class NoInput(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, taps=tuple(replace(tap, op="Const") for tap in graph.taps))


class OfTheBatch(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, taps=(*graph.taps[:-1], replace(graph.taps[-1], shape=(len(example["x"]), 3))))


class OtherShape(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, taps=(*graph.taps[:-1], replace(graph.taps[-1], shape=(4,))))


class OtherLayout(_Graph):
    def changed(self, graph: Graph, example: Any) -> Graph:
        return replace(graph, taps=(*graph.taps[:-1], replace(graph.taps[-1], layout="NTC")))


class Widened(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        return {name: array.astype(np.float64) for name, array in found.items()}


class InputsTwice(NumpyNet):
    def signature(self) -> tuple[ModelInput, ...]:
        return super().signature() * 2


class OtherSizes(NumpyNet):
    def signature(self) -> tuple[ModelInput, ...]:
        return (ModelInput("x", (None, 4, 7), "float32"), super().signature()[1])


_CALLS: list[int] = []


class Moody(NumpyNet):
    def signature(self) -> tuple[ModelInput, ...]:
        _CALLS.append(1)
        return (ModelInput("x", (None, None if len(_CALLS) < 3 else 7, 4), "float32"), super().signature()[1])


# --- taps


class SeesHowMany(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        return {name: array + np.float32(len(taps)) for name, array in found.items()}


class GivesAll(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        return {**found, "more": np.zeros(3)}


class OneBuffer(NumpyNet):
    @contextmanager
    def open(self, taps: Any) -> Iterator[Any]:
        buffers: Found = {}
        with super().open(taps) as run:

            def same(feed: Any) -> Found:
                for name, array in run(feed).items():
                    if name in buffers and buffers[name].shape == array.shape:
                        buffers[name][...] = array
                    else:
                        buffers[name] = array.copy()
                return dict(buffers)

            yield same


class WritesToItsInputs(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        found["x"][0, 0, 0] += 1
        return found


class Tensors(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        return {name: array.tolist() if name == "mean" else array for name, array in found.items()}


class NormalisesTheBatch(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        return {name: array - array.mean(axis=0) for name, array in found.items()}


class Draws(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        return {name: array * np.float32(np.random.default_rng().random() + 1) for name, array in found.items()}


class Drifts(_Changed):
    """Too little for what a run compares."""

    def change(self, found: Found, taps: Any, calls: int) -> Found:
        return {name: array * np.float32(1 + 1e-6 * calls) for name, array in found.items()}


class TrainsOn(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        LIVE[self.path]["w1"] += 1e-3
        return found

    def fingerprint(self) -> str:
        return "always"


class WritesItsFile(_Changed):
    def change(self, found: Found, taps: Any, calls: int) -> Found:
        write(Path(self.path), 0.5)
        return found


class Swallows(NumpyNet):
    @contextmanager
    def open(self, taps: Any) -> Iterator[Any]:
        with super().open(taps) as run, suppress(Exception):
            yield run


_OPEN: set[str] = set()


class StaysOpen(NumpyNet):
    @contextmanager
    def open(self, taps: Any) -> Iterator[Any]:
        if self.path in _OPEN:
            raise RuntimeError("the device is in use")
        _OPEN.add(self.path)
        with super().open(taps) as run:
            yield run
        _OPEN.discard(self.path)


# --- features


class AddsOne(_Reduced):
    def features(self, features: Any, wanted: Any) -> Any:
        return features + np.float32(1)


class Widens(_Reduced):
    def features(self, features: Any, wanted: Any) -> Any:
        return features.astype(np.float64)


class LosesOne(_Reduced):
    @contextmanager
    def open_reduced(self, wanted: Any) -> Iterator[Any]:
        with super().open_reduced(wanted) as run:
            yield lambda feed, masks: run(feed, masks)[1:]


class CutsTooMuch(_Reduced):
    def features(self, features: Any, wanted: Any) -> Any:
        return features if len(wanted) > 1 else features * 0


class IgnoresMasks(_Reduced):
    def masks(self, masks: Found) -> Found:
        return {name: np.ones_like(mask) for name, mask in masks.items()}


class FillsWithZeros(_Reduced):
    def features(self, features: Any, wanted: Any) -> Any:
        return np.nan_to_num(features, neginf=0.0)


class ComparesBadly(NumpyNet):
    def compare(self, wanted: Any, feed: Any, masks: Any) -> Found:
        return {"output_against_untapped": float("nan")}


class ComparesOthers(NumpyNet):
    def compare(self, wanted: Any, feed: Any, masks: Any) -> Found:
        return {"against_unoptimised": {"softmax": 0.0}}


# --- identity


class OfThePath(NumpyNet):
    def fingerprint(self) -> str:
        return f"{self.path}{super().fingerprint()}"


class OfTheProcess(NumpyNet):
    def fingerprint(self) -> str:
        return str(hash(super().fingerprint()))


class OfNothing(NumpyNet):
    def fingerprint(self) -> str:
        return "always"


class TapsOfNothing(NumpyNet):
    def tap_fingerprints(self, taps: Any) -> dict[str, str]:
        return {name: f"always {name}" for name in taps}


class OfTheBatchSize(NumpyNet):
    def fingerprint(self) -> str:
        return f"{self.batch_size}{super().fingerprint()}"


class IdentityOfTheBatchSize(NumpyNet):
    def identity(self) -> Found:
        return {**super().identity(), "batch_size": self.batch_size}


class TapsAlike(NumpyNet):
    def tap_fingerprints(self, taps: Any) -> dict[str, str]:
        return dict.fromkeys(taps, self.fingerprint())


class TapsTogether(NumpyNet):
    def tap_fingerprints(self, taps: Any) -> dict[str, str]:
        return {name: f"{digest}{len(taps)}" for name, digest in super().tap_fingerprints(taps).items()}


class KeepsWhatItOpens(_Changed):
    _session: Any = PrivateAttr(default=None)

    def change(self, found: Found, taps: Any, calls: int) -> Found:
        self._session = found
        return found


class NoCheckpoints(NumpyNet):
    def with_checkpoint(self, path: str) -> Backend:
        return self


class ChangesItself(NumpyNet):
    def with_checkpoint(self, path: str) -> Backend:
        LIVE[self.path] = self.model_copy(update={"path": path}).weights()
        return self.model_copy(update={"path": path})


class OneDraw(NumpyNet):
    def with_random_weights(self, seed: int) -> Backend:
        return super().with_random_weights(0)


class KeepsItsOutput(NumpyNet):
    def with_random_weights(self, seed: int) -> Backend:
        return self.model_copy(update={"seed": seed, "checkpoints": {"first": None}})


class RunsOnAnObject(NumpyNet):
    def runtime(self) -> Found:
        return {"device": object()}


# --- refusals


class KeyErrorForATap(NumpyNet):
    @contextmanager
    def open(self, taps: Any) -> Iterator[Any]:
        yield lambda feed: {name: self.activations(feed)[name] for name in taps}


class NoNearestTap(NumpyNet):
    @contextmanager
    def open(self, taps: Any) -> Iterator[Any]:
        known = [tap.name for tap in self.graph().taps]
        Graph(()).require([name for name in taps if name not in known])
        with super().open(taps) as run:
            yield run


class PlainFileNotFound(NumpyNet):
    def weights(self) -> Found:
        if self.path not in LIVE:
            with np.load(self.path, allow_pickle=False) as file:
                LIVE[self.path] = {name: file[name] for name in ("w0", "w1")}
        return LIVE[self.path]


class PlainBadZipFile(NumpyNet):
    def weights(self) -> Found:
        if Path(self.path).is_file() and self.path not in LIVE:
            with np.load(self.path, allow_pickle=False) as file:
                LIVE[self.path] = {name: file[name] for name in ("w0", "w1")}
        return super().weights()


class LeavesAnInputOut(NumpyNet):
    def signature(self) -> tuple[ModelInput, ...]:
        return super().signature()[:1]


# --- components


class Unregistered(NumpyNet):
    pass


class Undescribed(NumpyNet):
    layers: int = 2


class Open(NumpyNet):
    model_config = ConfigDict(extra="allow")


class Thawed(NumpyNet):
    model_config = ConfigDict(frozen=False)


class HoldsALock(NumpyNet):
    _lock: Any = PrivateAttr(default_factory=lambda: __import__("threading").Lock())


class OptionInItsIdentity(NumpyNet):
    threads: int = runtime_option(1, "of the runtime")

    def identity(self) -> Found:
        return {**super().identity(), "threads": self.threads}


BAD: dict[str, dict[type[NumpyNet], str]] = {
    "test_graph_is_in_execution_order": {Twice: "stand twice", Unordered: "does not rise"},
    "test_edges_lead_forward_between_taps": {
        Backwards: "from a later tap", EdgesToNowhere: "what is no tap", NoEdges: "has no edge"},
    "test_inputs_and_outputs_are_taps": {NoOutput: "'softmax' is no tap", NoInput: "op 'Input'"},
    "test_graph_does_not_depend_on_the_example": {OfTheBatch: "2 and of 3 examples differs"},
    "test_shapes_are_those_of_activations": {OtherShape: "states", OtherLayout: "layout 'NTC'"},
    "test_dtypes_are_those_of_activations": {Widened: "states float32 and gives float64"},
    "test_signature_says_what_is_fed": {InputsTwice: "the inputs are", OtherSizes: "PK|wants", Moody: "then"},
    "test_taps_together_are_those_alone": {SeesHowMany: "alone and with all", GivesAll: "gives the taps"},
    "test_activations_stay_as_they_are": {
        OneBuffer: "next batch", WritesToItsInputs: "input 'x' is changed", Tensors: "gives list"},
    "test_rows_do_not_depend_on_the_batch": {NormalisesTheBatch: "in one batch and in"},
    "test_two_passes_are_the_same": {Draws: "two passes"},
    "test_no_batch_leaves_anything_behind": {Drifts: "before and after other batches"},
    "test_tapping_leaves_the_model_as_it_was": {TrainsOn: "changes 'w1'", WritesItsFile: "changes 'path'"},
    "test_an_error_goes_out_and_nothing_stays_open": {Swallows: "swallowed", StaysOpen: "device is in use"},
    "test_reductions_are_those_of_numpy": {
        AddsOne: "they differ", Widens: "is float64", LosesOne: "arrays for"},
    "test_one_reduction_alone_is_that_of_numpy": {CutsTooMuch: "alone"},
    "test_masks_are_those_of_numpy": {IgnoresMasks: "masked"},
    "test_an_example_without_positions_is_that_of_numpy": {FillsWithZeros: "masked"},
    "test_compare_is_plain": {ComparesBadly: "nan", ComparesOthers: "softmax"},
    "test_a_stopped_extraction_goes_on_with_equal_bytes": {Drifts: "last bits"},
    "test_fingerprint_is_that_of_the_content": {OfThePath: "copy of the files", OfTheProcess: "another process"},
    "test_a_changed_weight_changes_the_fingerprint": {OfNothing: "as before", TapsOfNothing: "do not"},
    "test_batch_size_is_no_part_of_the_identity": {
        OfTheBatchSize: "fingerprint", IdentityOfTheBatchSize: "identity"},
    "test_each_tap_has_a_fingerprint": {TapsAlike: "have one fingerprint", TapsTogether: "among others"},
    "test_a_used_backend_pickles_as_a_new_one": {KeepsWhatItOpens: "changes the pickle"},
    "test_checkpoints_are_the_same_model_with_other_weights": {
        NoCheckpoints: "the same values", ChangesItself: "the same values|model itself"},
    "test_random_weights_are_drawn_by_their_seed": {OneDraw: "two draws", KeepsItsOutput: "checkpoints"},
    "test_runtime_is_plain": {RunsOnAnObject: "object"},
    "test_a_tap_that_does_not_exist_is_refused": {KeyErrorForATap: "KeyError", NoNearestTap: "names no tap"},
    "test_a_file_that_is_missing_is_refused": {PlainFileNotFound: "FileNotFoundError"},
    "test_a_file_that_is_damaged_is_refused": {PlainBadZipFile: "EOFError"},
    "test_an_input_that_is_missing_is_refused": {LeavesAnInputOut: "KeyError"},
    "test_kind_is_declared_and_found": {Unregistered: "not"},
    "test_every_field_is_described": {Undescribed: "'layers'"},
    "test_a_component_is_closed_and_frozen": {Open: "no_such_key", Thawed: "can be set"},
    "test_a_component_pickles": {HoldsALock: "pickling"},
    "test_the_identity_leaves_runtime_options_out": {OptionInItsIdentity: "threads"},
}  # fmt: skip
"""By check, the backends that it must fail, with what it says."""
