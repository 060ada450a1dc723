"""The second reading of a program: every node must have a reader, and every value gets a kind.

A reader checks one type of node and, if that is an expression, returns its kind. What the readers share is here: the
kinds of names, and what a name stands for. Kinds only become stricter from one pass to the next, until nothing changes.
"""

import _ast as ast
import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from alphamix.grading.sandbox.confined.stateless.bindings import Bindings
from alphamix.grading.sandbox.confined.stateless.kinds import LEVEL, NO_CALLS, OBJECT, PLAIN, SET, UNORDERED, Callee
from alphamix.grading.sandbox.confined.stateless.syntax import Reader, UnprovenError, require
from alphamix.grading.sandbox.confined.stateless.vocabulary import (
    CALLEES,
    CONSTANTS,
    EXCEPTIONS,
    RAISED_ONLY,
    STREAMS,
    TYPES,
)

_MAX_PASSES = 4


class Frame:
    """What is known of the function whose body is being read."""

    def __init__(self) -> None:
        self.returns, self.yields, self.tries = PLAIN, False, False


class Proof:
    """A reading under way."""

    def __init__(self, program: Bindings, readers: Mapping[type, Reader]) -> None:
        """Start a proof that allows the nodes for which there is a reader."""
        self.program = program
        self._readers = readers
        self.kind_of_name = dict.fromkeys(program.classes | program.exceptions, OBJECT)
        self.kind_of_method = dict.fromkeys(program.methods, OBJECT)
        self.is_property: dict[str, bool] = {}
        """Whether the methods of a name are properties."""
        self.frames = [Frame()]
        self._used: set[str] = set()
        self._is_settled = False

    def complete(self, statements: Sequence[Any]) -> None:
        """Read a whole program. Raises UnprovenError."""
        for _ in range(_MAX_PASSES):
            self._used.clear()
            self._is_settled = True
            self.run(statements)
            if self._is_settled:
                return
        raise UnprovenError

    def run(self, statements: Sequence[Any]) -> None:
        """Read statements."""
        for statement in statements:
            self._readers.get(statement.__class__, _unproven)(self, statement)

    def kind(self, node: Any) -> int:
        """Return the kind of an expression."""
        return self._readers.get(node.__class__, _unproven)(self, node)

    def plain(self, node: Any) -> int:
        """Check an expression whose value is stored, passed on or converted."""
        require(self._readers.get(node.__class__, _unproven)(self, node) == PLAIN)
        return PLAIN

    def consume(self, node: Any) -> None:
        """Check a value that is only iterated over or called, and whose elements or results are stored."""
        kind = self.kind(node)
        require(not kind & (UNORDERED | NO_CALLS) and not kind >> LEVEL)

    def learn(self, kinds: dict[str, int], name: str, kind: int) -> None:
        """Join a kind to that of a name. If the name has been used already, another pass is needed."""
        known = kinds.get(name, PLAIN)
        if kind | known != known:
            kinds[name] = kind | known
            self._is_settled &= name not in self._used

    def kind_of(self, name: str) -> int:
        """Return the kind of what a name stands for."""
        self._used.add(name)
        if name in self.program.names:
            is_builtin = hasattr(builtins, name)
            return self.kind_of_name.get(name, PLAIN) | (self.kind_of_path(name) if is_builtin else PLAIN)
        return self.kind_of_path(self.program.imported.get(name, name))

    def kind_of_methods(self, name: str) -> int:
        """Return the kind of the program's methods of a name; plain if there are none."""
        self._used.add(name)
        return self.kind_of_method.get(name, PLAIN)

    def kind_of_path(self, path: str) -> int:
        """Return the kind of something that the program did not make."""
        if path in CONSTANTS:
            return PLAIN
        if path in CALLEES:
            return OBJECT | self.returns(CALLEES[path]) << LEVEL
        if path == "type":
            return OBJECT | NO_CALLS
        if path in STREAMS or path in TYPES:
            return OBJECT
        if path in EXCEPTIONS or path in RAISED_ONLY:
            return OBJECT | OBJECT << LEVEL
        raise UnprovenError

    def path(self, node: Any) -> str | None:
        """Return the path of something that the program did not make, such as `math.gcd` or `len`; else None."""
        if isinstance(node, ast.Name):
            if node.id in self.program.imported:
                return self.program.imported[node.id]
            return None if node.id in self.program.names else node.id
        if isinstance(node, ast.Attribute):
            base = self.path(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None

    def is_class(self, node: Any) -> bool:
        """Check for the name of a class of the program."""
        return isinstance(node, ast.Name) and node.id in self.program.classes

    def returns(self, callee: Callee) -> int:
        """Return the kind of what a callee returns. A set has an order of its own only if it may hold floats."""
        return PLAIN if callee.returns == SET and not self.program.has_floats else callee.returns


def _unproven(proof: Proof, node: Any) -> Any:
    raise UnprovenError
