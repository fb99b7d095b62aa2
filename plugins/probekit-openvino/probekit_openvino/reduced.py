"""Reductions in OpenVINO's own graph: each step of a program as operators, so that only features leave the runtime."""

from contextlib import ExitStack, contextmanager

import numpy as np

from probekit import InputError, Problem, relative_difference, steps
from probekit_openvino.basic import names_of
from probekit_openvino.quiet import ops, ov
from probekit_openvino.runtime import for_numpy, is_input


@contextmanager
def open_reduced(backend, wanted):
    """As ``Backend.open_reduced``: the programs are grafted onto the model, and what none of them needs is not run.

    A program with a step that is not known here runs in NumPy on the raw activation.
    """
    grafts, run = _open(backend, wanted)
    with ExitStack() as stack:
        raw = {}

        def activation(name, feed):
            if name not in raw:
                raw[name] = stack.enter_context(backend.open([name]))
            return raw[name](feed)[name]

        def reduced(feed, masks):
            found = iter(run(feed, masks))
            return [graft.features([next(found) for _ in graft.outputs], feed, masks, activation) for graft in grafts]

        yield reduced


def compare(backend, wanted, feed, masks):
    """As ``Backend.compare``: how far the model's first output is from itself when the taps are read besides."""
    untapped, tapped = (_open(backend, some, output=True)[1](feed, masks)[-1] for some in ([], wanted))
    return {"output_against_untapped": relative_difference(tapped, untapped)}


def _open(backend, wanted, *, output=False):
    """Return grafts, and the function that gives all their outputs, and the model's first output where it is asked."""
    model, masks = backend.read(), {}
    tensors = {name: one for node in model.get_ops() for one in node.outputs() for name in names_of(one)}
    grafts = [Graft(tensors[one.tap.name], one, masks) for one in wanted]
    outputs = [one for graft in grafts for one in graft.outputs]
    outputs += [model.outputs[0].get_node().input_value(0)] if output else []
    run = backend.compiled(model, outputs, list(masks.values()))
    return grafts, lambda feed, given: run({**feed, **{f"mask:{name}": np.asarray(given[name]) != 0 for name in masks}})


class Graft:
    """A program on its tap.

    Args:
        tensor: the tap.
        wanted: what its features are.
        masks: the model's inputs of masks by name; it gets new ones.
    """

    def __init__(self, tensor, wanted, masks):
        self.wanted, self.outputs = wanted, [tensor]
        known = all(type(step) in _OPERATORS for step in wanted.program)
        self.in_graph = known and wanted.tap.shape is not None and not is_input(tensor)
        if not self.in_graph:
            return
        value = _Value(ops.convert(for_numpy(tensor), "f32").output(0), len(wanted.tap.shape) + 1, masks)
        for step in wanted.program:
            value.tensor = _OPERATORS[type(step)](step, value).output(0)
            value.rank = len(step.shape((None,) * (value.rank - 1))) + 1
        # Where a size may change, it must stay what the trial run saw: else columns of two batches differ in meaning.
        self.sized = any(type(step) in {steps.Flatten, steps.Take} for step in wanted.program)
        sizes = enumerate(tensor.get_partial_shape())
        self.sized = self.sized and any(size.is_dynamic for axis, size in sizes if axis != wanted.tap.batch_axis)
        self.doubts = len(value.doubts)
        self.outputs = [value.tensor, *value.doubts, *([ops.shape_of(tensor).output(0)] if self.sized else [])]

    def features(self, found, feed, masks, activation):
        """Return the features of a batch.

        Args:
            found: what :attr:`outputs` are.
            feed: the model's inputs.
            masks: of the batch.
            activation: gives the raw activation of a tap.
        """
        one = self.wanted
        if not self.in_graph:
            return steps.run_program(one.program, found[0], masks)
        if self.sized:
            sizes = np.delete(found[-1], one.tap.batch_axis).tolist()
            if any(due not in (None, size) for due, size in zip(one.tap.shape, sizes, strict=True)):
                what = f"tap {one.tap.name!r} changes its size: {one.tap.shape} in the first rows, {tuple(sizes)} later"
                raise InputError(Problem("PK-M20", what, "give the dataset inputs of one size"))
        if not all(np.isfinite(doubt).all() for doubt in found[1 : 1 + self.doubts]):
            return steps.run_program(one.program, activation(one.tap.name, feed), masks)
        return found[0]


