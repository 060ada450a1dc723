"""Annotations, which are expressions of types: builtin and generic ones, and classes of the program."""

import _ast as ast
from typing import Any

from alphamix.grading.sandbox.confined.stateless.proof import Proof
from alphamix.grading.sandbox.confined.stateless.syntax import UnprovenError, parse, require
from alphamix.grading.sandbox.confined.stateless.vocabulary import ANNOTATIONS, FACTORIES, TYPES


def check_annotation(proof: Proof, node: Any) -> None:
    """Check an annotation. Text is checked as well, because `values.shapes` evaluates it."""
    match node:
        case ast.Constant(value=str() as text):
            try:
                check_annotation(proof, parse(text, "eval").body)
            except (SyntaxError, ValueError):
                raise UnprovenError from None
        case ast.Constant():
            pass
        case ast.Name() if proof.is_class(node):
            pass
        case ast.Name() | ast.Attribute():
            path = proof.path(node)
            module, _, name = (path or "").rpartition(".")
            is_generic = module in ("typing", "collections.abc") and name in ANNOTATIONS
            require(is_generic or path in TYPES or path in FACTORIES)
        case ast.Subscript():
            check_annotation(proof, node.value)
            check_annotation(proof, node.slice)
        case ast.Tuple() | ast.List():
            for element in node.elts:
                check_annotation(proof, element)
        case ast.BinOp(op=ast.BitOr()):
            check_annotation(proof, node.left)
            check_annotation(proof, node.right)
        case _:
            raise UnprovenError
