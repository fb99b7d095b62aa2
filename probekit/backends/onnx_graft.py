"""Programs of steps as nodes of an ONNX graph, so that only features leave the runtime.

A program with a step that has no form as nodes, or that the model's operator set cannot express, keeps its raw
activation as an output and runs in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probekit.backends.onnx_graph import inferred_graph
from probekit.backends.onnx_lowering import Lowering
from probekit.backends.onnx_means import ResidualSums
from probekit.backends.onnx_prune import prune

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx

    from probekit.backends.onnx_lowering import Source
    from probekit.components import Array, Wanted


@dataclass(frozen=True)
class Grafted:
    """What was grafted onto a model.

    Args:
        sources: one for each wanted, in their order; None for an input of the model, which NumPy reduces.
        outputs: names of all outputs to fetch.
        masks: the graph's input of each mask.
        large: constants that the session is to be given, by name.
        prefix: what the names of all grafted nodes begin with; the rest up to ``:`` is the tap's name.
    """

    sources: tuple[Source | None, ...]
    outputs: tuple[str, ...]
    masks: Mapping[str, str]
    large: Mapping[str, Array]
    prefix: str


def graft(
    model: onnx.ModelProto, wanted: Sequence[Wanted], more: Sequence[str] = (), *, exact: bool = False
) -> Grafted:
    """Make a model, in place, compute the features of ``wanted`` and the tensors ``more``, and nothing else.

    Args:
        model: with its weights; what nothing needs is cut away.
        wanted: what the features are.
        more: names of tensors to be outputs besides.
        exact: read every tapped tensor itself, also where its mean could come from the tensors before it.
    """
    typed = {value.name: value for value in model.graph.output}
    inputs = {value.name for value in model.graph.input}
    prune(model, dict.fromkeys([*(one.tap.name for one in wanted if one.tap.name not in inputs), *more]))
    types = tensor_types(model, typed.values())
    ranks = {name: len(one.shape.dim) for name, one in types.items() if one.HasField("shape")}
    sums = None if exact else ResidualSums(model.graph, ranks)
    lowering = Lowering(model, {name: one.elem_type for name, one in types.items()}, sums)
    sources = tuple(None if one.tap.name in inputs else lowering.lower(one) for one in wanted)
    lowering.finish()
    outputs = [name for source in sources if source is not None for name in source.outputs()]
    outputs = list(dict.fromkeys([*outputs, *more]))
    set_outputs(model, outputs, typed)
    return Grafted(sources, tuple(outputs), lowering.masks, lowering.large, lowering.prefix)


def set_outputs(model: onnx.ModelProto, names: Sequence[str], typed: Mapping[str, onnx.ValueInfoProto]) -> None:
    """Replace a model's outputs, in place; an output needs no type."""
    import onnx

    typed = {**{value.name: value for value in model.graph.value_info}, **typed}
    outputs = [typed.get(name) or onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names)]
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def raw_outputs(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, str]:
    """Make a model, in place, compute some tensors and nothing else; return the output that holds each.

    Its inputs are no outputs. A tensor whose values NumPy cannot hold, such as bfloat16, is cast to float32.
    """
    typed = {value.name: value for value in model.graph.output}
    inputs = {value.name for value in model.graph.input}
    names = [name for name in dict.fromkeys(names) if name not in inputs]
    prune(model, names)
    dtypes = {name: one.elem_type for name, one in tensor_types(model, typed.values()).items()}
    lowering = Lowering(model, dtypes)
    outputs = {name: lowering.raw(name) for name in names}
    lowering.finish()
    set_outputs(model, list(outputs.values()), typed)
    return outputs


def tensor_types(
    model: onnx.ModelProto, more: Collection[onnx.ValueInfoProto] = ()
) -> dict[str, onnx.TypeProto.Tensor]:
    """Return the declared or inferred type of each tensor, by name."""
    found = inferred_graph(model)
    values = (*more, *found.input, *found.value_info, *found.output)
    return {value.name: value.type.tensor_type for value in values if value.type.HasField("tensor_type")}
