"""The prompts of all settings: what a problem's statement is followed by. Each has an id, which samples keep.

Those of agents, which submit a file, have the same ids with `agent_` before them.

| id          | for problems                                                    |
|-------------|-----------------------------------------------------------------|
| `stdin`     | whose programs read standard input and write standard output    |
| `function`  | whose tests call a function                                     |
| `method`    | whose tests call a method of a class, as LeetCode's do          |
| `benchmark` | whose statement names what the benchmark's own code calls       |
| `own`       | of an experiment that gives a text of its own                   |
"""

from dataclasses import dataclass

from alphamix.grading.types import Problem
from alphamix.policies.types import Message

_TASKS = {
    "stdin": "Write a Python program that reads from standard input and writes to standard output. ",
    "function": "Write the Python function `{name}`. ",
    "method": "Write the Python class `{owner}` with the method `{name}`. ",
    "benchmark": "",
}
_FORM = "Answer with the whole program in one ```python block."
_FORM_OF_FILES = "Write the whole program into a file below /workspace, and submit that file."


@dataclass(frozen=True, slots=True)
class OpeningPrompt:
    """The messages with which an attempt begins."""

    id: str
    messages: tuple[Message, ...]


def opening_prompt(
    problem: Problem, template: str | None = None, instructions: str = "", *, submits_file: bool = False
) -> OpeningPrompt:
    """Return the prompt for a problem.

    Args:
        problem: its statement is shown, never its tests.
        template: text with `{statement}` in it; None appends to the statement which form the answer must have.
        instructions: text of a system message, which says how to use tools; none if empty.
        submits_file: whether the answer is a file, and not a text.
    """
    if template is None:
        kind = _kind(problem)
        owner, _, name = (problem.entry_point or "").rpartition(".")
        form = _FORM_OF_FILES if submits_file else _FORM
        content = f"{problem.statement}\n\n{_TASKS[kind].format(owner=owner, name=name)}{form}"
        kind = f"agent_{kind}" if submits_file else kind
    else:
        kind, content = "own", template.replace("{statement}", problem.statement)
    system: tuple[Message, ...] = ({"role": "system", "content": instructions},) if instructions else ()
    return OpeningPrompt(kind, (*system, {"role": "user", "content": content}))


def _kind(problem: Problem) -> str:
    if problem.epilogue is not None:
        return "benchmark"
    if problem.entry_point is None:
        return "stdin"
    return "method" if "." in problem.entry_point else "function"
