"""The mean of a residual sum, taken before the sum: ``mean(conv(x) + y) = conv(mean(x)) + mean(y)``.

A runtime computes a 1 x 1 convolution, the sum after it and the activation after that as one operator. To read the sum
itself would take them apart, and cost one more pass over the whole tensor. A convolution whose kernel is one position
and whose stride is one commutes with the mean over positions, so that the same number comes from tensors that are there
anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

_FUSED_ACTIVATIONS = {"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"}
"""What ONNX Runtime computes together with the convolution and the sum before it."""


class ResidualSums:
    """The sums of a graph whose means can be taken before them.

    Args:
        graph: of the model.
        ranks: number of axes of each tensor where it is known.
    """

    def __init__(self, graph: onnx.GraphProto, ranks: Mapping[str, int]) -> None:
        self._producers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, set[str]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, set()).add(node.op_type)
        self._ranks = ranks

    def mean(self, name: str, node: Callable[..., str]) -> str | None:
        """Return the mean of a sum over its positions, shape (batch, channels, 1, ...); None where it must be read.

        Args:
            name: of the sum, float32.
            node: adds a node to the graph and returns its output: operator, inputs, attributes.
        """
        total = self._producers.get(name)
        if total is None or total.op_type != "Add" or not _FUSED_ACTIVATIONS & self._readers.get(name, set()):
            return None
        if any(self._ranks.get(part) != self._ranks.get(name) for part in total.input):
            return None
        pointwise = next((part for part in total.input if self._is_pointwise(part)), None)
        if pointwise is None:
            return None
        convolution = self._producers[pointwise]
        parts = []
        for part in total.input:
            if part == pointwise:
                inside = node("GlobalAveragePool", [convolution.input[0]])
                parts.append(node("Conv", [inside, *convolution.input[1:]], **_attributes(convolution)))
            else:
                parts.append(node("GlobalAveragePool", [part]))
        return node("Add", parts, since=7)

    def _is_pointwise(self, name: str) -> bool:
        """Return whether a tensor is a convolution of one position at stride 1, which nothing else reads."""
        found = self._producers.get(name)
        if found is None or found.op_type != "Conv" or self._readers.get(name) != {"Add"}:
            return False
        attributes = _attributes(found)
        ones = [*attributes.get("kernel_shape", [0]), *attributes.get("strides", [1])]
        padded = any(attributes.get("pads", [])) or attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        return set(ones) == {1} and not padded


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
