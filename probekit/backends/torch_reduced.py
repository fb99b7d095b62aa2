"""Passes that give features only: every tap is reduced in its hook, and the model stops after the last one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from probekit.backends.differences import relative_difference
from probekit.backends.torch_programs import TapPrograms, to_numpy
from probekit.backends.torch_run import CPU, Place, call
from probekit.backends.torch_steps import BatchMasks
from probekit.backends.torch_taps import module_of, not_reached, tensors_in, watch
from probekit.errors import InputError, Problem
from probekit.steps import BatchFirst, Last, Max, Mean, Positions, Select, Slice, Std

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import torch
    from torch import nn

    from probekit.components import Array, Feed, FloatArray, ReducedFunction, Wanted
    from probekit.steps import Masks, Shape

_BY_AXIS = (BatchFirst, Mean, Max, Std, Select, Last, Positions, Slice)
"""Steps that mean the same whatever the sizes of the axes they do not touch."""


class _HaltError(BaseException):
    """Ends a forward pass from a hook; no Exception, so that a model's own ``except Exception`` lets it pass."""


class _Reader:
    """Reduces what the hooks show, for one batch after the other.

    Args:
        wanted: what each batch gives.
        device: that the model runs on.
        halt: whether to end a pass once everything wanted is there.
    """

    def __init__(self, wanted: Sequence[Wanted], device: torch.device, *, halt: bool) -> None:
        self._wanted, self._device, self._halt = wanted, device, halt
        places: dict[str, list[int]] = {}
        for place, one in enumerate(wanted):
            places.setdefault(one.tap.name, []).append(place)
        self._places = places
        self._programs = {
            name: TapPrograms({place: wanted[place].program for place in those}) for name, those in places.items()
        }
        self.begin({}, None)

    def begin(self, masks: Masks, batch: int | None) -> None:
        """Forget the last batch."""
        self._masks, self._batch = BatchMasks(masks, self._device), batch
        self._found: dict[int, torch.Tensor] = {}
        self._left = set(self._places)
        self.failure: BaseException | None = None

    @property
    def complete(self) -> bool:
        """Whether everything wanted of this batch is there."""
        return not self._left

    def seen(self, _: nn.Module, name: str, tensor: torch.Tensor) -> None:
        """Reduce a tensor that is wanted, as it is at this moment."""
        if self.failure is None and name in self._left:
            try:
                for place in self._places[name]:
                    _refuse_other_size(self._wanted[place], tuple(tensor.shape), self._batch)
                self._found |= self._programs[name](tensor, self._masks)
                for place in self._places[name]:
                    _refuse_other_width(self._wanted[place], self._found[place], tuple(tensor.shape))
            except BaseException as error:  # kept as it is: the model, or the call, might word it as its own
                self.failure = error
            self._left.discard(name)
        if self.failure is not None or (self._halt and not self._left):
            raise _HaltError

    def take(self) -> list[torch.Tensor]:
        """Return what was found, and forget it.

        Raises:
            InputError: ``PK-M26``, the model did not reach a tap.
        """
        if self._left:
            raise not_reached([name for name in self._places if name in self._left])
        found, self._found = self._found, {}
        return [found[place] for place in range(len(self._wanted))]


@contextmanager
def reducing(
    module: nn.Module,
    wanted: Sequence[Wanted],
    place: Place = CPU,
    constant: Collection[str] = (),
    *,
    halt: bool = True,
) -> Iterator[ReducedFunction]:
    """Give a function from the model's inputs and masks of one batch to the features of everything wanted.

    Args:
        module: in eval mode, at ``place``.
        wanted: what each call gives.
        place: where it runs.
        constant: inputs that are fed the same values for every batch, which need no batch axis.
        halt: whether a pass ends at the last tap that is needed.

    Raises:
        InputError: the returned function raises ``PK-M26`` when a tap is not reached, ``PK-M20`` when a size is not
            that of the trial and the program leaves it, ``PK-M28`` when the batch axis is not the batch's.
    """
    modules = dict(module.named_modules())
    reader = _Reader(wanted, place.device, halt=halt)

    def run(feed: Feed, masks: Masks) -> list[FloatArray]:
        reader.begin(masks, _batch_size(feed, constant))
        try:
            call(module, feed, place)
        except _HaltError:
            pass
        except Exception:
            # A model that catches everything may word the halt as a fault of its own.
            if reader.failure is None and not (halt and reader.complete):
                raise
        failure, reader.failure = reader.failure, None
        try:
            if failure is not None:
                raise failure
            with place.running():
                return place.to_host(reader.take())
        finally:
            reader.begin({}, None)

    names = [name for one in wanted if (name := module_of(one.tap.name, modules))]
    with watch(module, names, reader.seen):
        yield run


