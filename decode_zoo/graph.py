"""ONNX graphs, looked at before anything runs them.

ONNX Runtime parses a graph in C++ and believes much of it: that other files may be read for its
weights, that operators of other makers may be loaded, that sizes are sensible. Here the few fields
that matter are read from the file itself, in Python, and all that a network of this package does
not need is refused (what its nodes may do: `shapes`). What was looked at is what is handed over:
the bytes, not the path.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from decode_zoo.errors import InputError, VerificationError
from decode_zoo.files import read_at_most
from decode_zoo.shapes import GENES, Array, Node, Shape, trace

__all__ = ["MAX_GRAPH_BYTES", "Graph", "read_graph"]

Value = int | bytes

# The published graph has 1.7 MB.
MAX_GRAPH_BYTES = 64 << 20

_DOMAINS = {b"", b"ai.onnx"}
_UNUSED_DOMAINS = {b"ai.onnx.ml"}  # imported by converters, whether needed or not
_OPSETS = range(13, 24)
_ITEM_BYTES = {1: 4, 6: 4, 7: 8, 11: 8}  # float, int32, int64, double
_FLOAT, _INT64 = 1, 7
_MOST_NODES, _MOST_ATTRIBUTE, _MOST_DIMS = 1000, 100, 8
# Of a message, and bytes of all but arrays and metadata: what there is to look at stays little.
_MOST_FIELDS, _MOST_INNER_FIELDS, _MOST_BYTES = 5000, 100, 4096

# Numbers of the fields that are read, in the schema that ONNX publishes (onnx.proto3).
_IR_VERSION, _GRAPH, _OPSET_IMPORT, _METADATA, _TRAINING, _FUNCTIONS = 1, 7, 8, 14, 20, 25
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15
_INPUTS, _OUTPUTS, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _INT, _INTS, _NO_ARRAYS = 1, 3, 8, {1, 2, 3, 4, 7, 8, 9, 13, 20}
_DIMS, _DATA_TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14


@dataclass(frozen=True)
class Graph:
    """A graph that is safe to hand over. Made by `read_graph`.

    Attributes
    ----------
    path : Path
        The file, for messages.
    content : bytes
        What was in it.
    inputs, outputs : Mapping of str to tuple
        Shape by name; dimensions of any size by their names.
    metadata : Mapping of str to str
    nonlinear : tuple of (str, int)
        Steps that are not linear: operator, and numbers that it takes for each gene and bin.
    """

    path: Path
    content: bytes
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    metadata: Mapping[str, str]
    nonlinear: tuple[tuple[str, int], ...]

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """Names of the prediction's columns, if the metadata have them.

        Raises
        ------
        VerificationError
            If they are no list of names.
        """
        if "outputs" not in self.metadata:
            return None
        try:
            names = json.loads(self.metadata["outputs"])
        except (ValueError, RecursionError):
            names = None
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise VerificationError(f"{self.path}: 'outputs' in its metadata is no list of names.")
        return tuple(names)


def read_graph(path: Path) -> Graph:
    """Read a graph and refuse what a network of this package does not need.

    Parameters
    ----------
    path : Path
        model.onnx.

    Raises
    ------
    VerificationError
        If it is no ONNX graph, does not turn ``rna`` and ``promoter`` into ``prediction``, or has
        weights in other files, operators or domains that are not on the list, subgraphs,
        functions, sparse arrays, arrays of other size than their shapes say, large attributes, or
        steps that networks do not have (`shapes.trace`).
    """
    try:
        content = read_at_most(path, MAX_GRAPH_BYTES)
    except InputError as error:
        raise VerificationError(error.message, remedy=error.remedy) from error
    try:
        return _model(path, content)
    except ValueError as error:
        raise VerificationError(
            f"{path} cannot be loaded as the graph of a model: {error}.",
            remedy="It is damaged, or not made by decode-zoo: fetch or export it again.",
        ) from error


def _model(path: Path, content: bytes) -> Graph:
    fields = list(_fields(content))
    graphs = [_bytes(value) for number, value in fields if number == _GRAPH]
    if len(graphs) != 1 or _IR_VERSION not in dict(fields):
        raise ValueError("it is no ONNX model")
    metadata: dict[str, str] = {}
    opsets: list[int] = []
    for number, value in fields:
        if number in (_TRAINING, _FUNCTIONS):
            raise ValueError("it has functions or training steps of its own")
        if number == _METADATA:
            entry = _once(_bytes(value))
            key = _text(entry.get(1, b""))
            if key in metadata:
                raise ValueError(f"its metadata have '{key}' twice")
            metadata[key] = _text(entry.get(2, b""))
        if number == _OPSET_IMPORT:
            entry = _once(_bytes(value))
            domain = _bytes(entry.get(1, b""))
            if domain in _DOMAINS:
                opsets.append(_number(entry.get(2, 0)))
            elif domain not in _UNUSED_DOMAINS:
                raise ValueError(f"it needs operators of another maker, {domain[:60]!r}")
    if len(opsets) != 1 or opsets[0] not in _OPSETS:
        raise ValueError(f"its operator set is {opsets}, not one of {_OPSETS[0]} to {_OPSETS[-1]}")
    inputs, outputs, nonlinear = _graph(graphs[0])
    return Graph(path, content, inputs, outputs, metadata, nonlinear)


def _graph(
    data: bytes,
) -> tuple[dict[str, Shape], dict[str, Shape], tuple[tuple[str, int], ...]]:
    """Check nodes and arrays; return shapes of inputs and outputs, and what is not linear."""
    ends: dict[int, dict[str, Shape]] = {_INPUT: {}, _OUTPUT: {}}
    nodes: list[Node] = []
    arrays: dict[str, Array] = {}
    for number, value in _fields(data):
        if number == _NODE:
            nodes.append(_node(_small(value)))
            if len(nodes) > _MOST_NODES:
                raise ValueError(f"it has more than {_MOST_NODES} nodes")
        elif number == _INITIALIZER:
            name, array = _array(_bytes(value))
            if name in arrays:
                raise ValueError(f"it has two arrays '{name[:60]}'")
            arrays[name] = array
        elif number == _SPARSE:
            raise ValueError("it has sparse arrays")
        elif number in ends:
            name, shape = _value_info(_small(value))
            if name in ends[number]:
                raise ValueError(f"it has '{name[:60]}' twice")
            ends[number][name] = shape
    # Until ONNX 1.4 arrays were inputs, too; such a graph would let callers replace its weights.
    inputs, outputs = ends[_INPUT], ends[_OUTPUT]
    if (
        set(inputs) != {"promoter", "rna"}
        or set(outputs) != {"prediction"}
        or not arrays.keys().isdisjoint(inputs)
    ):
        raise ValueError(
            f"it is not the graph of a model: it turns {_listed(inputs)} into {_listed(outputs)}, "
            "not promoter and rna into prediction"
        )
    for shapes, rank in ((inputs, 3), (outputs, 2)):
        for name, shape in shapes.items():
            *free, columns = shape or ("",)
            if len(shape) != rank or not isinstance(columns, int) or columns < 1:
                raise ValueError(f"'{name}' has the shape {shape}, not {rank} dimensions")
            if any(isinstance(size, int) for size in free):
                raise ValueError(f"'{name}' takes {shape} only, not any number of genes and bins")
    named: dict[str, Shape] = {
        name: (GENES, f"{name} bins", shape[-1]) for name, shape in inputs.items()
    }
    found, nonlinear = trace(nodes, arrays, named)
    columns = outputs["prediction"][-1]
    if found.get("prediction") != (GENES, columns):
        raise ValueError(f"its nodes do not make a prediction of {columns} columns for each gene")
    return inputs, outputs, nonlinear


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(name[:60] for name in sorted(names)[:5]) or "nothing"


def _node(data: bytes) -> Node:
    operators: list[str] = []
    names: dict[int, list[str]] = {_INPUTS: [], _OUTPUTS: []}
    attributes: dict[str, tuple[int, ...]] = {}
    for number, value in _fields(data, _MOST_INNER_FIELDS):
        if number == _DOMAIN and value not in _DOMAINS:
            raise ValueError(f"it has a custom operator, of {_bytes(value)[:60]!r}")
        if number == _OP_TYPE:
            operators.append(_text(value))
        elif number in names:
            names[number].append(_text(value))
        elif number == _ATTRIBUTE:
            name, integers = _attribute(_bytes(value))
            if name in attributes:
                raise ValueError(f"it has a node with two attributes '{name[:60]}'")
            attributes[name] = integers
    if len(operators) != 1:
        raise ValueError("it has a node without an operator, or with two")
    return Node(operators[0], tuple(names[_INPUTS]), tuple(names[_OUTPUTS]), attributes)


def _attribute(data: bytes) -> tuple[str, tuple[int, ...]]:
    """Name of an attribute, and its whole numbers, if it has any."""
    names: list[str] = []
    integers: list[int] = []
    for number, value in _fields(data, _MOST_INNER_FIELDS):
        if number not in _NO_ARRAYS:
            raise ValueError("it has a node with arrays or a graph inside")
        if number == _ATTRIBUTE_NAME:
            names.append(_text(value))
        elif number in (_INT, _INTS):
            integers += _integers(value)
    if any(abs(integer) > _MOST_ATTRIBUTE for integer in integers):
        raise ValueError("it has a node with an attribute that is out of range")
    if len(names) != 1:
        raise ValueError("it has a node with an attribute of no name, or of two")
    return names[0], tuple(integers)


def _array(data: bytes) -> tuple[str, Array]:
    """Check that an array's bytes are all that its shape says, and in this file."""
    dims: list[int] = []
    kind, raw, name = 0, b"", ""
    for number, value in _fields(data, _MOST_INNER_FIELDS):
        if number == _EXTERNAL or (number == _LOCATION and value != 0):
            raise ValueError("it keeps its weights in another file")
        if number == _DIMS:
            dims += _integers(value)
        elif number == _DATA_TYPE:
            kind = _number(value)
        elif number == _RAW:
            raw = _bytes(value)
        elif number == _NAME:
            name = _text(value)
    if kind not in _ITEM_BYTES or min(dims, default=0) < 0 or len(dims) > _MOST_DIMS:
        raise ValueError(f"its array '{name[:60]}' is not of plain numbers")
    if math.prod(dims) * _ITEM_BYTES[kind] != len(raw):
        raise ValueError(f"its array '{name[:60]}' is not as long as its shape {dims} says")
    short = kind == _INT64 and len(dims) == 1 and dims[0] <= _MOST_DIMS
    return name, Array(tuple(dims), struct.unpack(f"<{dims[0]}q", raw) if short else None)


