"""The setting `reasoning`: one turn, the statement in, an answer with one program out."""

from alphamix.grading.types import Problem
from alphamix.policies.types import Message

_PROGRAM = "Write a Python program that reads from standard input and writes to standard output. "
_FUNCTION = "Write the Python function `{name}`. "
_METHOD = "Write the Python class `{owner}` with the method `{name}`. "
_FORM = "Answer with the whole program in one ```python block."


def messages(problem: Problem, template: str | None) -> list[Message]:
    """The prompt for a problem.

    Args:
        problem: its statement is shown, its tests never.
        template: text with `{statement}` in it; None adds what the answer must be to the statement.
    """
    if template is None:
        content = f"{problem.statement}\n\n{_task(problem)}{_FORM}"
    else:
        content = template.replace("{statement}", problem.statement)
    return [{"role": "user", "content": content}]


def _task(problem: Problem) -> str:
    if problem.epilogue is not None:  # code of the benchmark calls the program; the statement names what it calls
        return ""
    if problem.entry_point is None:
        return _PROGRAM
    owner, _, name = problem.entry_point.rpartition(".")
    return _METHOD.format(owner=owner, name=name) if owner else _FUNCTION.format(name=name)