def _batch_size(feed: Feed, constant: Collection[str]) -> int | None:
    return next((len(array) for name, array in feed.items() if array.ndim and name not in constant), None)


def _refuse_other_size(one: Wanted, shape: tuple[int, ...], batch: int | None) -> None:
    """Compare the sizes that reach the features with those that the trial saw; what a program removes may change."""
    tap = one.tap
    if batch is not None and (tap.batch_axis >= len(shape) or shape[tap.batch_axis] != batch):
        what = f"tap {tap.name!r} has shape {shape} for a batch of {batch}: it has no batch axis"
        raise InputError(Problem("PK-M28", what, "leave it out"))
    sizes = shape[: tap.batch_axis] + shape[tap.batch_axis + 1 :]
    if tap.shape is None or sizes == tap.shape:
        return
    before: Shape = tap.shape
    now: Shape = sizes
    same = len(before) == len(now)
    for step in one.program:
        if not same:
            break
        if isinstance(step, Select):
            size = now[step.axis - 1]
            same = size is None or -size <= step.position < size
        elif not isinstance(step, _BY_AXIS):
            same = _same(before, now)
        before, now = step.shape(before), step.shape(now)
    if not (same and _same(before, now)):
        raise _other_size(one, sizes)


def _same(before: Shape, now: Shape) -> bool:
    return len(before) == len(now) and all(a is None or a == b for a, b in zip(before, now, strict=True))


def _refuse_other_width(one: Wanted, features: torch.Tensor, shape: tuple[int, ...]) -> None:
    if features.ndim != 2 or features.shape[1] != one.width:
        raise _other_size(one, shape[: one.tap.batch_axis] + shape[one.tap.batch_axis + 1 :])


def _other_size(one: Wanted, sizes: tuple[int, ...]) -> InputError:
    what = f"tap {one.tap.name!r} changes its size: {one.tap.shape} in the first rows, {sizes} later"
    return InputError(Problem("PK-M20", what, "give the dataset inputs of one size"))


def against_untapped(
    module: nn.Module, wanted: Sequence[Wanted], place: Place, feed: Feed, masks: Masks
) -> float | None:
    """Return how far the model's first output with all taps read lies from the one without, as a share of its largest
    value; None where it gives no tensor.
    """
    plain = _first_output(call(module, feed, place))
    reader = _Reader(wanted, place.device, halt=False)
    reader.begin(masks, None)
    names = [name for one in wanted if (name := module_of(one.tap.name, dict(module.named_modules())))]
    with watch(module, names, reader.seen):
        try:
            read = _first_output(call(module, feed, place))
        except _HaltError:
            assert reader.failure is not None  # noqa: S101 - nothing else halts this pass
            raise reader.failure from None
    return None if plain is None or read is None else relative_difference(read, plain)


def against_plain(
    build: Callable[[], nn.Module], wanted: Sequence[Wanted], place: Place, feed: Feed, masks: Masks
) -> dict[str, float]:
    """Return, by tap, how far the features lie from those in plain float32, as a share of the largest value."""
    both = []
    for one in (place, Place(place.device)):
        with reducing(one.put(build()), wanted, one) as run:
            both.append(run(feed, masks))
    found: dict[str, float] = {}
    for one, fast, plain in zip(wanted, *both, strict=True):
        name = one.tap.name
        found[name] = max(found.get(name, 0.0), relative_difference(fast, plain))
    return found


def _first_output(output: Any) -> Array | None:
    first = next((tensor for _, tensor in tensors_in(output, "")), None)
    return None if first is None else to_numpy(first)
