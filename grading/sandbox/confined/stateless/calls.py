"""Readers of attributes and calls: which may be named, and which arguments a callee only iterates over or calls."""

import _ast as ast
import contextlib
import string
from collections.abc import Callable
from typing import Any

from alphamix.grading.sandbox.confined.stateless.expressions import is_comparable
from alphamix.grading.sandbox.confined.stateless.kinds import (
    LEVEL,
    NO_CALLS,
    OBJECT,
    OPAQUE,
    PLAIN,
    UNORDERED,
    Callee,
)
from alphamix.grading.sandbox.confined.stateless.proof import Proof
from alphamix.grading.sandbox.confined.stateless.syntax import Readers, is_dunder, require
from alphamix.grading.sandbox.confined.stateless.vocabulary import (
    ATTRIBUTES_OF_VALUES,
    CALLEES,
    CONSTANTS,
    FACTORIES,
    METHODS,
    SET_METHODS,
    STREAMS,
    TYPES,
)

reads = Readers()


@reads(ast.Attribute)
def _attribute(proof: Proof, node: ast.Attribute) -> int:
    path, name = proof.path(node), node.attr
    if path is not None and (path in CALLEES or path in CONSTANTS or path in STREAMS):
        return proof.kind_of_path(path)
    base_path = proof.path(node.value)
    if base_path in STREAMS or base_path in TYPES:
        return _kind_of_method(proof, name)
    is_class = proof.is_class(node.value)
    base = PLAIN if is_class else proof.kind(node.value)
    is_property = proof.is_property.get(name, False)
    if is_property or (name in proof.program.attributes and name not in proof.program.methods):
        require(base == PLAIN and name not in ATTRIBUTES_OF_VALUES and not is_dunder(name))
        # On the class, the name of a property or of a slot means a descriptor, whose text or hash is an address.
        require(not is_class or not (is_property or "__slots__" in proof.program.names))
        return PLAIN
    _check_builtin_method(base, name)
    return _kind_of_method(proof, name, own=base == PLAIN)


def _kind_of_method(proof: Proof, name: str, own: bool = False) -> int:
    """Return the kind of a bound method; `own` says whether it may be one of the program's."""
    require(name in METHODS or (own and name in proof.program.methods and not is_dunder(name)))
    kind = proof.kind_of_methods(name) if own else PLAIN
    return kind | (OBJECT | proof.returns(METHODS[name]) << LEVEL if name in METHODS else PLAIN)


def _check_builtin_method(base: int, name: str) -> None:
    """Check that a builtin method does not show the order of a set, or hand on a value that must not be stored."""
    require(name in SET_METHODS if base & UNORDERED else base == PLAIN or name != "copy")


@reads(ast.Call)
def _call(proof: Proof, node: ast.Call) -> int:
    path = proof.path(node.func)
    if path is not None and path in _SPECIAL:
        return _SPECIAL[path](proof, node)
    if isinstance(node.func, ast.Attribute) and (path is None or path not in CALLEES):
        return _method_call(proof, node, node.func)
    kind = proof.kind(node.func)
    require(not kind & NO_CALLS)
    _check_arguments(proof, node, CALLEES.get(path or "", Callee()))
    return kind >> LEVEL


def _method_call(proof: Proof, node: ast.Call, method: ast.Attribute) -> int:
    name = method.attr
    if proof.path(getattr(method.value, "func", None)) == "super":
        return _super_call(proof, node, method)
    if name == "format":
        require(isinstance(method.value, ast.Constant) and _has_plain_fields(method.value.value))
        _check_arguments(proof, node, Callee())
        return PLAIN
    is_own = name in proof.program.methods
    is_attribute = name in proof.program.attributes
    if is_attribute and not is_own and name in METHODS:
        # A builtin method that has the name of an attribute of the program.
        _check_builtin_method(proof.kind(method.value), name)
        kind = _kind_of_method(proof, name)
    else:
        kind = proof.kind(method)
    # What an attribute holds may be an instance with a `__call__` of its own.
    is_builtin = not (is_own or is_attribute or proof.path(method.value) in TYPES)
    _check_arguments(proof, node, METHODS.get(name, Callee()) if is_builtin else Callee())
    return kind >> LEVEL


def _super_call(proof: Proof, node: ast.Call, method: ast.Attribute) -> int:
    name = method.attr
    proof.kind(method.value)
    # Other names with underscores would lead to the text or the hash that `object` gives, which are addresses.
    require(name == "__init__" or (not is_dunder(name) and (name in proof.program.methods or name in METHODS)))
    _check_arguments(proof, node, Callee())
    builtin = proof.returns(METHODS[name]) if name in METHODS else PLAIN
    return proof.kind_of_methods(name) >> LEVEL | builtin


def _check_arguments(proof: Proof, node: ast.Call, callee: Callee) -> None:
    is_counted = not callee.is_alone or len(node.args) == 1
    for position, argument in enumerate(node.args):
        if isinstance(argument, ast.Starred):
            proof.consume(argument.value)
            is_counted = False  # what follows may stand at any position
        elif not (is_counted and position in callee.takes):
            proof.plain(argument)
        elif callee.orders:
            proof.consume(argument)
        else:
            proof.kind(argument)
    for keyword in node.keywords:
        if (keyword.arg or "") not in callee.keywords:
            proof.plain(keyword.value)
        elif keyword.arg == "key":
            _check_key(proof, keyword.value)
        else:
            proof.kind(keyword.value)


def _check_key(proof: Proof, node: Any) -> None:
    """Check a function whose results are compared with each other, or with a value of the program."""
    is_ordering = isinstance(node, ast.Call) and proof.path(node.func) == "functools.cmp_to_key"
    require(is_comparable(proof, proof.kind(node) >> LEVEL) or is_ordering)


def _deepcopy(proof: Proof, node: ast.Call) -> int:
    """Check that this copies only: a second argument would be filled with addresses."""
    return _single_argument(proof, node)


def _type(proof: Proof, node: ast.Call) -> int:
    """Check that this asks for a type: with more arguments, `type` would make one that is not watched."""
    return OBJECT | _single_argument(proof, node)


def _single_argument(proof: Proof, node: ast.Call) -> int:
    require(len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred))
    return proof.plain(node.args[0])


def _isinstance(proof: Proof, node: ast.Call) -> int:
    require(len(node.args) == 2 and not node.keywords)
    proof.plain(node.args[0])
    types = node.args[1]
    for type_ in types.elts if isinstance(types, ast.Tuple) else [types]:
        require(isinstance(type_, ast.Name | ast.Attribute))
        proof.kind(type_)
    return PLAIN


def _defaultdict(proof: Proof, node: ast.Call) -> int:
    """Return the kind of a defaultdict, whose text shows the address of its factory unless that is a type."""
    _check_arguments(proof, node, CALLEES["collections.defaultdict"])
    return PLAIN if not node.args or proof.path(node.args[0]) in FACTORIES else OPAQUE


_SPECIAL: dict[str, Callable[[Proof, ast.Call], int]] = {
    "isinstance": _isinstance,
    "collections.defaultdict": _defaultdict,
    "copy.deepcopy": _deepcopy,
    "type": _type,
}
"""Readers of calls whose arguments are checked in a way of their own."""


def _has_plain_fields(template: object) -> bool:
    """Check whether a format string only has fields without attributes and items."""
    if not isinstance(template, str):
        return False
    with contextlib.suppress(ValueError):
        return all(
            field is None or ((field.replace("_", "a").isalnum() or not field) and "{" not in (spec or ""))
            for _, field, spec, _ in string.Formatter().parse(template)
        )
    return False
