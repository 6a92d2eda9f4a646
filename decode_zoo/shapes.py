"""What the nodes of a graph make of its inputs: shapes, and which steps are not linear.

Each operator has a rule, and there are few. Numbers of genes and of bins stay names; whatever is
computed has genes along one dimension, bins along at most one other, and so many numbers for each.
What a graph takes of memory follows from that, and that no gene sees another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["GENES", "OPERATORS", "Array", "Node", "Shape", "trace"]

Shape = tuple["int | str", ...]

GENES = "genes"
# Numbers for each gene and bin, all intermediate results together; the published graph has 5,000.
_MOST_NUMBERS = 200_000


@dataclass(frozen=True)
class Array:
    """Constant numbers.

    Attributes
    ----------
    shape : tuple of int
    integers : tuple of int or None
        The numbers themselves of a short list of whole ones.
    """

    shape: tuple[int, ...]
    integers: tuple[int, ...] | None


@dataclass(frozen=True)
class Node:
    """One step of a computation.

    Attributes
    ----------
    operator : str
    inputs, outputs : tuple of str
        Names.
    attributes : Mapping of str to tuple of int
        Those that are no whole numbers are empty.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, tuple[int, ...]]

    def number(self, name: str, default: int) -> int:
        """Return an attribute of one whole number."""
        values = self.attributes.get(name, (default,))
        if len(values) != 1:
            raise ValueError(f"its {self.operator} has a '{name[:60]}' that is no number")
        return values[0]


def trace(
    nodes: Sequence[Node], arrays: Mapping[str, Array], inputs: Mapping[str, Shape]
) -> tuple[dict[str, Shape], tuple[tuple[str, int], ...]]:
    """Follow a computation.

    Parameters
    ----------
    nodes : sequence of Node
        Each behind those that it needs.
    arrays : Mapping of str to Array
    inputs : Mapping of str to tuple
        Shapes; names instead of numbers for dimensions of any size, `GENES` one of them.

    Returns
    -------
    shapes : dict of str to tuple
        Of the inputs, and of all that the nodes make.
    nonlinear : tuple of (str, int)
        Steps that are not linear: operator, and numbers that it takes for each gene and bin.

    Raises
    ------
    ValueError
        If an operator is not known or used in another way than networks need; a step multiplies
        what depends on the inputs, mixes genes, or depends on no input; or results are too large.
    """
    shapes = dict(inputs)
    nonlinear, total = [], 0
    for node in nodes:
        if node.operator not in OPERATORS:
            raise ValueError(f"it has an operator that is not allowed, {node.operator[:60]!r}")
        rule, allowed = OPERATORS[node.operator]
        if odd := set(node.attributes) - allowed:
            raise ValueError(
                f"its {node.operator} has an attribute that is not allowed, {min(odd)[:60]!r}"
            )
        operands: list[Shape | Array] = []
        for name in node.inputs:
            if name not in shapes and name not in arrays:
                raise ValueError(f"its {node.operator} needs {name[:60]!r}, which nothing makes")
            operands.append(shapes[name] if name in shapes else arrays[name])
        if len(node.outputs) != 1 or node.outputs[0] in shapes or node.outputs[0] in arrays:
            raise ValueError(f"its {node.operator} does not make one new result")
        found = rule(node, operands)
        named = [size for size in found if isinstance(size, str)]
        if named.count(GENES) != 1 or len(named) > 2 or len(set(named)) < len(named):
            raise ValueError(f"its {node.operator} mixes genes, or bins, or is of neither")
        width = math.prod(size for size in found if isinstance(size, int))
        total += width
        if total > _MOST_NUMBERS:
            raise ValueError(f"its {node.operator} makes more numbers than a network needs")
        if node.operator in _NONLINEAR:
            nonlinear.append((node.operator, width))
        shapes[node.outputs[0]] = found
    return shapes, tuple(nonlinear)


# -- rules -----------------------------------------------------------------------------------------


def _first(node: Node, operands: Sequence[Shape | Array], others: range) -> Shape:
    """Shape of the first operand, if it is the only one that depends on the inputs."""
    shape, *rest = operands or [Array((), None)]
    if isinstance(shape, Array) or len(rest) not in others or not _constant(rest):
        raise _misused(node)
    return shape


def _constant(operands: Sequence[Shape | Array]) -> bool:
    return all(isinstance(operand, Array) for operand in operands)


def _misused(node: Node) -> ValueError:
    return ValueError(f"its {node.operator} is not used as a network would")


