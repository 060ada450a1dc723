"""Readers of what defines something: functions, lambdas and classes with their methods."""

import _ast as ast
from collections.abc import Container
from typing import Any

from alphamix.grading.sandbox.confined.stateless.annotations import check_annotation
from alphamix.grading.sandbox.confined.stateless.kinds import LEVEL, OBJECT, PLAIN
from alphamix.grading.sandbox.confined.stateless.proof import Frame, Proof
from alphamix.grading.sandbox.confined.stateless.syntax import Readers, UnprovenError, is_dunder, require, walk
from alphamix.grading.sandbox.confined.stateless.vocabulary import DUNDERS, EXCEPTIONS

_BASES = EXCEPTIONS | {"object", "dict", "list", "Exception"}
_CACHES = frozenset(("functools.cache", "functools.lru_cache"))
_OF_METHODS = _CACHES | {"property", "staticmethod"}
reads = Readers()


@reads(ast.FunctionDef)
def _function(proof: Proof, node: ast.FunctionDef) -> None:
    proof.learn(proof.kind_of_name, node.name, _function_kind(proof, node, _CACHES))


@reads(ast.Lambda)
def _lambda(proof: Proof, node: ast.Lambda) -> int:
    _check_parameters(proof, node.args)
    proof.frames.append(Frame())
    returns = proof.kind(node.body)
    require(not proof.frames.pop().yields)
    return OBJECT | returns << LEVEL


@reads(ast.ClassDef)
def _class(proof: Proof, node: ast.ClassDef) -> None:
    require(not node.keywords and not node.decorator_list and not _has_type_parameters(node))
    require(all(proof.is_class(base) or proof.path(base) in _BASES for base in node.bases))
    for statement in node.body:
        match statement:
            case ast.FunctionDef():
                arguments = statement.args
                for inner in (*arguments.defaults, *arguments.kw_defaults, *statement.decorator_list):
                    _check_names_no_method(proof, inner)
                _method(proof, statement)
            case ast.Assign(value=value) | ast.AnnAssign(value=value):
                if value is not None:
                    _check_names_no_method(proof, value)
                    proof.plain(value)
                proof.run([statement])
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case _:
                raise UnprovenError


def _method(proof: Proof, node: ast.FunctionDef) -> None:
    kind = _function_kind(proof, node, _OF_METHODS)
    returns = kind >> LEVEL
    if is_dunder(node.name):
        require(node.name in DUNDERS)
        require(returns == PLAIN or (node.name == "__iter__" and returns == OBJECT))
    decorators = node.decorator_list
    is_property = any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in decorators)
    require(not is_property or (returns == PLAIN and len(decorators) == 1))
    require(proof.is_property.setdefault(node.name, is_property) == is_property)
    proof.learn(proof.kind_of_method, node.name, kind)


def _function_kind(proof: Proof, node: ast.FunctionDef, decorators: Container[str | None]) -> int:
    require(not _has_type_parameters(node))
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            proof.kind(decorator)
            decorator = decorator.func
        require(proof.path(decorator) in decorators)
    _check_parameters(proof, node.args)
    if node.returns is not None:
        check_annotation(proof, node.returns)
    frame = Frame()
    proof.frames.append(frame)
    proof.run(node.body)
    proof.frames.pop()
    # What a generator returns is the value of `yield from`; what it would catch or finish could run after the test.
    require(not frame.yields or (frame.returns == PLAIN and not frame.tries))
    return OBJECT | (frame.returns | (OBJECT if frame.yields else PLAIN)) << LEVEL


def _check_parameters(proof: Proof, arguments: ast.arguments) -> None:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    for argument in every:
        if argument is not None and argument.annotation is not None:
            check_annotation(proof, argument.annotation)
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None:
            proof.plain(default)


def _check_names_no_method(proof: Proof, node: Any) -> None:
    """Check that an expression in the body of a class does not mean one of the functions that are defined there."""
    names = {inner.id for inner in walk(node) if isinstance(inner, ast.Name)}
    require(not names & proof.program.methods)


def _has_type_parameters(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Check for type parameters (Python 3.12), which bind names that the first reading does not know."""
    return bool(getattr(node, "type_params", ()))
