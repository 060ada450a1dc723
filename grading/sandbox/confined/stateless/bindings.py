"""The first reading of a program: which names it binds, and whether it may compute with floats.

A program is refused here if one name means different things, such as a variable and an import, so that the second
reading may go by names alone.
"""

import _ast as ast
import builtins
import importlib
import re
from typing import Any

from alphamix.grading.sandbox.confined.stateless.syntax import Readers, UnprovenError, is_dunder, require, walk
from alphamix.grading.sandbox.confined.stateless.vocabulary import (
    CALLEES,
    CONSTANTS,
    INTEGER_MATH,
    MODULES,
    REVEALING_METHODS,
)

_MANGLED = re.compile("_[^_].*__")
"""What the interpreter makes of a name such as `__name` within a class. The proof takes names as they are written."""
_FLOAT_MATH = frozenset(
    path.removeprefix("math.")
    for path in {*CALLEES, *CONSTANTS}
    if path.startswith("math.") and path.removeprefix("math.") not in INTEGER_MATH
)
_collects = Readers()


class Bindings:
    """The names that a program binds anywhere."""

    def __init__(self, tree: Any, has_floats: bool) -> None:
        """Read a tree. Raises UnprovenError."""
        self.has_floats = has_floats
        self.modules: frozenset[str] = frozenset()
        self.names: set[str] = set()
        """Variables, parameters, functions and classes."""
        self.imported: dict[str, str] = {}
        """Paths of what is imported, such as `math.gcd`, by name."""
        self.classes: set[str] = set()
        self.exceptions: set[str] = set()
        """Names of exceptions that are caught."""
        self.attributes: set[str] = set()
        self.methods: set[str] = set()
        for node in walk(tree):
            collect = _collects.get(node.__class__)
            if collect is not None:
                collect(self, node)
        require(not self.classes & self.names)
        self.names |= self.classes
        self._check()

    def _check(self) -> None:
        require(not self.names & self.imported.keys() and not self.attributes & self.methods)
        require(not self.methods & REVEALING_METHODS)
        # A generator that is collected after its test closes what it yields from, if that has such a method.
        require("close" not in self.methods | self.attributes)
        bound = {*self.names, *self.imported, *self.attributes, *self.methods}
        require(not any(_MANGLED.match(name) for name in bound))
        # An instance of the program that is given as flags or as a replacement would get flags or matches to keep.
        has_operators = any(is_dunder(name) and name != "__init__" for name in self.methods)
        require("re" not in self.modules or not has_operators)


@_collects(ast.Name)
def _name(found: Bindings, node: ast.Name) -> None:
    if node.ctx.__class__ is not ast.Load:
        found.names.add(node.id)
    elif node.id in ("float", "complex", "pow"):
        found.has_floats = True


@_collects(ast.Attribute)
def _attribute(found: Bindings, node: ast.Attribute) -> None:
    if node.ctx.__class__ is not ast.Load:
        found.attributes.add(node.attr)
    elif node.attr in _FLOAT_MATH:
        found.has_floats = True


@_collects(ast.arg)
def _parameter(found: Bindings, node: ast.arg) -> None:
    found.names.add(node.arg)


@_collects(ast.FunctionDef)
def _function(found: Bindings, node: ast.FunctionDef) -> None:
    found.names.add(node.name)


@_collects(ast.Constant)
def _constant(found: Bindings, node: ast.Constant) -> None:
    found.has_floats |= node.value.__class__ in (float, complex)


@_collects(ast.BinOp, ast.AugAssign)
def _operation(found: Bindings, node: ast.BinOp | ast.AugAssign) -> None:
    if isinstance(node.op, ast.Pow):
        exponent = node.right if isinstance(node, ast.BinOp) else node.value
        is_natural = isinstance(exponent, ast.Constant) and isinstance(exponent.value, int) and exponent.value >= 0
        found.has_floats |= not is_natural
    found.has_floats |= isinstance(node.op, ast.Div)


@_collects(ast.ExceptHandler)
def _handler(found: Bindings, node: ast.ExceptHandler) -> None:
    if node.name is not None:
        found.names.add(node.name)
        found.exceptions.add(node.name)


@_collects(ast.ClassDef)
def _class(found: Bindings, node: ast.ClassDef) -> None:
    found.classes.add(node.name)
    for statement in node.body:
        parts = [statement]
        if isinstance(statement, ast.FunctionDef):
            found.methods.add(statement.name)
            arguments = statement.args
            parts = [*arguments.defaults, *arguments.kw_defaults, *statement.decorator_list]
        names = (name for part in parts for name in walk(part) if isinstance(name, ast.Name))
        found.attributes.update(name.id for name in names if name.ctx.__class__ is not ast.Load)


@_collects(ast.Import, ast.ImportFrom)
def _import(found: Bindings, node: ast.Import | ast.ImportFrom) -> None:
    paths: dict[str, str] = {}
    for alias in node.names:
        if isinstance(node, ast.Import):
            module = alias.name
            paths[alias.asname or module] = module
        else:
            module = node.module or ""
            known = [alias.name] if alias.name != "*" else _public_names(module)
            paths |= {alias.asname or name: f"{module}.{name}" for name in known}
        require(module in MODULES and not (isinstance(node, ast.Import) and "." in module))
        found.modules |= {module}
        found.has_floats |= module in ("decimal", "random") or (
            module == "math" and isinstance(node, ast.ImportFrom) and alias.name not in INTEGER_MATH
        )
    for name, path in paths.items():
        # Where the import has not run yet, the name of a builtin would still mean the builtin.
        require(not hasattr(builtins, name) or path == "math.pow")
        require(found.imported.setdefault(name, path) == path)


def _public_names(module: str) -> list[str]:
    if module not in MODULES:
        raise UnprovenError
    contents = vars(importlib.import_module(module))
    return list(contents.get("__all__") or (name for name in contents if not name.startswith("_")))
