"""ONNX graphs: what is refused before ONNX Runtime, which parses them in C++, sees them.

The file is walked as ONNX's schema (onnx.proto3) has it, just far enough to find weights in other
files and operators that are not the standard's; the bytes that were looked at are handed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from decode_zoo.core.errors import InputError, VerificationError
from decode_zoo.core.files import read_at_most

__all__ = ["MAX_GRAPH_BYTES", "check_with_onnx", "read_graph"]

MAX_GRAPH_BYTES = 64 << 20  # the largest published graph has 15 MB
_MOST_FIELDS = 5000  # of one message
_DOMAINS = {b"", b"ai.onnx", b"ai.onnx.ml"}

# By message and number of a field: the message in it that is looked into.
_PARTS = {
    ("Model", 7): "Graph",
    ("Model", 8): "OperatorSet",
    ("OperatorSet", 1): "Domain",
    ("Graph", 1): "Node",
    ("Graph", 5): "Tensor",
    ("Node", 5): "Attribute",
    ("Node", 7): "Domain",
}
_REFUSED = {
    ("Model", 20): "it has training steps",
    ("Model", 25): "it has functions of its own",
    ("Graph", 15): "it has sparse arrays",
    ("Tensor", 13): "it keeps its weights in another file",
    ("Tensor", 14): "it keeps its weights in another file",
    **{
        ("Attribute", number): "it has a node with arrays or a graph inside"
        for number in (5, 6, 10, 11, 22, 23)
    },
}


def read_graph(path: Path) -> bytes:
    """Return the content of model.onnx, or raise VerificationError for what is refused."""
    try:
        content = read_at_most(path, MAX_GRAPH_BYTES)
        _check("Model", memoryview(content))
    except InputError as error:
        raise VerificationError(error.message, remedy=error.remedy) from error
    except ValueError as error:
        raise VerificationError(
            f"{path} cannot be loaded as the graph of a model: {error}.",
            remedy="It is damaged, or not made by decode-zoo: fetch or export it again.",
        ) from error
    return content


def check_with_onnx(path: Path) -> str:
    """Check a graph in full with the package onnx, where it is installed; return what was found."""
    try:
        import onnx
    except ImportError:
        return f"{path.name} was not checked by onnx.checker: the package onnx is not installed"
    try:
        onnx.checker.check_model(read_graph(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise VerificationError(
            f"{path} is not valid ONNX: {error}", remedy="Fetch or export it again."
        ) from error
    return f"{path.name} is valid ONNX (onnx.checker {onnx.__version__})"


def _check(message: str, data: memoryview) -> None:
    """Raise ValueError if there is anything in a message that a network does not need."""
    if message == "Domain":
        if bytes(data) not in _DOMAINS:
            raise ValueError("it needs operators that are not of the ONNX standard")
        return
    for number, value in _fields(data):
        field = (message, number)
        if field in _REFUSED and value != 0:  # a tensor may say that it is in this file: 0
            raise ValueError(_REFUSED[field])
        if field in _PARTS:
            if isinstance(value, int):
                raise ValueError("it is no ONNX model")
            _check(_PARTS[field], value)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield numbers and values of the fields of a protocol-buffer message, one level deep."""
    place = count = 0
    while place < len(data):
        count += 1
        if count > _MOST_FIELDS:
            raise ValueError("it has more parts than the graph of a network")
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        # Other readers cut longer keys to 32 bits, and would see another field than this one.
        if number == 0 or key >= 1 << 32 or wire not in (0, 1, 2, 5):
            raise ValueError("it is no ONNX model")
        value, place = _varint(data, place) if wire in (0, 2) else ({1: 8, 5: 4}[wire], place)
        if wire == 0:
            yield number, value
        elif value > len(data) - place:
            raise ValueError("it is cut off")
        else:
            yield number, data[place : place + value]
            place += value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & ((1 << 64) - 1), place + count + 1
    raise ValueError("it is cut off")
