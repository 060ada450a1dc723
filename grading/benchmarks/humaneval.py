"""HumanEval: 164 signatures with docstrings to complete, as problems; and putting a completion behind its prompt.

Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374; MIT. Reads `HumanEval.jsonl` as
it is published, and whatever has its form (`task_id`, `prompt`, `entry_point`, and a `test` that defines
`check(candidate)`). The statement is the prompt as it stands. Nothing is run here.

The docstrings' examples are not among the tests, so no test is public.
"""

import ast
import textwrap
import warnings
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from grading.benchmarks import assertions
from grading.benchmarks.records import read_problems
from grading.types import Problem, Program

_CANDIDATE = "candidate"
_INDENT = " " * 4


class Record(BaseModel):
    """One line of the file; other keys are not used."""

    task_id: str
    prompt: str
    entry_point: str
    test: str


def load(path: str | Path) -> list[Problem]:
    """Read all problems, with their own ids. Raises GradingError that names the file and the line."""
    return read_problems(path, Record, convert)


def convert(record: Record) -> Problem:
    """Turn one record into a problem. Raises SyntaxError where the tests are no Python, or lack `check(candidate)`."""
    module = ast.parse(record.test)
    checks = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if len(checks) != 1:
        raise SyntaxError("the tests do not define check(candidate)")
    statements = [node for node in checks[0].body if not _is_inert(node)]
    if all(isinstance(node, ast.Assert) for node in statements):
        others = [node for node in module.body if node is not checks[0] and not _is_inert(node)]
        fields = assertions.convert(
            [ast.unparse(node) for node in statements],
            record.entry_point,
            alias=_CANDIDATE,
            set_up="\n".join(ast.unparse(node) for node in others),
        )
    else:
        fields = assertions.nonce(f"{record.test}\ncheck({record.entry_point})")
    return Problem(
        id=record.task_id, statement=record.prompt, metadata={"function": record.entry_point}, **fields._asdict()
    )


def complete(problem: Problem, program: Program) -> Program:
    """Put what a policy wrote behind what it was shown. `problem` is one that this module made.

    Text that does not parse by itself, or returns or yields outside of functions, is a body: it follows the whole
    prompt, and is indented where it is not. All else is a whole program: it follows the imports and the helper
    functions of the prompt, unless it begins with `from __future__`, which nothing may precede.
    """
    prompt, source = problem.statement.rstrip(), program.source
    if _is_whole(source):
        above = "" if "from __future__" in source else _above_function(prompt, problem.metadata["function"])
        return replace(program, source=above + source)
    if source.lstrip("\n")[:1].isspace():
        return replace(program, source=f"{prompt}\n{source}")
    # Either the whole body lost its indent, or only its first line, as when the text was stripped.
    bodies = (textwrap.indent(source, _INDENT), _INDENT + source.lstrip())
    candidates = [f"{prompt}\n{body}" for body in bodies]
    return replace(program, source=next(filter(_parse, candidates), candidates[0]))


def _is_inert(node: ast.stmt) -> bool:
    """Say whether a statement of the tests does nothing: texts, names, `pass`, and the METADATA of each file."""
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant() | ast.Name()):
            return True
        case ast.Assign(targets=[ast.Name(id="METADATA")]):
            return True
        case _:
            return False


def _is_whole(source: str) -> bool:
    module = _parse(source)
    pending: list[ast.AST] = [module] if module is not None else []
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom):
            return False
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
    return module is not None


def _above_function(prompt: str, function: str) -> str:
    """Return the lines of the prompt above its function."""
    module = _parse(f"{prompt}\n{_INDENT}pass\n")  # so that it parses without a docstring as well
    for node in module.body if module is not None else ():
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return "".join(prompt.splitlines(keepends=True)[: node.lineno - 1])
    return ""


def _parse(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
