"""The setting `agent`: a terminal agent works in a confined workspace, and submits a file of it.

`TerminalAgent` is the loop of this package. A class of the user's (`own_agent`) may take its place.
"""

from collections.abc import Callable

from alphamix.ensemble.settings.loop import LimitReachedError, Loop, Steps, Submit
from alphamix.ensemble.settings.prompts import opening_prompt
from alphamix.ensemble.settings.public_tests import public_part
from alphamix.ensemble.settings.setting import Attempt
from alphamix.ensemble.settings.task import Agent, AgentLimits, Task
from alphamix.ensemble.settings.tool_formats import FORMATS, Call
from alphamix.grading.programs.names import tested_names
from alphamix.grading.types import Problem
from alphamix.grading.workspace import WorkspacePool
from alphamix.policies.types import Completion, Message

_SYSTEM = (
    "You solve a programming task in a shell on a Linux machine without a network. Work by calling tools: write the "
    "program into a file, run it, and submit it when it is right. You have {turns} turns. Nothing but a file that you "
    "submit is judged."
)
_NO_CALL = "Nothing was called. Call a tool: `submit` ends the task."
_LAST_TURN = "The next turn is the last one: submit a program."
_MAX_TURNS_WITHOUT_CALL = 3


class AgenticCoding:
    """Setting in which an agent works in a workspace.

    Args:
        pool: opens the workspaces.
        make_agent: returns the agent of a new attempt.
        limits: of each attempt.
        shows_tests: whether the agent can test on the problem's public tests. Hidden ones it never sees.
        template: as in `Reasoning`.
    """

    is_one_turn = False

    def __init__(
        self,
        pool: WorkspacePool,
        make_agent: Callable[[], Agent],
        limits: AgentLimits | None = None,
        *,
        shows_tests: bool = True,
        template: str | None = None,
    ) -> None:
        self._pool = pool
        self._make_agent = make_agent
        self._limits = limits or AgentLimits()
        self._shows_tests = shows_tests
        self._template = template

    def begin(self, problem: Problem) -> Attempt:
        """Return a new attempt at a problem. Its workspace takes no resources before the first call."""
        prompt = opening_prompt(problem, self._template, submits_file=True)
        public = public_part(problem if self._shows_tests else problem.model_copy(update={"public_tests": 0}))
        workspace = self._pool.open(self._limits.workspace, keeps_variables=False)
        task = Task(public, prompt.messages[-1]["content"], workspace, self._limits, tested_names(problem))
        return Attempt(prompt, work(self._make_agent(), task), workspace, self._limits.turns)

    def close(self) -> None:
        """End all workspaces."""
        self._pool.close()


def work(agent: Agent, task: Task) -> Loop:
    """Let an agent work, and submit the file that it names."""
    try:
        path = yield from agent.run(task)
        if path is None:
            return Submit("", "gave_up", is_code=True)
        submitted = yield from task.submit(path)
    except LimitReachedError as reached:
        return Submit("", reached.ending, is_code=True)
    program = (submitted.submission or b"").decode(errors="replace")
    if not program.strip():
        return Submit("", "nothing_submitted", is_code=True)
    return Submit(program, is_code=True)


class TerminalAgent:
    """Agent that asks, and does what the model calls for, until the model submits.

    An answer that was cut off ends the attempt: a call in it may be cut off as well, and is never run. A model that
    calls nothing is told so, and has given up after the third time in a row.

    Args:
        tool_format: How the model writes calls.
    """

    def __init__(self, tool_format: str = "openai") -> None:
        self._make_format = FORMATS[tool_format]

    def run(self, task: Task) -> Steps[str | None]:
        """Work at a task."""
        tool_format = self._make_format(task.tools)
        instructions = [_SYSTEM.format(turns=task.limits.turns), tool_format.instructions]
        messages: list[Message] = [
            {"role": "system", "content": "\n\n".join(filter(None, instructions))},
            {"role": "user", "content": task.prompt},
        ]
        without_call = 0
        for turns_left in range(task.limits.turns - 1, -1, -1):
            reply: Completion = yield tool_format.ask(messages)
            if reply.finish_reason == "length":
                raise LimitReachedError("out_of_tokens")
            calls = tool_format.calls(reply)
            without_call = 0 if calls else without_call + 1
            if without_call == _MAX_TURNS_WITHOUT_CALL:
                return None
            note = f"\n{_LAST_TURN}" if turns_left == 1 else ""
            if not calls:
                messages = [*messages, reply.message, {"role": "user", "content": _NO_CALL + note}]
                continue
            results: list[tuple[Call, str]] = []
            for call in calls:
                seen = yield from task.call(call)
                if seen.submission is not None:
                    return call.arguments["path"]
                text = seen.text if seen.result is None else tool_format.show(seen.result)
                results.append((call, text))
            results[-1] = (results[-1][0], results[-1][1] + note)
            messages = tool_format.extended(messages, reply, results)
        raise LimitReachedError("out_of_turns")