def _value_info(data: bytes) -> tuple[str, Shape]:
    entry = _once(data)
    name = _text(entry.get(1, b""))
    tensor = _once(_bytes(entry.get(2, b""))).get(1)
    if tensor is None:
        raise ValueError(f"'{name[:60]}' is no array")
    described = _once(_bytes(tensor))
    if described.get(1) != _FLOAT:
        raise ValueError(f"'{name[:60]}' is not of 32-bit floating-point numbers")
    shape: list[int | str] = []
    for number, value in _fields(_bytes(described.get(2, b"")), _MOST_INNER_FIELDS):
        if number == 1:
            size = _once(_bytes(value))
            shape.append(_number(size[1]) if 1 in size else _text(size.get(2, b"")))
    return name, tuple(shape)


# -- protocol buffers ------------------------------------------------------------------------------


def _fields(data: bytes, most: int = _MOST_FIELDS) -> Iterator[tuple[int, Value]]:
    """Yield numbers and values of a message's fields, one level deep."""
    place, end, count = 0, len(data), 0
    while place < end:
        count += 1
        if count > most:
            raise ValueError("it has more parts than the graph of a network")
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        # Other readers cut longer keys to 32 bits, and would see another field than this one.
        if number == 0 or key >= 1 << 32:
            raise ValueError("it is no ONNX model (a field without number)")
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == 2:
            length, place = _varint(data, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("it is no ONNX model (a field of unknown type)")
        if length > end - place:
            raise ValueError("it is cut off")
        yield number, data[place : place + length]
        place += length


def _once(data: bytes) -> dict[int, Value]:
    """Fields of a message that has each but once; of two, other readers would merge them."""
    found: dict[int, Value] = {}
    for number, value in _fields(data, _MOST_INNER_FIELDS):
        if number in found:
            raise ValueError("it is no ONNX model (a field twice)")
        found[number] = value
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it is cut off")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), place
    raise ValueError("it is no ONNX model (a number without end)")


def _integers(value: Value) -> list[int]:
    """Signed numbers of a repeated field, packed or not."""
    if isinstance(value, int):
        return [_signed(value)]
    found: list[int] = []
    place = 0
    while place < len(value):
        if len(found) == _MOST_INNER_FIELDS:
            raise ValueError("it has more parts than the graph of a network")
        item, place = _varint(value, place)
        found.append(_signed(item))
    return found


def _signed(value: int) -> int:
    (number,) = struct.unpack("<q", struct.pack("<Q", value))
    return int(number)


def _number(value: Value) -> int:
    if isinstance(value, bytes):
        raise ValueError("it is no ONNX model (bytes instead of a number)")
    return _signed(value)


def _bytes(value: Value) -> bytes:
    if isinstance(value, int):
        raise ValueError("it is no ONNX model (a number instead of bytes)")
    return value


def _small(value: Value) -> bytes:
    """Bytes of a message that has no arrays in it."""
    found = _bytes(value)
    if len(found) > _MOST_BYTES:
        raise ValueError(f"it has a node or an end of more than {_MOST_BYTES} bytes")
    return found


def _text(value: Value) -> str:
    return _bytes(value).decode()
