"""Digests of an ONNX tensor by all that it is computed from: operators, their attributes, weights and inputs.

The names of nodes and of tensors between them do not count, nor does what comes after a tensor, so that two exports
agree on what they have in common. The names of the model's inputs do: they say what is fed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from probekit.backends.onnx_prune import needed_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import onnx

_CHUNK = 1 << 20
_Digest = bytes
_Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


def tensor_digests(model: onnx.ModelProto, names: Sequence[str], files: Mapping[str, Path]) -> dict[str, str]:
    """Return the digest of each tensor out of ``names``.

    Args:
        model: nodes in an order in which they can run.
        names: tensors of the main graph.
        files: the checked real file of each location of external data.

    Raises:
        KeyError: a tensor is read that nothing before it makes.
    """
    maker = _Digests(model, files)
    nodes, needed = needed_nodes(model.graph, names)
    known = maker.weights(model.graph, needed)
    for value in model.graph.input:
        if value.name not in known:
            known[value.name] = _hash("input", value.name, value.type.tensor_type.elem_type)
    maker.run((model.graph.node[number] for number in nodes), known, maker.versions(model.opset_import))
    return {name: known[name].hex() for name in names}


def _hash(*parts: object) -> _Digest:
    """Return the digest of numbers, texts and bytes, each set off from the next by its type and length."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(f"{type(part).__name__}{len(content)}:".encode())
        digest.update(content)
    return digest.digest()


class _Digests:
    def __init__(self, model: onnx.ModelProto, files: Mapping[str, Path]) -> None:
        self._files = files
        self._functions: dict[_Key, onnx.FunctionProto] = {
            (one.domain, one.name, one.overload): one for one in model.functions
        }
        self._bodies: dict[_Key, _Digest] = {}

    @staticmethod
    def versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
        """Return the operator set of each domain."""
        return {_domain(one.domain): one.version for one in imports}

    def weights(self, graph: onnx.GraphProto, needed: set[str] | None = None) -> dict[str, _Digest]:
        """Return the digests of a graph's initializers by name; of those in ``needed`` only, if given."""
        found = {
            tensor.name: self._tensor(tensor) for tensor in graph.initializer if needed is None or tensor.name in needed
        }
        for sparse in graph.sparse_initializer:
            if needed is None or sparse.values.name in needed:
                found[sparse.values.name] = self._sparse(sparse)
        return found

    def run(
        self, nodes: Iterable[onnx.NodeProto], known: dict[str, _Digest], versions: Mapping[str, int]
    ) -> dict[str, _Digest]:
        """Add the digests of the nodes' outputs to ``known`` and return it."""
        for node in nodes:
            whole = self._node(node, known, versions)
            for number, name in enumerate(node.output):
                if name:
                    known[name] = whole if node.op_type == "Constant" else _hash("output", whole, number)
        return known

    def _node(self, node: onnx.NodeProto, known: Mapping[str, _Digest], versions: Mapping[str, int]) -> _Digest:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            return self._tensor(node.attribute[0].t)
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        key = (node.domain, node.op_type, node.overload)
        operator: tuple[object, ...]
        if key in self._functions:
            operator = ("function", self._function(key))
        else:
            domain = _domain(node.domain)
            operator = ("node", domain, node.op_type, versions.get(domain, 0))
        parts = [self._attribute(attribute, known, versions) for attribute in attributes]
        inputs = [known[name] if name else b"" for name in node.input]
        return _hash(*operator, len(parts), *parts, len(inputs), *inputs)

    def _function(self, key: _Key) -> _Digest:
        """Return the digest of a local function."""
        if key not in self._bodies:
            one = self._functions[key]
            # The standard forbids a function that calls itself; a file may hold one all the same.
            self._bodies[key] = b"itself"
            versions = self.versions(one.opset_import)
            known = {name: _hash("argument", number) for number, name in enumerate(one.input)}
            self.run(one.node, known, versions)
            defaults = [self._attribute(attribute, known, versions) for attribute in one.attribute_proto]
            self._bodies[key] = _hash(*sorted(defaults), *(known[name] for name in one.output))
        return self._bodies[key]

    def _attribute(
        self, attribute: onnx.AttributeProto, known: Mapping[str, _Digest], versions: Mapping[str, int]
    ) -> _Digest:
        graphs = ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)
        tensors = ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors)
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        parts: list[Any] = [attribute.name, attribute.type, attribute.ref_attr_name]
        parts += [self._body(graph, known, versions) for graph in graphs]
        parts += [self._tensor(tensor) for tensor in tensors]
        parts += [self._sparse(one) for one in (*sparse, *attribute.sparse_tensors)]
        parts += [attribute.s, attribute.i, attribute.f]
        for values in (attribute.strings, attribute.ints, attribute.floats):
            parts += [len(values), *values]
        return _hash(*parts)

    def _body(self, graph: onnx.GraphProto, known: Mapping[str, _Digest], versions: Mapping[str, int]) -> _Digest:
        """Return the digest of a node's body, in which all tensors of the outer graph can be read."""
        inner = {**known, **{value.name: _hash("formal", number) for number, value in enumerate(graph.input)}}
        inner.update(self.weights(graph))
        self.run(graph.node, inner, versions)
        return _hash("body", len(graph.input), *(inner[value.name] for value in graph.output))

    def _sparse(self, sparse: onnx.SparseTensorProto) -> _Digest:
        return _hash("sparse", tuple(sparse.dims), self._tensor(sparse.values), self._tensor(sparse.indices))

    def _tensor(self, tensor: onnx.TensorProto) -> _Digest:
        """Return the digest of a tensor's type, shape and values, wherever the file has put them."""
        import onnx

        digest = hashlib.blake2b(f"{tensor.data_type}{tuple(tensor.dims)}".encode(), digest_size=16)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            self._read_outside(tensor, digest)
        elif tensor.HasField("raw_data"):
            digest.update(tensor.raw_data)
        elif tensor.data_type == onnx.TensorProto.STRING:
            digest.update(_hash(*tensor.string_data))
        else:
            digest.update(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)).raw_data)
        return digest.digest()

    def _read_outside(self, tensor: onnx.TensorProto, digest: Any) -> None:
        from probekit.backends.onnx_external import stored_bytes

        entries = {entry.key: entry.value for entry in tensor.external_data}
        left = stored_bytes(tensor)
        with self._files[entries["location"]].open("rb") as stream:
            stream.seek(int(entries.get("offset", 0)))
            while left and (chunk := stream.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
