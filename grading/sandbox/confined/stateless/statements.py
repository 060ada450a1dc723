"""Readers of statements, except definitions: what is assigned, in which flow, and which exceptions are caught."""

import _ast as ast
from typing import Any

from alphamix.grading.sandbox.confined.stateless.annotations import check_annotation
from alphamix.grading.sandbox.confined.stateless.kinds import PLAIN
from alphamix.grading.sandbox.confined.stateless.proof import Proof
from alphamix.grading.sandbox.confined.stateless.syntax import Readers, UnprovenError, is_dunder, require
from alphamix.grading.sandbox.confined.stateless.vocabulary import ATTRIBUTES_OF_VALUES, EXCEPTIONS

reads = Readers()


@reads(ast.Break, ast.Continue, ast.Global, ast.Import, ast.ImportFrom, ast.Nonlocal, ast.Pass)
def _nothing(proof: Proof, node: Any) -> None:
    pass


@reads(ast.Expr)
def _expression(proof: Proof, node: ast.Expr) -> None:
    proof.kind(node.value)


@reads(ast.Assign)
def _assign(proof: Proof, node: ast.Assign) -> None:
    for target in node.targets:
        _store(proof, target, node.value)


@reads(ast.AnnAssign)
def _annotated(proof: Proof, node: ast.AnnAssign) -> None:
    check_annotation(proof, node.annotation)
    if node.value is not None:
        _store(proof, node.target, node.value)


@reads(ast.AugAssign)
def _augmented(proof: Proof, node: ast.AugAssign) -> None:
    if isinstance(node.target, ast.Name):
        require(proof.kind_of(node.target.id) == PLAIN)
    bind(proof, node.target)
    proof.plain(node.value)


@reads(ast.Delete)
def _delete(proof: Proof, node: ast.Delete) -> None:
    for target in node.targets:
        require(not isinstance(target, ast.Attribute))
        bind(proof, target)


@reads(ast.For)
def _for(proof: Proof, node: ast.For) -> None:
    bind(proof, node.target)
    proof.consume(node.iter)
    proof.run(node.body)
    proof.run(node.orelse)


@reads(ast.If, ast.While)
def _branch(proof: Proof, node: ast.If | ast.While) -> None:
    proof.kind(node.test)
    proof.run(node.body)
    proof.run(node.orelse)


@reads(ast.Assert)
def _assert(proof: Proof, node: ast.Assert) -> None:
    proof.kind(node.test)
    if node.msg is not None:
        proof.plain(node.msg)


@reads(ast.Raise)
def _raise(proof: Proof, node: ast.Raise) -> None:
    for value in (node.exc, node.cause):
        if value is not None:
            proof.kind(value)


@reads(ast.Try)
def _try(proof: Proof, node: ast.Try) -> None:
    proof.frames[-1].tries = True
    require(not node.finalbody)
    proof.run(node.body)
    for handler in node.handlers:
        caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        for type_ in caught:
            require(isinstance(type_, ast.Name) and (proof.path(type_) in EXCEPTIONS or proof.is_class(type_)))
        proof.run(handler.body)
    proof.run(node.orelse)


@reads(ast.Return)
def _return(proof: Proof, node: ast.Return) -> None:
    if node.value is not None:
        proof.frames[-1].returns |= proof.kind(node.value)


def _store(proof: Proof, target: Any, value: Any) -> None:
    if isinstance(target, ast.Name):
        proof.learn(proof.kind_of_name, target.id, proof.kind(value))
    elif isinstance(target, ast.Tuple | ast.List):
        proof.consume(value)
    else:
        proof.plain(value)
    if isinstance(target, ast.Name) and target.id == "__slots__":
        # A slot for `__repr__` or `__hash__` would hide that the class shows addresses.
        names = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
        require(all(isinstance(name, ast.Constant) and not is_dunder(str(name.value)) for name in names))
    else:
        bind(proof, target)


def bind(proof: Proof, target: Any) -> None:
    """Check what is assigned to. An attribute must be one of an object, a class or the context of the program."""
    match target:
        case ast.Name(id=name):
            require(not is_dunder(name))
        case ast.Tuple() | ast.List():
            for element in target.elts:
                bind(proof, element)
        case ast.Starred():
            bind(proof, target.value)
        case ast.Subscript():
            proof.kind(target)
        case ast.Attribute(value=base, attr=name):
            # An attribute of a builtin value may be a part that a cache of the library keeps, such as a numerator.
            require(not is_dunder(name) and (name not in ATTRIBUTES_OF_VALUES or proof.is_class(base)))
            require(proof.is_class(base) or _is_decimal_context(proof, base))
        case _:
            raise UnprovenError


def _is_decimal_context(proof: Proof, node: Any) -> bool:
    """Check whether an attribute of this may be set: it is a plain value, or the context that is reset."""
    kind = proof.kind(node)
    return kind == PLAIN or (isinstance(node, ast.Call) and proof.path(node.func) == "decimal.getcontext")
