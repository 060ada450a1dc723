"""The kinds of values that a proof tells apart: a small lattice of bits, in which more bits mean fewer rights.

A value of the program itself is PLAIN. What the interpreter keeps is an OBJECT; a SET may also have an order that
depends on addresses. Two kinds are joined by `|`.
"""

from collections.abc import Container
from typing import NamedTuple

OPAQUE = 1
"""The value must not be stored, passed on, converted or hashed."""
NO_ITEMS = 2
"""The value must not be subscripted."""
UNORDERED = 4
"""The value must not be iterated over, because its order may depend on addresses."""
NO_CALLS = 8
"""The value must not be called, because it may be `type`, which would make a class."""
LEVEL = 4
"""Bits of one kind. The kind of what a call returns stands above the kind of the function: `kind >> LEVEL`."""
PLAIN = 0
OBJECT = OPAQUE | NO_ITEMS
SET = OBJECT | UNORDERED


class Callee(NamedTuple):
    """What may be called, what it returns, and which arguments it only iterates over or calls."""

    returns: int = PLAIN
    takes: Container[int] = ()
    """Positions of arguments that may be opaque."""
    keywords: Container[str] = ()
    """Keywords of arguments that may be opaque."""
    is_alone: bool = False
    """Whether `takes` holds only for calls with one positional argument."""
    orders: bool = True
    """Whether the arguments in `takes` are iterated over."""
