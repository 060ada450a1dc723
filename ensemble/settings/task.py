"""What a terminal agent gets: a problem, and a workspace with a shell, files, the public tests and a submission.

Whatever a model does wrong comes back as text for it to read. Only a failure of the sandbox ends an attempt.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from alphamix.ensemble.settings.loop import LimitReachedError, Steps
from alphamix.ensemble.settings.public_tests import run_public_tests
from alphamix.ensemble.settings.tool_formats import Call, show_result, text_tool
from alphamix.grading.programs.extract import extract_program
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallLimits, CallResult, FileRefusedError, Workspace, WorkspaceLimits, output
from alphamix.policies.types import Tool

_NO_CALLS_LEFT = "No call is left: submit a program."

BASH = text_tool(
    "bash",
    "Run a command in a new shell, in the directory where the last one ended. It has no network.",
    command="The command.",
)
READ = text_tool("read", "Show a text file.", path="Path of the file.")
WRITE = text_tool("write", "Write a file, in place of any old one.", path="Path of the file.", text="All of its text.")
EDIT = text_tool(
    "edit",
    "Replace a part of a file.",
    path="Path of the file.",
    old="Text that stands in the file exactly once.",
    new="Text to put in its place.",
)
TEST = text_tool("test", "Run a program on the tests that the task shows.", path="Path of the program.")
SUBMIT = text_tool("submit", "Submit a program, which ends the task.", path="Path of the program, below /workspace.")


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """What one attempt may use."""

    turns: int = 50
    """Number of answers of the model."""
    calls: int = 200
    """Number of calls of tools, wrong ones included."""
    call: CallLimits = field(default_factory=lambda: CallLimits(cpu_s=30.0))
    """Limits of each command, and of each test."""
    workspace: WorkspaceLimits = field(default_factory=WorkspaceLimits)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a call showed."""

    text: str
    is_good: bool = True
    """Whether a command ended with exit code 0, all tests passed, or a file could be used as wanted."""
    result: CallResult | None = None
    """The result of a command."""
    submission: bytes | None = None
    """The program that was submitted."""


class Task:
    """A problem at which an agent works, and the tools that it has.

    Each tool is a method to `yield from`, returns an `Observation`, and counts as a call. LimitReachedError is raised
    once no call is left.

    Example:
        >>> class Once:
        ...     def run(self, task: alphamix.Task):
        ...         reply = yield alphamix.Ask([{"role": "user", "content": task.prompt}])
        ...         yield from task.write("answer.py", task.program_in(reply.text))
        ...         return "answer.py"

    Args:
        problem: The problem, with its public tests and no others.
        prompt: The statement, and which program is wanted.
        workspace: The attempt's workspace, which the caller closes.
        limits: Limits of the attempt.
        names: Names by which the tests call a program.
        max_file_bytes: Size of the longest file that is read or submitted.
    """

    def __init__(
        self,
        problem: Problem,
        prompt: str,
        workspace: Workspace,
        limits: AgentLimits | None = None,
        names: Collection[str] = (),
        max_file_bytes: int = 1 << 18,
    ) -> None:
        self.problem = problem
        self.prompt = prompt
        self.limits = limits or AgentLimits()
        self._workspace = workspace
        self._names = names
        self._max_file_bytes = max_file_bytes
        self._calls_left = self.limits.calls

    @property
    def tools(self) -> list[Tool]:
        """Definitions of the tools, in the order in which models are told of them."""
        return [BASH, READ, WRITE, EDIT, *([TEST] if self.problem.tests else []), SUBMIT]

    def program_in(self, answer: str) -> str:
        """Return the program that the judge would find in an answer of the model; empty if there is none."""
        program = extract_program(answer, self.problem.prologue, self._names)
        return "" if program is None else program.source

    def call(self, call: Call) -> Steps[Observation]:
        """Do what a model asks for. Once no call is left, it may still submit."""
        if call.error:
            self._calls_left -= 1
            return Observation(call.error, is_good=False)
        try:
            return (yield from getattr(self, call.name)(**call.arguments))
        except LimitReachedError:
            return Observation(_NO_CALLS_LEFT, is_good=False)

    def bash(self, command: str) -> Steps[Observation]:
        """Run a command in a new shell, in the directory where the last one ended."""
        self._count_call()
        result: CallResult = yield self._workspace.run(command, self.limits.call)
        return Observation(show_result(result), result.ended == "ok", result)

    def read(self, path: str) -> Steps[Observation]:
        """Show a text file."""
        self._count_call()
        try:
            data = yield from self._data_of(path)
        except FileRefusedError as error:
            return _refused(error)
        return Observation(output.show(data, b"", len(data), self.limits.call.output_chars).text)

    def write(self, path: str, text: str) -> Steps[Observation]:
        """Write a file, in place of any old one."""
        self._count_call()
        return (yield from self._write(path, _encoded(text)))

    def edit(self, path: str, old: str, new: str) -> Steps[Observation]:
        """Replace a text that stands in a file exactly once."""
        self._count_call()
        before, after = _encoded(old), _encoded(new)
        try:
            data = yield from self._data_of(path)
        except FileRefusedError as error:
            return _refused(error)
        count = data.count(before) if before else 0
        if count != 1:
            text = f"Error: {path} has the old text {count} times, and should have it once."
            return Observation(text, is_good=False)
        return (yield from self._write(path, data.replace(before, after)))

    def test(self, path: str) -> Steps[Observation]:
        """Run a program on the public tests."""
        self._count_call()
        if not self.problem.tests:
            return Observation("The task shows no tests.", is_good=False)
        return Observation(*(yield from run_public_tests(self.problem, path, self._workspace, self.limits.call)))

    def submit(self, path: str) -> Steps[Observation]:
        """Read the program to submit, when everything else in the workspace has ended. It may always be called."""
        try:
            program = yield self._workspace.submission(path, max_bytes=self._max_file_bytes)
        except FileRefusedError as error:
            return _refused(error)
        return Observation(f"Submitted {path}.", submission=program)

    def _count_call(self) -> None:
        if self._calls_left <= 0:
            raise LimitReachedError("out_of_turns")
        self._calls_left -= 1

    def _data_of(self, path: str) -> Steps[bytes]:
        part = yield self._workspace.read(path, max_bytes=self._max_file_bytes)
        if part.size > self._max_file_bytes:
            raise FileRefusedError(f"{path} has more than {self._max_file_bytes} bytes: use bash for it")
        return part.data

    def _write(self, path: str, data: bytes) -> Steps[Observation]:
        try:
            yield self._workspace.write(path, data)
        except FileRefusedError as error:
            return _refused(error)
        return Observation(f"Wrote {path}.")


class Agent(Protocol):
    """What works at tasks. A new instance is made for each attempt."""

    def run(self, task: Task) -> Steps[str | None]:
        """Work at a task, and return the path of the program to submit, or None to give up."""
        ...


def _refused(error: FileRefusedError) -> Observation:
    return Observation(f"Error: {error}", is_good=False)


def _encoded(text: str) -> bytes:
    return text.encode(errors="replace")  # a model's text may have halves of surrogate pairs
