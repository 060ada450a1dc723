"""The setting `tool`: the model may run Python in a confined workspace while it works out its answer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from alphamix.ensemble.settings.loop import Loop, Steps, Submit
from alphamix.ensemble.settings.prompts import OpeningPrompt, opening_prompt
from alphamix.ensemble.settings.setting import Attempt
from alphamix.ensemble.settings.tool_formats import FORMATS, Call, ToolFormat, text_tool
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallLimits, CallResult, Workspace, WorkspaceLimits, WorkspacePool
from alphamix.policies.types import Completion

PYTHON = text_tool(
    "python", "Run Python code, and return what it prints and the value of its last expression.", code="The code."
)
TESTS_FILE = "public_tests.json"
"""File of the workspace with the tests that the statement shows, where the experiment allows it."""
_NO_CALLS_LEFT = "No call is left: give the final answer."


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """What one attempt may use."""

    calls: int = 8
    """Number of calls, wrong ones included."""
    call: CallLimits = field(default_factory=lambda: CallLimits(cpu_s=10.0, wall_s=30.0, output_chars=2000))
    workspace: WorkspaceLimits = field(default_factory=WorkspaceLimits)


class ToolUse:
    """Setting in which the model may run Python.

    Args:
        pool: opens the workspaces.
        tool_format: how the model asks for calls.
        limits: of each attempt.
        keeps_variables: whether a call finds the variables of earlier ones.
        shows_tests: whether the workspace holds the problem's public tests. Hidden ones it never holds.
        template: as in `Reasoning`.
    """

    is_one_turn = False

    def __init__(
        self,
        pool: WorkspacePool,
        tool_format: str = "openai",
        limits: ToolLimits | None = None,
        *,
        keeps_variables: bool = True,
        shows_tests: bool = False,
        template: str | None = None,
    ) -> None:
        self._pool = pool
        self._format = FORMATS[tool_format]([PYTHON])
        self._limits = limits or ToolLimits()
        self._keeps_variables = keeps_variables
        self._shows_tests = shows_tests
        self._template = template

    def begin(self, problem: Problem) -> Attempt:
        """Return a new attempt at a problem. Its workspace takes no resources before the first call."""
        tests = problem.tests[: problem.public_tests] if self._shows_tests else ()
        notes = [self._format.instructions]
        if tests:
            notes.append(f"The file {TESTS_FILE} holds the tests that the statement shows.")
        prompt = opening_prompt(problem, self._template, "\n\n".join(filter(None, notes)))
        workspace = self._pool.open(self._limits.workspace, keeps_variables=self._keeps_variables)
        files = {}
        if tests:
            shown = [{"input": test.input, "output": test.output} for test in tests]
            files[TESTS_FILE] = json.dumps(shown, indent=1).encode()
        sandbox = PythonSandbox(workspace, self._limits.call, files)
        return Attempt(prompt, use_tool(prompt, self._format, self._limits.calls, sandbox.run), workspace)

    def close(self) -> None:
        """End all workspaces."""
        self._pool.close()


class PythonSandbox:
    """Runs the Python code of one attempt in a workspace, which gets its files before the first call."""

    def __init__(self, workspace: Workspace, limits: CallLimits, files: Mapping[str, bytes]) -> None:
        self._workspace = workspace
        self._limits = limits
        self._files = files

    def run(self, code: str) -> Steps[CallResult]:
        """Run code."""
        for path, data in self._files.items():
            yield self._workspace.write(path, data)
        self._files = {}
        return (yield self._workspace.run_python(code, self._limits))


def use_tool(
    prompt: OpeningPrompt, tool_format: ToolFormat, num_calls: int, run: Callable[[str], Steps[CallResult]]
) -> Loop:
    """Ask, and run what the model asks for, until it answers without a call. Errors of calls are shown to the model.

    An answer that was cut off ends the attempt: a call in it may be cut off as well, and is never run.
    """
    messages = list(prompt.messages)
    while True:
        reply: Completion = yield tool_format.ask(messages)
        if reply.finish_reason == "length":
            return Submit(reply.text, "out_of_tokens")
        calls = tool_format.calls(reply)
        if not calls:
            return Submit(reply.text, "submitted" if reply.text.strip() else "nothing_submitted")
        if num_calls <= 0:
            return Submit(reply.text, "out_of_turns")
        results: list[tuple[Call, str]] = []
        for call in calls:
            text = call.error
            if num_calls <= 0:
                text = _NO_CALLS_LEFT
            elif not text:
                text = tool_format.show((yield from run(call.arguments["code"])))
            num_calls -= 1
            results.append((call, text if num_calls != 0 else f"{text}\n{_NO_CALLS_LEFT}"))
        messages = tool_format.extended(messages, reply, results)
