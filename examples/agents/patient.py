"""An agent of one's own: it asks for a program, tests it, and asks for a better one until all public tests pass."""

from collections.abc import Generator
from typing import Any

import alphamix


class Patient:
    """Agent that needs no tool calls, so that any chat model can be asked.

    Args:
        tries: Number of programs to ask for.
        explains: Whether the model is shown its program and what it wrote; if not, it is asked the same again.
    """

    def __init__(self, tries: int = 4, *, explains: bool = True) -> None:
        self.tries = tries
        self.explains = explains

    def run(self, task: alphamix.Task) -> Generator[Any, Any, str]:
        """Work at a task, and return the path of the program to submit."""
        messages = question = [user(task.prompt)]
        for _ in range(self.tries):
            reply = yield alphamix.Ask(messages)
            yield from task.write("answer.py", task.program_in(reply.text))
            seen = yield from task.test("answer.py")
            if seen.is_good:
                break
            if self.explains:
                told = f"{seen.text}\n\nCorrect the program, and write all of it."
                messages = [*question, reply.message, user(told)]
        return "answer.py"


def user(content: str) -> Any:
    """Return a turn of the user."""
    return {"role": "user", "content": content}
