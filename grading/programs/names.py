"""Names in Python programs: what a problem calls, what a program defines, and what it uses without defining it."""

import ast
import builtins
import symtable
import warnings
from functools import lru_cache
from types import CodeType

from alphamix.grading.programs.prologue import parse, read_prologue
from alphamix.grading.types import Problem

_ALWAYS_THERE = frozenset(dir(builtins)) | {"__file__", "__annotations__"}


def tested_names(problem: Problem) -> frozenset[str]:
    """Return the names by which the tests call a program; empty for programs that read standard input.

    A program that defines any of them is meant as the solution.
    """
    first = problem.tests[0].input
    call = first[0] if isinstance(first, list | tuple) and first and isinstance(first[0], str) else ""
    return _tested_names(problem.entry_point, problem.prologue or "", problem.epilogue or "", call)


@lru_cache(maxsize=256)
def _tested_names(entry_point: str | None, prologue: str, epilogue: str, call: str) -> frozenset[str]:
    if prologue and (continued := read_prologue(prologue).name) is not None:
        return frozenset([continued])
    ending = parse(epilogue)
    own = defined_names(epilogue)
    if entry_point is not None and entry_point not in own:
        return frozenset([entry_point.partition(".")[0]])
    calls = parse(call) if entry_point is not None else None
    used = {node.func for tree in (ending, calls) if tree for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return frozenset(node.id for node in used if isinstance(node, ast.Name)) - own - _ALWAYS_THERE


def is_module(source: str) -> bool:
    """Check whether a text is a whole Python program: it is valid, and neither returns nor yields outside functions."""
    return _symbols(source) is not None


def defined_names(source: str) -> set[str]:
    """Return the names that a program defines at its top level; empty if it is not valid Python."""
    module = _symbols(source)
    return {symbol.get_name() for symbol in module.get_symbols() if _is_defined(symbol)} if module else set()


def missing_names(source: str) -> set[str]:
    """Return the names that a program uses, and neither defines nor finds among the built-ins.

    Empty if the source is not valid Python, or imports all names of a module.
    """
    return set() if "import *" in source else undefined_names(source)


def undefined_names(source: str) -> set[str]:
    """Return the names that a program uses and that it neither defines by itself nor finds among the built-ins.

    An `import *` may still define them. Empty if the source is not valid Python.
    """
    module = _symbols(source)
    if module is None:
        return set()
    used: set[str] = set()
    defined = {symbol.get_name() for symbol in module.get_symbols() if _is_defined(symbol)}
    pending = [module]
    while pending:
        table = pending.pop()
        pending.extend(table.get_children())
        for symbol in table.get_symbols():
            is_global = table is module or symbol.is_global()
            if is_global and symbol.is_assigned():
                defined.add(symbol.get_name())
            elif is_global and symbol.is_referenced():
                used.add(symbol.get_name())
    return used - defined - _ALWAYS_THERE


def identifiers(source: str) -> set[str]:
    """Return the global names, attributes and imports that a program uses; empty if it is not valid Python."""
    found: set[str] = set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pending = [compile(source, "main.py", "exec", dont_inherit=True)]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return found
    while pending:
        code = pending.pop()
        found.update(code.co_names)
        pending.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
    return found


def _is_defined(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported()


def _symbols(source: str) -> symtable.SymbolTable | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return symtable.symtable(source, "main.py", "exec")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
