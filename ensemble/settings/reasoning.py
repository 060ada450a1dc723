"""The setting `reasoning`: one turn, with the statement in the prompt and one program in the answer."""

from alphamix.ensemble.settings.loop import Ask, Loop, Submit
from alphamix.ensemble.settings.prompts import OpeningPrompt, opening_prompt
from alphamix.ensemble.settings.setting import Attempt
from alphamix.grading.types import Problem
from alphamix.policies.types import Completion


class Reasoning:
    """Setting in which the model answers once.

    Args:
        template: text of the user's turn, with `{statement}` in it; the setting's own instructions if None.
    """

    is_one_turn = True

    def __init__(self, template: str | None = None) -> None:
        self._template = template
        self._last: tuple[str, OpeningPrompt] | None = None
        """Problem and prompt of the last attempt: neighbours share both."""

    def begin(self, problem: Problem) -> Attempt:
        """Return a new attempt at a problem."""
        if self._last is None or self._last[0] != problem.id:
            self._last = problem.id, opening_prompt(problem, self._template)
        return Attempt(self._last[1], answer_once(self._last[1]))

    def close(self) -> None:
        """Do nothing, since nothing runs."""


def answer_once(prompt: OpeningPrompt) -> Loop:
    """Ask once, and submit the answer."""
    reply: Completion = yield Ask(prompt.messages)
    if reply.finish_reason == "length":
        return Submit(reply.text, "out_of_tokens")
    return Submit(reply.text, "submitted" if reply.text.strip() else "nothing_submitted")
