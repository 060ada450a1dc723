"""Readers of expressions, except calls: what is stored is plain, and what is only iterated over may be opaque."""

import _ast as ast

from alphamix.grading.sandbox.confined.stateless.kinds import NO_ITEMS, OBJECT, PLAIN, SET
from alphamix.grading.sandbox.confined.stateless.proof import Proof
from alphamix.grading.sandbox.confined.stateless.statements import bind
from alphamix.grading.sandbox.confined.stateless.syntax import Readers, require

_COMPARISONS = frozenset(("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"))
reads = Readers()


@reads(ast.Constant)
def _constant(proof: Proof, node: ast.Constant) -> int:
    return PLAIN


@reads(ast.Name)
def _name(proof: Proof, node: ast.Name) -> int:
    return proof.kind_of(node.id)


@reads(ast.Subscript)
def _subscript(proof: Proof, node: ast.Subscript) -> int:
    require(not proof.kind(node.value) & NO_ITEMS)
    return proof.plain(node.slice)


@reads(ast.Slice)
def _slice(proof: Proof, node: ast.Slice) -> int:
    for part in (node.lower, node.upper, node.step):
        if part is not None:
            proof.plain(part)
    return PLAIN


@reads(ast.List, ast.Tuple, ast.Set)
def _display(proof: Proof, node: ast.List | ast.Tuple | ast.Set) -> int:
    for element in node.elts:
        proof.consume(element.value) if isinstance(element, ast.Starred) else proof.plain(element)
    return SET if isinstance(node, ast.Set) and proof.program.has_floats else PLAIN


@reads(ast.Dict)
def _dict(proof: Proof, node: ast.Dict) -> int:
    for part in (*node.keys, *node.values):
        if part is not None:
            proof.plain(part)
    return PLAIN


@reads(ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
def _comprehension(proof: Proof, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> int:
    for generator in node.generators:
        bind(proof, generator.target)
        proof.consume(generator.iter)
        for condition in generator.ifs:
            proof.kind(condition)
    for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
        proof.plain(part)
    if isinstance(node, ast.GeneratorExp):
        return OBJECT
    return SET if isinstance(node, ast.SetComp) and proof.program.has_floats else PLAIN


@reads(ast.Yield)
def _yield(proof: Proof, node: ast.Yield) -> int:
    proof.frames[-1].yields = True
    return PLAIN if node.value is None else proof.plain(node.value)


@reads(ast.YieldFrom)
def _yield_from(proof: Proof, node: ast.YieldFrom) -> int:
    proof.frames[-1].yields = True
    proof.consume(node.value)
    return PLAIN


@reads(ast.BinOp)
def _both(proof: Proof, node: ast.BinOp) -> int:
    proof.plain(node.left)
    return proof.plain(node.right)


@reads(ast.UnaryOp)
def _unary(proof: Proof, node: ast.UnaryOp) -> int:
    kind = proof.kind(node.operand)
    require(kind == PLAIN or isinstance(node.op, ast.Not))
    return PLAIN


@reads(ast.BoolOp)
def _choice(proof: Proof, node: ast.BoolOp) -> int:
    kind = PLAIN
    for value in node.values:
        kind |= proof.kind(value)
    return kind


@reads(ast.IfExp)
def _if_else(proof: Proof, node: ast.IfExp) -> int:
    proof.kind(node.test)
    return proof.kind(node.body) | proof.kind(node.orelse)


@reads(ast.Compare)
def _compare(proof: Proof, node: ast.Compare) -> int:
    left = proof.kind(node.left)
    for operator, operand in zip(node.ops, node.comparators, strict=True):
        right = proof.kind(operand)
        match operator:
            case ast.In() | ast.NotIn():
                require(left == PLAIN)
            case ast.Is() | ast.IsNot():
                # Whether two patterns are one depends on what the cache of `re` held before, such as those of imports.
                require(PLAIN in (left, right) or "re" not in proof.program.modules)
            case _:
                require((left == PLAIN) == (right == PLAIN) and is_comparable(proof, left))
        left = right
    return PLAIN


def is_comparable(proof: Proof, kind: int) -> bool:
    """Check whether values of a kind may be compared with each other.

    Where some are opaque and others are instances, a method of the program could receive an opaque one.
    """
    return kind == PLAIN or not proof.program.methods & _COMPARISONS


@reads(ast.NamedExpr)
def _named(proof: Proof, node: ast.NamedExpr) -> int:
    bind(proof, node.target)
    return proof.plain(node.value)


@reads(ast.FormattedValue)
def _formatted(proof: Proof, node: ast.FormattedValue) -> int:
    if node.format_spec is not None:
        proof.plain(node.format_spec)
    return proof.plain(node.value)


@reads(ast.JoinedStr)
def _joined(proof: Proof, node: ast.JoinedStr) -> int:
    for value in node.values:
        proof.plain(value)
    return PLAIN
