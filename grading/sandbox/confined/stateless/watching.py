"""What the process of a proven program does beside running it: it watches for what the proof leaves open, and resets.

Three things depend on what the process did before: the address of an instance, an exception that ends a thread and may
come from a lack of memory, and calls that nest nearly too deep. A test that meets one is run again in a fresh process.
"""

import builtins
import importlib
import sys
from collections.abc import Callable
from typing import Any

_SAVED_DEPTH = 200
"""More calls than the interpreter nests to do something for the first time: to import a module or a codec, say."""

RESETS: dict[str, Callable[[Any], object]] = {
    "decimal": lambda decimal: decimal.setcontext(decimal.Context()),
    "random": lambda random: random.seed(),
    "re": lambda re: re.purge(),
    "threading": lambda threading: threading.stack_size(0),
}
"""What makes the state of a module new again, given the module."""


def reset(modules: frozenset[str]) -> None:
    """Reset the state of those modules that have any."""
    for name in RESETS.keys() & modules:
        RESETS[name](sys.modules[name])


def watch(modules: frozenset[str], on_address: Callable[[], object]) -> None:
    """Import the modules of a proven program, and call `on_address` when the program uses what is not proven.

    The recursion limit is lower by what a fresh process may need and a used one may not. A program that exceeds it is
    therefore run apart.
    """
    for name in modules:
        importlib.import_module(name)
    if "threading" in modules:

        def excepthook(_: object) -> None:
            on_address()

        vars(sys.modules["threading"])["excepthook"] = excepthook
    _lower_recursion_limit()
    _watch_classes(on_address)


def _lower_recursion_limit() -> None:
    set_limit = sys.setrecursionlimit

    def set_lower_limit(limit: int, /) -> None:
        set_limit(limit)
        set_limit(max(limit - _SAVED_DEPTH, 1))

    sys.setrecursionlimit = set_lower_limit
    set_lower_limit(sys.getrecursionlimit())


def _watch_classes(on_address: Callable[[], object]) -> None:
    build_class = builtins.__build_class__

    def show(instance: object) -> str:
        on_address()
        return object.__repr__(instance)

    def hash_of(instance: object) -> int:
        on_address()
        return object.__hash__(instance)

    def build(*definition: Any) -> Any:
        made = build_class(*definition)
        if made.__repr__ is object.__repr__:
            made.__repr__ = show
        if made.__hash__ is object.__hash__:
            made.__hash__ = hash_of
        return made

    builtins.__build_class__ = build
