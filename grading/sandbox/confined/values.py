"""Arguments and results of functions as JSON.

A result is compared by what it holds: whatever can be iterated over is an array (a set is sorted), an array or scalar
of numpy is what its `tolist` returns, and nodes of LeetCode's lists and trees are arrays in that judge's form. Of an
endless iterator, no more is read than an answer may hold; mostly the limits on time and memory end it first.

An argument becomes a linked list or a tree if the annotation of its parameter says so.
"""

import itertools
import json
import typing
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_MAX_ITEMS = 1 << 23
"""Items that are read from an iterator: as JSON, so many exceed the limit on the answer (16 MiB) in any case."""


def to_json(result: Any) -> bytes:
    """Return a result as strict JSON. Raises TypeError or ValueError, also for keys that are not strings."""
    encoder = _Encoder()
    text = encoder.encode(result)
    pending = [result, *encoder.converted] if "{" in text else []
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise TypeError("the result has a key that is not a string")
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
    return text.encode()


class _Encoder(json.JSONEncoder):
    """Encoder that converts what JSON has no form for, and remembers what it made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.converted: list[Any] = []

    def default(self, o: Any) -> Any:
        if isinstance(o, set | frozenset):
            plain = _sorted(o)
        elif type(o).__name__ == "ListNode":
            plain = list(itertools.islice(_values_of_list(o), _MAX_ITEMS))
        elif type(o).__name__ == "TreeNode":
            plain = _values_of_tree(o)
        elif isinstance(o, bytes | bytearray | memoryview):
            return super().default(o)
        elif callable(getattr(o, "tolist", None)):  # arrays and scalars of numpy, and array.array
            plain = o.tolist()
        elif hasattr(type(o), "__iter__"):
            plain = list(itertools.islice(o, _MAX_ITEMS))
        else:
            return super().default(o)
        self.converted.append(plain)
        return plain


def _sorted(items: "set[Any] | frozenset[Any]") -> list[Any]:
    """Return a set's elements in an order that depends only on them: by value if they have one kind, else by text."""
    if {*map(type, items)} <= {int, float} or {*map(type, items)} <= {str}:
        return sorted(items, key=lambda item: (item != item, item))  # NaNs last, because they have no order
    # Comparing other elements could depend on the order in which they are met: sets, for example, compare as subsets.
    plain = [json.loads(to_json(item)) for item in items]
    try:
        return sorted(plain, key=json.dumps if "NaN" in json.dumps(plain) else None)
    except TypeError:
        return sorted(plain, key=json.dumps)


class Shape(NamedTuple):
    """A type that holds nodes: `depth` nested lists of linked lists or trees."""

    node: type
    depth: int


def shapes(function: Callable[..., Any]) -> dict[str, Shape]:
    """Return the parameters of a function (and `return`) whose annotations name a class ListNode or TreeNode."""
    if "Node" not in repr(getattr(function, "__annotations__", "")):  # resolving annotations takes longer
        return {}
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # annotations may be anything, and need not be true
        return {}
    found = {name: _shape(hint) for name, hint in hints.items()}
    return {name: shape for name, shape in found.items() if shape is not None}


def with_nodes(function: Callable[..., Any], arguments: list[Any], shape_of_name: dict[str, Shape]) -> list[Any]:
    """Return the arguments with lists and trees built from arrays, as the parameters' annotations ask."""
    inner: Any = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    code = getattr(inner, "__code__", None)
    if code is None:
        return arguments
    is_bound = getattr(function, "__self__", None) is not None
    names = code.co_varnames[is_bound : code.co_argcount]
    built = [_build(value, shape_of_name.get(name)) for name, value in zip(names, arguments, strict=False)]
    return built + arguments[len(built) :]


def without_nodes(result: Any, shape: Shape | None) -> Any:
    """Return the result with an empty array for each empty list or tree, which Python writes as None."""
    if shape is None:
        return result
    if shape.depth == 0:
        return [] if result is None else result
    inner = shape._replace(depth=shape.depth - 1)
    return [without_nodes(item, inner) for item in result] if isinstance(result, list | tuple) else result


def _shape(hint: Any) -> Shape | None:
    if isinstance(hint, type) and hint.__name__ in ("ListNode", "TreeNode"):
        return Shape(hint, 0)
    inner = [shape for shape in map(_shape, typing.get_args(hint)) if shape is not None]
    if not inner:
        return None
    is_list = typing.get_origin(hint) in (list, tuple, deque)
    return inner[0]._replace(depth=inner[0].depth + is_list)


def _build(value: Any, shape: Shape | None) -> Any:
    if shape is None or not isinstance(value, list):
        return value
    if shape.depth:
        return [_build(item, shape._replace(depth=shape.depth - 1)) for item in value]
    return _build_list(shape.node, value) if shape.node.__name__ == "ListNode" else _build_tree(shape.node, value)


def _build_list(node: type, values: list[Any]) -> Any:
    head = None
    for value in reversed(values):
        made = node(value)
        made.next, head = head, made
    return head


def _build_tree(node: type, values: list[Any]) -> Any:
    """Build a tree from its levels from left to right; None stands for a child that is absent."""
    if not values:
        return None
    rest = iter(values[1:])
    root = node(values[0])
    parents = deque([root])
    while parents:
        parent = parents.popleft()
        for side in ("left", "right"):
            value = next(rest, None)
            child = None if value is None else node(value)
            setattr(parent, side, child)
            if child is not None:
                parents.append(child)
    return root


def _values_of_list(node: Any) -> Iterator[Any]:
    while node is not None:
        yield node.val
        node = node.next


def _values_of_tree(root: Any) -> list[Any]:
    values = list(itertools.islice(_levels(root), _MAX_ITEMS))
    while values and values[-1] is None:
        values.pop()
    return values


def _levels(root: Any) -> Iterator[Any]:
    pending = deque([root])
    while pending:
        node = pending.popleft()
        yield None if node is None else node.val
        if node is not None:
            pending += (node.left, node.right)
