"""Joining an answer with the code of its problem: the preamble above it, and the prologue that it was to continue.

A prologue mostly ends in a definition that it leaves open, such as HumanEval's signature and docstring, or a class with
the head of a method. An answer is either the body of that function, as models without instruction tuning write it, or a
whole program. Nothing is run.
"""

import ast
import textwrap
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_INDENT = " " * 4
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


class Prologue(NamedTuple):
    """What a prologue consists of."""

    text: str
    above: str
    """Its imports and helpers, which a whole program needs as well."""
    name: str | None = None
    """Function or class that it leaves open, if any."""
    method: str | None = None
    """Method that it leaves open, if it ends in a class."""
    above_method: str = ""
    """All that stands above that method."""
    head: str = ""
    """The shortest code that its body could follow as well, such as the head of a function; empty if none could."""
    indent: str = ""
    """Indent of the body."""


def complete(prologue: Prologue, source: str) -> str:
    """Return the program that `source` makes together with the prologue.

    Text that does not parse by itself, or that returns or yields outside functions, is a body: it follows the whole
    prologue, and is indented if necessary. The method itself takes the place of its head. Any other text is a whole
    program: it follows what the prologue has above the definition that it leaves open.
    """
    if prologue.method is not None and (method := _as_method(source, prologue.method)) is not None:
        margin = _margin(prologue.text[len(prologue.above_method) :])
        return prologue.above_method + textwrap.indent(method, margin)
    if not prologue.head or _is_whole(source):
        return with_preamble(prologue.above, source) if prologue.above else source
    programs = [prologue.text + body for body in _bodies(source, prologue.indent)]
    return next(filter(_is_whole, programs), programs[0])


def with_preamble(preamble: str, source: str) -> str:
    """Return the program with the preamble before it, or after its `from __future__` imports, which must come first.

    A program that does not parse is joined all the same: the judge says why.
    """
    module = parse(source) if "__future__" in source else None
    ends = [
        node.end_lineno
        for node in (module.body if module else ())
        if isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.end_lineno
    ]
    lines = source.split("\n")
    first = ends[-1] if ends else 0
    return "\n".join((*lines[:first], preamble.removesuffix("\n"), *lines[first:]))


@lru_cache(maxsize=256)
def read_prologue(prologue: str) -> Prologue:
    """Take a prologue apart.

    All of it is above if it ends with statements, which may be those of a function that goes on. Nothing is above if it
    is not valid Python.
    """
    lines = prologue.rstrip().split("\n")
    text = "\n".join(lines) + "\n"
    lines.append(f"{_margin(lines[-1])}{_INDENT}pass")
    whole = parse(text)
    module = whole or parse("\n".join(lines))  # without a docstring, a body is needed
    if module is None or not prologue.strip():
        return Prologue(text, "")
    match module.body:
        case [*_, ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() as outer]:
            inner = _innermost(outer)
        case _:
            return Prologue(text, text)
    head = "class Head:\n" if isinstance(outer, ast.ClassDef) else ""
    if inner is not outer or not head:
        head += f"{_margin(lines[inner.lineno - 1])}def head():\n"
    indent = _margin(lines[-1] if whole is None else lines[inner.body[0].lineno - 1])
    if not all(map(_is_idle, inner.body)):
        if whole is None:  # a block within the function
            head += f"{_margin(lines[-2])}if head:\n"
        return Prologue(text, text, head=head, indent=indent)
    method = inner.name if inner is not outer else None
    return Prologue(text, _above(outer, lines), outer.name, method, _above(inner, lines), head, indent)


def is_body(text: str, prologue: Prologue) -> bool:
    """Check whether `text` continues a prologue and has an effect, as a single word or number does not."""
    if not prologue.head:
        return False
    module = next(filter(None, (parse(prologue.head + body) for body in _bodies(text, prologue.indent))), None)
    match module and module.body:
        case [ast.ClassDef(body=[ast.FunctionDef(name="head", body=statements), *_]), *_]:
            return does_something(statements)
        case [ast.FunctionDef(body=statements) | ast.ClassDef(body=statements), *_]:
            return does_something(statements)
        case _:
            return False


def parse(source: str) -> ast.Module | None:
    """Parse Python, or return None if the source is not valid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def does_something(statements: list[ast.stmt]) -> bool:
    """Check whether any statement has an effect: prose often parses, but as expressions without any call."""
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in statements)


def _bodies(source: str, indent: str) -> Iterator[str]:
    """Yield what a body may have been: the text as it is if it is indented, all of it indented anew, or only its first
    line, which may have lost its indent when the text was stripped.
    """
    if source.lstrip("\n")[:1].isspace():
        yield source
    yield textwrap.indent(textwrap.dedent(source), indent)
    yield indent + source.lstrip()


def _is_whole(source: str) -> bool:
    module = parse(source)
    pending: list[ast.AST] = [module] if module is not None else []
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom):
            return False
        if not isinstance(node, _Function | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
    return module is not None


def _as_method(source: str, name: str) -> str | None:
    """Return a text without indent if it consists of functions, of which one has this name; else None."""
    module = parse(text := textwrap.dedent(source))
    functions = [node.name for node in module.body if isinstance(node, _Function)] if module is not None else []
    return text if module is not None and name in functions and len(functions) == len(module.body) else None


def _above(definition: _Definition, lines: list[str]) -> str:
    first = min(node.lineno for node in (definition, *definition.decorator_list))
    return "".join(line + "\n" for line in lines[: first - 1])


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _innermost(outer: _Definition) -> _Definition:
    """Return the last method of a class, if it ends with one; else the definition itself."""
    last = outer.body[-1]
    return _innermost(last) if isinstance(outer, ast.ClassDef) and isinstance(last, _Definition) else outer


def _is_idle(node: ast.stmt) -> bool:
    """Check for a docstring, `...` or `pass`."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