def _same(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    return _first(node, operands, range(1))


def _bounded(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shape = _first(node, operands, range(1, 2))
    if _array(node, operands[1]).shape:
        raise _misused(node)
    return shape


def _normalised(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    return _first(node, operands, range(4, 5))


def _sum(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    if len(operands) != 2:
        raise _misused(node)
    a, b = (item.shape if isinstance(item, Array) else item for item in operands)
    rank = max(len(a), len(b))
    found: list[int | str] = []
    for left, right in zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True):
        if left != right and 1 not in (left, right):
            raise _misused(node)
        found.append(right if left == 1 else left)
    return tuple(found)


def _product(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    if not (_constant(operands[1:]) or (node.operator == "Mul" and _constant(operands[:1]))):
        raise _misused(node)
    return _sum(node, operands)


def _matrix_product(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shape = _first(node, operands, range(1, 3 if node.operator == "Gemm" else 2))
    weights = _array(node, operands[1]).shape
    if node.number("transB", 0):
        weights = weights[::-1]
    if len(weights) != 2 or len(shape) < 2 or shape[-1] != weights[0] or node.number("transA", 0):
        raise _misused(node)
    found = (*shape[:-1], weights[1])
    if node.operator == "Gemm" and (
        len(shape) != 2 or any(_sum(node, (found, bias)) != found for bias in operands[2:])
    ):
        raise _misused(node)
    return found


def _convolution(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shape = _first(node, operands, range(1, 3))
    weights = _array(node, operands[1]).shape
    plain = all(
        set(node.attributes.get(name, ())) <= {value}
        for name, value in (("dilations", 1), ("strides", 1), ("group", 1), ("pads", 0))
    )
    if not plain or len(weights) != len(shape) or len(shape) < 3 or shape[1] != weights[1]:
        raise _misused(node)
    if "kernel_shape" in node.attributes and node.attributes["kernel_shape"] != weights[2:]:
        raise _misused(node)
    # Of any number of bins there are as many left, at most.
    places = [
        size if isinstance(size, str) else size - width + 1
        for size, width in zip(shape[2:], weights[2:], strict=True)
    ]
    if any(isinstance(size, int) and size < 1 for size in places):
        raise _misused(node)
    return (shape[0], weights[0], *places)


def _transposed(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shape = _same(node, operands)
    order = node.attributes.get("perm", ())
    if sorted(order) != list(range(len(shape))):
        raise _misused(node)
    return tuple(shape[place] for place in order)


def _axes(node: Node, operands: Sequence[Shape | Array], rank: int) -> set[int]:
    integers = _array(node, operands[1]).integers
    if not integers or not all(-rank <= axis < rank for axis in integers):
        raise _misused(node)
    axes = {axis % rank for axis in integers}
    if len(axes) < len(integers):
        raise _misused(node)
    return axes


def _unsqueezed(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shape = _first(node, operands, range(1, 2))
    rank = len(shape) + len(_array(node, operands[1]).integers or ())
    axes = _axes(node, operands, rank)
    sizes = iter(shape)
    return tuple(1 if axis in axes else next(sizes) for axis in range(rank))


def _squeezed(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shape = _first(node, operands, range(1, 2))
    axes = _axes(node, operands, len(shape))
    if any(shape[axis] != 1 for axis in axes):
        raise _misused(node)
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _summed(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shape = _first(node, operands, range(1, 2))
    axes = _axes(node, operands, len(shape))
    if node.number("keepdims", 1):
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _joined(node: Node, operands: Sequence[Shape | Array]) -> Shape:
    shapes = [operand for operand in operands if not isinstance(operand, Array)]
    rank = len(shapes[0]) if shapes else 0
    axis = node.number("axis", rank)
    if len(shapes) < len(operands) or not -rank <= axis < rank:
        raise _misused(node)
    axis %= rank
    total = 0
    for shape in shapes:
        if len(shape) != rank:
            raise _misused(node)
        size = shape[axis]
        rest, first = (other[:axis] + other[axis + 1 :] for other in (shape, shapes[0]))
        if isinstance(size, str) or rest != first:
            raise _misused(node)
        total += size
    return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def _array(node: Node, operand: Shape | Array) -> Array:
    if not isinstance(operand, Array):
        raise _misused(node)
    return operand


Rule = Callable[[Node, Sequence["Shape | Array"]], Shape]

# Attributes that an operator may have. No control flow, nothing random, nothing that makes a large
# array of a small number.
OPERATORS: Mapping[str, tuple[Rule, frozenset[str]]] = {
    operator: (rule, frozenset(attributes.split()))
    for operator, rule, attributes in (
        ("Add", _sum, ""),
        ("BatchNormalization", _normalised, "epsilon momentum"),
        ("Concat", _joined, "axis"),
        ("Conv", _convolution, "dilations group kernel_shape pads strides"),
        ("Div", _product, ""),
        ("Gemm", _matrix_product, "alpha beta transA transB"),
        ("Identity", _same, ""),
        ("MatMul", _matrix_product, ""),
        ("Min", _bounded, ""),
        ("Mul", _product, ""),
        ("ReduceSum", _summed, "keepdims noop_with_empty_axes"),
        ("Relu", _same, ""),
        ("Sqrt", _same, ""),
        ("Squeeze", _squeezed, ""),
        ("Sub", _sum, ""),
        ("Transpose", _transposed, "perm"),
        ("Unsqueeze", _unsqueezed, ""),
    )
}
# How many of them there are, and how wide, each family says of its networks.
_NONLINEAR = frozenset({"Min", "Relu", "Sqrt"})