class _Value:
    """A tensor on its way through a program.

    Args:
        tensor: float32.
        rank: its number of axes.
        masks: inputs by the names of the masks.
    """

    def __init__(self, tensor, rank, masks):
        self.tensor, self.rank, self.masks = tensor, rank, masks
        # OpenVINO's maximum loses NaN and the infinities, also that of no position at all: where a mean is not finite,
        # NumPy takes the maximum.
        self.doubts = []

    def mask(self, name, axes):
        """Return a mask, (batch, sizes of ``axes``), as an input of the model."""
        if name not in self.masks:
            made = ops.parameter(ov.PartialShape([-1] * (len(axes) + 1)), ov.Type.boolean)
            made.output(0).set_names({f"mask:{name}"})
            self.masks[name] = made
        return self.masks[name]

    def kept(self, name, axes):
        """Return a mask that broadcasts against the tensor."""
        missing = [axis for axis in range(1, self.rank) if axis not in axes]
        mask = self.mask(name, axes)
        return ops.unsqueeze(mask, _integers(*missing)) if missing else mask


def _integers(*values):
    return ops.constant(np.array(values, np.int64))


def _zero():
    return ops.constant(np.float32(0))


def _reduce(operator, tensor, axes, *, keep=False):
    return operator(tensor, _integers(*axes), keep) if axes else ops.convert(tensor, "f32")


def _batch_first(step, value):
    return ops.transpose(value.tensor, _integers(step.axis, *(a for a in range(value.rank) if a != step.axis)))


def _mean(step, value, tensor=None, *, keep=False):
    tensor = value.tensor if tensor is None else tensor
    if step.mask is None:
        return _reduce(ops.reduce_mean, tensor, step.axes, keep=keep)
    kept = value.kept(step.mask, step.axes)
    total = _reduce(ops.reduce_sum, ops.select(kept, tensor, _zero()), step.axes, keep=keep)
    return ops.divide(total, _reduce(ops.reduce_sum, ops.convert(kept, "f32"), step.axes, keep=keep))


def _max(step, value):
    value.doubts.append(_mean(step, value).output(0))
    if step.mask is None:
        return _reduce(ops.reduce_max, value.tensor, step.axes)
    kept = value.kept(step.mask, step.axes)
    lowest = ops.constant(np.float32(-np.inf))
    return _reduce(ops.reduce_max, ops.select(kept, value.tensor, lowest), step.axes)


def _std(step, value):
    around = ops.subtract(value.tensor, _mean(step, value, keep=True))
    return ops.sqrt(_mean(step, value, ops.multiply(around, around)))


def _select(step, value):
    return ops.gather(value.tensor, ops.constant(np.int64(step.position)), ops.constant(np.int64(step.axis)))


def _last(step, value):
    mask = value.mask(step.mask, (step.axis,))
    size = ops.gather(ops.shape_of(mask), ops.constant(np.int64(1)), ops.constant(np.int64(0)))
    places = ops.range(ops.constant(np.int64(0)), size, ops.constant(np.int64(1)), "i64")
    # Where nothing is kept this is -1, which counts from the end: the last of all.
    last = ops.reduce_max(ops.select(mask, ops.unsqueeze(places, _integers(0)), _integers(-1)), _integers(1), False)
    return ops.gather(value.tensor, last, ops.constant(np.int64(step.axis)), 1)


def _positions(step, value):
    others = [axis for axis in range(1, value.rank) if axis not in step.axes]
    front = ops.transpose(value.tensor, _integers(0, *step.axes, *others))
    sizes = ops.gather(ops.shape_of(value.tensor), _integers(*others), ops.constant(np.int64(0)))
    rows = ops.reshape(front, ops.concat([_integers(-1), sizes], 0), False)
    if step.mask is None:
        return rows
    kept = ops.reshape(value.mask(step.mask, step.axes), _integers(-1), False)
    places = ops.squeeze(ops.non_zero(kept), _integers(0))
    return ops.gather(rows, places, ops.constant(np.int64(0)))


def _slice(step, value):
    return ops.slice(value.tensor, *(_integers(number) for number in (step.start, step.stop, 1, step.axis)))


def _flatten(_, value):
    return ops.reshape(value.tensor, _integers(0, -1), True)


def _take(step, value):
    return ops.gather(value.tensor, ops.constant(step.indices.astype(np.int64)), ops.constant(np.int64(1)))


def _matmul(step, value):
    return ops.matmul(value.tensor, ops.constant(np.ascontiguousarray(step.matrix)), False, False)


_OPERATORS = {
    steps.BatchFirst: _batch_first,
    steps.Flatten: _flatten,
    steps.Last: _last,
    steps.MatMul: _matmul,
    steps.Max: _max,
    steps.Mean: _mean,
    steps.Positions: _positions,
    steps.Select: _select,
    steps.Slice: _slice,
    steps.Std: _std,
    steps.Take: _take,
}
