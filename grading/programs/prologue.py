"""Joining an answer with the code that it was asked to continue, such as HumanEval's signature and docstring.

An answer is either a function body, as models without instruction tuning write it, or a whole program. Nothing is run.
"""

import ast
import textwrap
import warnings

_HEAD = "def head():\n"
_INDENT = " " * 4
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def complete(prologue: str, source: str) -> str:
    """Return the program that `source` makes together with the prologue.

    Text that does not parse by itself, or that returns or yields outside functions, is a body: it follows the whole
    prologue, and is indented if necessary. Any other text is a whole program: it follows the part of the prologue above
    its last function (imports and helpers), unless it contains `from __future__`, which no code may precede.
    """
    prologue = prologue.rstrip() + "\n"
    if not _is_whole(source):
        return prologue + _as_body(source)
    return source if "from __future__" in source else _above_last_function(prologue) + source


def is_body(text: str) -> bool:
    """Check whether `text` is a function body that has an effect, as a single word or number does not."""
    module = parse(_HEAD + _as_body(text))
    match module and module.body:
        case [ast.FunctionDef(body=statements), *_]:
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


def _as_body(source: str) -> str:
    """Indent all of a body, or only its first line, which may have lost its indent when the text was stripped."""
    is_indented = source.lstrip("\n")[:1].isspace()
    bodies = (source if is_indented else textwrap.indent(source, _INDENT), _INDENT + source.lstrip())
    return next((body for body in bodies if parse(_HEAD + body)), bodies[0])


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


def _above_last_function(prologue: str) -> str:
    module = parse(f"{prologue}{_INDENT}pass\n")  # `pass` makes it parse without a docstring as well
    functions = [node for node in module.body if isinstance(node, _Function)] if module is not None else []
    if not functions:
        return ""
    first_line = min(node.lineno for node in (functions[-1], *functions[-1].decorator_list))
    return "".join(prologue.splitlines(keepends=True)[: first_line - 1])
