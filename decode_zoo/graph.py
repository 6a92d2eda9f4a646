"""ONNX graphs, looked at before anything runs them.

ONNX Runtime parses a graph in C++ and believes much of it: that other files may be read for its
weights, that operators of other makers may be loaded, that sizes are sensible. Here the few fields
that matter are read from the file itself, in Python, and all that a network of this package does
not need is refused. What was looked at is what is handed over: the bytes, not the path.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from decode_zoo.errors import InputError, VerificationError
from decode_zoo.inputfile import open_input

__all__ = ["MAX_GRAPH_BYTES", "Graph", "read_graph"]

Value = int | bytes
Shape = tuple["int | str", ...]

# The published graph has 1.7 MB.
MAX_GRAPH_BYTES = 256 << 20

_DOMAINS = {b"", b"ai.onnx"}
_UNUSED_DOMAINS = {b"ai.onnx.ml"}  # imported by converters, whether needed or not
_OPSETS = range(13, 24)
# Arithmetic whose results are not larger than the inputs make them. No control flow, nothing
# random, nothing that makes a large array of a small number.
_OPERATORS = frozenset(
    b"Add BatchNormalization Concat Conv Div Gemm Identity MatMul Mul ReduceSum Relu Reshape "
    b"Squeeze Sub Transpose Unsqueeze".split()
)
_ITEM_BYTES = {1: 4, 6: 4, 7: 8, 11: 8}  # float, int32, int64, double
_FLOAT = 1
_MOST_NODES, _MOST_ATTRIBUTE, _MOST_DIMS = 1000, 100, 8

# Numbers of the fields that are read, in the schema that ONNX publishes (onnx.proto3).
_IR_VERSION, _GRAPH, _OPSET_IMPORT, _METADATA, _TRAINING, _FUNCTIONS = 1, 7, 8, 14, 20, 25
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_INT, _INTS, _NO_ARRAYS = 3, 8, {1, 2, 3, 4, 7, 8, 9, 13, 20}
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
    """

    path: Path
    content: bytes
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    metadata: Mapping[str, str]

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
        functions, sparse arrays, arrays of other size than their shapes say, or large attributes.
    """
    try:
        with open_input(path) as file:
            content = file.read(MAX_GRAPH_BYTES + 1)
    except InputError as error:
        raise VerificationError(error.message, remedy=error.remedy) from error
    try:
        if len(content) > MAX_GRAPH_BYTES:
            raise ValueError(f"it has more than {MAX_GRAPH_BYTES >> 20} MiB")
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
    inputs, outputs = _graph(graphs[0])
    return Graph(path, content, inputs, outputs, metadata)


def _graph(data: bytes) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Check nodes and arrays; return shapes of inputs and outputs."""
    ends: dict[int, dict[str, Shape]] = {_INPUT: {}, _OUTPUT: {}}
    nodes, arrays = 0, set()
    for number, value in _fields(data):
        if number == _NODE:
            nodes += 1
            _check_node(_bytes(value))
        elif number == _INITIALIZER:
            arrays.add(_check_array(_bytes(value)))
        elif number == _SPARSE:
            raise ValueError("it has sparse arrays")
        elif number in ends:
            name, shape = _value_info(_bytes(value))
            ends[number][name] = shape
    if nodes > _MOST_NODES:
        raise ValueError(f"it has {nodes} nodes")
    # Until ONNX 1.4 arrays were inputs, too; such a graph would let callers replace its weights.
    inputs, outputs = ends[_INPUT], ends[_OUTPUT]
    if set(inputs) != {"promoter", "rna"} or set(outputs) != {"prediction"} or arrays & set(inputs):
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
    return inputs, outputs


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(name[:60] for name in sorted(names)[:5]) or "nothing"


def _check_node(data: bytes) -> None:
    for number, value in _fields(data):
        if number == _DOMAIN and value not in _DOMAINS:
            raise ValueError(f"it has a custom operator, of {_bytes(value)[:60]!r}")
        if number == _OP_TYPE and value not in _OPERATORS:
            raise ValueError(f"it has an operator that is not allowed, {_bytes(value)[:60]!r}")
        if number == _ATTRIBUTE:
            for part, item in _fields(_bytes(value)):
                if part not in _NO_ARRAYS:
                    raise ValueError("it has a node with arrays or a graph inside")
                packed = _integers(item) if part in (_INT, _INTS) else ()
                if any(abs(integer) > _MOST_ATTRIBUTE for integer in packed):
                    raise ValueError("it has a node with an attribute that is out of range")


def _check_array(data: bytes) -> str:
    """Check that an array's bytes are all that its shape says, and in this file."""
    dims: list[int] = []
    kind, raw, name = 0, b"", ""
    for number, value in _fields(data):
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
    return name


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
    for number, value in _fields(_bytes(described.get(2, b""))):
        if number == 1:
            size = _once(_bytes(value))
            shape.append(_number(size[1]) if 1 in size else _text(size.get(2, b"")))
    return name, tuple(shape)


# -- protocol buffers ------------------------------------------------------------------------------


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Yield numbers and values of a message's fields, one level deep."""
    place, end = 0, len(data)
    while place < end:
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
    for number, value in _fields(data):
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
    found, place = [], 0
    while place < len(value):
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


def _text(value: Value) -> str:
    return _bytes(value).decode()
