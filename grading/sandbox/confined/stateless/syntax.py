"""Syntax trees: all nodes below one, and tables of the functions that read one type of node."""

import _ast as ast
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_ONLY_AST = 0x400
Reader = Callable[[Any, Any], Any]
_AnyReader = TypeVar("_AnyReader", bound=Reader)


class UnprovenError(Exception):
    """The program does something that is not listed, which ends the proof."""


class Readers(dict[type, Reader]):
    """Functions by the type of node that they read. As a decorator, `@readers(ast.If)` adds one."""

    def __call__(self, *types: type) -> Callable[[_AnyReader], _AnyReader]:
        """Return the decorator that adds a reader of these types."""

        def add(reader: _AnyReader) -> _AnyReader:
            self.update(dict.fromkeys(types, reader))
            return reader

        return add


def require(holds: bool) -> None:
    """Raise UnprovenError unless a condition holds."""
    if not holds:
        raise UnprovenError


def parse(source: bytes | str, mode: str) -> Any:
    """Return the syntax tree of a program (`exec`) or an expression (`eval`). Raises what `compile` raises."""
    return compile(source, "main.py", mode, _ONLY_AST, dont_inherit=True)


def walk(tree: Any) -> Iterator[Any]:
    """Yield all nodes below one, and also the names that are among their fields."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        for name in _FIELDS.get(node.__class__, ()):
            value = getattr(node, name, None)
            if isinstance(value, list):
                pending += value
            elif value is not None:
                pending.append(value)


def is_dunder(name: str) -> bool:
    """Check for a name such as `__init__`."""
    return name.startswith("__") and name.endswith("__")


_FIELDS = {
    kind: tuple(name for name in kind._fields if name not in ("ctx", "op", "ops", "id", "attr"))
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST) and kind not in (ast.Constant, ast.Name)
}
"""Fields of a node that may hold nodes, by its type."""
