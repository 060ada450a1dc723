"""HumanEval as problems: 164 function signatures with docstrings to complete.

Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374; MIT license. Reads the published
`HumanEval.jsonl`, and any file of the same form (`task_id`, `prompt`, `entry_point`, and a `test` that defines
`check(candidate)`). The prompt serves unchanged as statement and as prologue. The examples in the docstrings are not
among the tests, so no test is public.
"""

import ast
from pathlib import Path

from pydantic import BaseModel

from alphamix.grading.benchmarks import assertions, read_problems
from alphamix.grading.types import Problem

_CANDIDATE = "candidate"


class HumanEvalRecord(BaseModel):
    """One line of the file; other keys are ignored."""

    task_id: str
    prompt: str
    entry_point: str
    test: str


def load(path: str | Path) -> list[Problem]:
    """Return all problems, under the ids of the file. Raises GradingError, which names the file and the line."""
    return read_problems(path, HumanEvalRecord, convert)


def convert(record: HumanEvalRecord) -> Problem:
    """Convert one record. Raises SyntaxError if the tests are not valid Python or do not define `check(candidate)`."""
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
    return Problem(id=record.task_id, statement=record.prompt, prologue=record.prompt, **fields._asdict())


def _is_inert(node: ast.stmt) -> bool:
    """Check whether a statement has no effect: a constant, a name, `pass`, or the METADATA that every record has."""
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant() | ast.Name()):
            return True
        case ast.Assign(targets=[ast.Name(id="METADATA")]):
            return True
        case _:
            return False
