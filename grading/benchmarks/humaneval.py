"""HumanEval as problems: 164 function signatures with docstrings to complete.

Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv 2107.03374; MIT license. Reads the published
`HumanEval.jsonl`, and any file of the same form (`task_id`, `prompt`, `entry_point`, and a `test` that defines
`check(candidate)`), such as HumanEval+ of EvalPlus, whose tests are lists of inputs and results (`evalplus`). The
prompt serves unchanged as statement and as prologue. The examples in the docstrings are not among the tests, so no test
is public.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from alphamix.grading.benchmarks import assertions, evalplus
from alphamix.grading.benchmarks.records import each_record, files_of, parser
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.benchmarks.statements import packages, source, uses, without_unused_imports
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import all_problems
from alphamix.grading.types import Problem

ERRATA = {
    "HumanEval/47": "has a wrong example",
    "HumanEval/50": "is ambiguous",
    "HumanEval/57": "is ambiguous",
    "HumanEval/75": "contradicts its tests",
    "HumanEval/116": "contradicts its tests",
}
"""Faults of statements that are known (openai/human-eval pull request 23, evalplus/evalplus issue 12)."""
_CANDIDATE = "candidate"
_CHECK = "check"
_ERRATUM = (
    "assert _poly(*candidate(*inp), inp) <= 0.0001",
    "assert abs(_poly(*inp, candidate(*inp))) <= 0.0001",
)
"""An assertion that fails for every program, in HumanEval/32 of HumanEval+ 0.1.10, and what it means to say."""


class HumanEvalRecord(BaseModel):
    """One line of the file; other keys are ignored."""

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str | None = None


def load(path: str | Path) -> list[Problem]:
    """Return all problems, under the ids of the file. Raises GradingError, which names the file and the line."""
    return all_problems(each(Path(path), Selection()))


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a published file, or of a folder of them, or why a row is no problem.

    Raises GradingError if a file cannot be read.
    """

    def is_wanted(record: HumanEvalRecord) -> bool:
        return selection.admits(erratum=ERRATA.get(record.task_id))

    return each_record(files_of(path, "HumanEval.jsonl*", "**/*.parquet"), parser(HumanEvalRecord, convert, is_wanted))


def convert(record: HumanEvalRecord) -> Problem:
    """Convert one record. Raises SyntaxError if the tests are not valid Python or do not define `check(candidate)`."""
    module = ast.parse(record.test.replace(*_ERRATUM))
    checks = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == _CHECK]
    if len(checks) != 1:
        raise SyntaxError("the tests do not define check(candidate)")
    code = [node for node in module.body if not _is_inert(node)]
    fields = _tests(record, checks[0], code)
    return Problem(
        id=record.task_id,
        statement=record.prompt,
        prologue=record.prompt,
        reference=None if record.canonical_solution is None else record.prompt + record.canonical_solution,
        **fields._asdict(),
        packages=packages(fields.epilogue or ""),
        metadata={"erratum": ERRATA[record.task_id]} if record.task_id in ERRATA else {},
    )


def _tests(record: HumanEvalRecord, check: ast.FunctionDef, code: list[ast.stmt]) -> assertions.Tests:
    statements = [node for node in check.body if not _is_inert(node)]
    others = [node for node in code if node is not check]
    if (tests := evalplus.convert([*others, *statements], record.entry_point, _CANDIDATE)) is not None:
        return tests
    if all(isinstance(node, ast.Assert) for node in statements) and not uses(others, _CHECK):
        set_up = source([node for node in without_unused_imports(code) if node is not check])
        lines = [ast.unparse(node) for node in statements]
        return assertions.convert(lines, record.entry_point, alias=_CANDIDATE, set_up=set_up)
    return evalplus.nonce(code, f"{_CHECK}({record.entry_point})")


def _is_inert(node: ast.stmt) -> bool:
    """Check whether a statement has no effect of its own: a constant, a name, `pass`, the METADATA that every record
    has, or a call of `check`, which the judge makes itself.
    """
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant() | ast.Name()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="check"))):
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__")), body=body, orelse=[]):
            return all(map(_is_inert, body))
        case ast.Assign(targets=[ast.Name(id="METADATA")]):
            return True
        case _:
            return False
