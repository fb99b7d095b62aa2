"""Features out of a session with grafted programs: what is checked of each batch, and what NumPy still does."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from probekit.backends.onnx_graft import graft
from probekit.backends.onnx_session import changes_its_size, open_session, run_session
from probekit.errors import InputError, Problem
from probekit.steps import run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import onnx

    from probekit.backends.onnx_graft import Grafted
    from probekit.backends.onnx_lowering import Guard, Source
    from probekit.components import Array, Feed, FloatArray, TapFunction, Wanted
    from probekit.steps import Masks

    RawFunction = Callable[[str, Feed], Array]
    GraftedFunction = Callable[[Feed, Masks], tuple[list[FloatArray], dict[str, Array]]]


@contextmanager
def open_grafted(
    load: Callable[[], tuple[onnx.ModelProto, Path | None]],
    wanted: Sequence[Wanted],
    more: Sequence[str],
    open_raw: Callable[[Sequence[str]], AbstractContextManager[TapFunction]],
    options: Any,
    providers: Sequence[str],
    *,
    exact: bool = False,
) -> Iterator[GraftedFunction]:
    """Load a model with all programs grafted.

    Args:
        load: gives the model and the folder of its external data.
        wanted: what each call gives.
        more: names of tensors to give besides.
        open_raw: opens taps for their raw activations, in case that features are in doubt.
        options: as :func:`open_session` takes them.
        providers: likewise.
        exact: read every tapped tensor itself.

    Yields:
        a function from a batch and its masks to the features, and to all outputs by name.
    """
    grafted, opened = _session(load, wanted, more, options, providers, exact=exact)

    with ExitStack() as stack:
        doubted: dict[str, TapFunction] = {}

        def raw(name: str, feed: Feed) -> Array:
            if name not in doubted:
                doubted[name] = stack.enter_context(open_raw([name]))
            return doubted[name](feed)[name]

        def run(feed: Feed, masks: Masks) -> tuple[list[FloatArray], dict[str, Array]]:
            found: dict[str, Array] = {}
            if opened is not None:
                given = {name: masks[mask] != 0 for mask, name in grafted.masks.items()}
                found = run_session(opened, grafted.outputs, {**feed, **given}, grafted.prefix)
            features = []
            for one, source in zip(wanted, grafted.sources, strict=True):
                if source is None:
                    features.append(run_program(one.program, feed[one.tap.name], masks))
                else:
                    features.append(_features(one, source, found, feed, masks, raw))
            return features, found

        yield run


def _session(
    load: Callable[[], tuple[onnx.ModelProto, Path | None]],
    wanted: Sequence[Wanted],
    more: Sequence[str],
    options: Any,
    providers: Sequence[str],
    *,
    exact: bool,
) -> tuple[Grafted, Any]:
    """Return what was grafted and the session, None where nothing is computed.

    The model goes out of memory when its text is written, the text when the runtime has read it.
    """

    def serialised() -> tuple[Grafted, bytes, Path | None]:
        model, folder = load()
        grafted = graft(model, wanted, more, exact=exact)
        return grafted, model.SerializeToString() if grafted.outputs else b"", folder

    grafted, content, folder = serialised()
    return grafted, open_session(content, providers, options, folder, grafted.large) if content else None


def _features(
    one: Wanted, source: Source, found: Mapping[str, Array], feed: Feed, masks: Masks, raw: RawFunction
) -> FloatArray:
    """Return the features of one batch, after its sizes have been compared with those of the trial run."""
    if not source.grafted:
        return run_program(one.program, found[source.output], masks)
    for guard in source.guards:
        _refuse_other_sizes(one.tap.name, guard, tuple(found[guard.output].tolist())[1:], masks)
    if any(not np.isfinite(found[name]).all() for name in source.doubts):
        features = run_program(one.program, raw(one.tap.name, feed), masks)
    else:
        features = found[source.output]
    if features.shape[1:] != (one.width,):
        raise changes_its_size(one.tap.name, f": {one.width} features in the first rows, {features.shape[1:]} later")
    return features


def _refuse_other_sizes(tap: str, guard: Guard, sizes: tuple[int, ...], masks: Masks) -> None:
    fits = len(sizes) == len(guard.sizes)
    if not fits or any(due not in (None, size) for due, size in zip(guard.sizes, sizes, strict=True)):
        raise changes_its_size(tap, f": {guard.sizes} in the first rows, {sizes} later")
    if guard.mask is not None:
        masked = tuple(sizes[axis - 1] for axis in guard.axes)
        if masks[guard.mask].shape[1:] != masked:
            what = (
                f"the mask {guard.mask!r} has the sizes {masks[guard.mask].shape[1:]}, {tap!r} has {masked} positions"
            )
            raise InputError(Problem("PK-M54", what, "a mask has one number per example and position"))
