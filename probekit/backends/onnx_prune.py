"""What an ONNX graph needs for some of its tensors: the rest is cut away, for ONNX Runtime would compute it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Give the bodies of a node such as If, Loop and Scan."""
    import onnx

    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def captured(node: onnx.NodeProto) -> list[str]:
    """Return the names that the bodies of a node read from outside themselves, in order, each once."""
    names: dict[str, None] = {}
    for body in subgraphs(node):
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        own |= {tensor.values.name for tensor in body.sparse_initializer}
        own |= {name for inner in body.node for name in inner.output}
        read = [name for inner in body.node for name in (*inner.input, *captured(inner))]
        read += [value.name for value in body.output]
        names.update(dict.fromkeys(name for name in read if name and name not in own))
    return list(names)


def read_by(node: onnx.NodeProto) -> list[str]:
    """Return the names of the tensors that a node reads, its bodies' included."""
    return [*filter(None, node.input), *captured(node)]


def needed_nodes(graph: onnx.GraphProto, names: Iterable[str]) -> tuple[list[int], set[str]]:
    """Return the nodes, by their number in order, and the names of the tensors that some tensors are computed from."""
    producer = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    waiting, tensors, nodes = list(names), set(names), set()
    while waiting:
        number = producer.get(waiting.pop())
        if number is None or number in nodes:
            continue
        nodes.add(number)
        found = set(read_by(graph.node[number])) - tensors
        tensors |= found
        waiting += found
    return sorted(nodes), tensors


def prune(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Cut away, in place, all that no tensor out of ``names`` needs: nodes, weights, inputs, functions, operator sets.

    The outputs are gone afterwards. Nothing is copied: a model may fill half of the memory.
    """
    graph = model.graph
    nodes, tensors = needed_nodes(graph, names)
    kept = set(nodes)
    for number in reversed(range(len(graph.node))):
        if number not in kept:
            del graph.node[number]
    made = {name for node in graph.node for name in node.output}
    for values in (graph.initializer, graph.input):
        for number in reversed(range(len(values))):
            if values[number].name not in tensors:
                del values[number]
    for number in reversed(range(len(graph.sparse_initializer))):
        if graph.sparse_initializer[number].values.name not in tensors:
            del graph.sparse_initializer[number]
    for number in reversed(range(len(graph.value_info))):
        if graph.value_info[number].name not in made:
            del graph.value_info[number]
    del graph.output[:]
    del graph.quantization_annotation[:]
    del model.training_info[:]
    _prune_functions(model)


def _prune_functions(model: onnx.ModelProto) -> None:
    functions = {(one.domain, one.name, one.overload): one for one in model.functions}
    called: set[tuple[str, str, str]] = set()
    domains = {""}
    waiting = list(model.graph.node)
    while waiting:
        node = waiting.pop()
        domains.add(node.domain)
        waiting += [inner for body in subgraphs(node) for inner in body.node]
        key = (node.domain, node.op_type, node.overload)
        if key in functions and key not in called:
            called.add(key)
            waiting += functions[key].node
    for number in reversed(range(len(model.functions))):
        one = model.functions[number]
        if (one.domain, one.name, one.overload) not in called:
            del model.functions[number]
    for number in reversed(range(len(model.opset_import))):
        domain = model.opset_import[number].domain
        if domain not in domains | {"ai.onnx"}:
            del model.opset_import[number]
