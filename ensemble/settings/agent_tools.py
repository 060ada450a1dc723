"""The tools of a terminal agent: a shell, files, the public tests and a submission, all in one workspace.

Whatever the model does wrong comes back as text for it to read. Only a failure of the sandbox is raised.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from alphamix.grading.workspace import CallLimits, CallResult, FilePart, FileRefusedError, Workspace, output

T = TypeVar("T")
U = TypeVar("U")

_LIMIT_OF_ENDED = {"cpu_limit": "CPU time", "wall_limit": "time", "memory_limit": "memory"}
_COMPILED = "/tmp/.compiled"
_CALL = """
import json, runpy, sys
given = json.load(sys.stdin)
made = runpy.run_path({path!r}, run_name="solution")
owner, _, name = {entry_point!r}.rpartition(".")
function = getattr(made[owner](), name) if owner else made[name]
print("\\n" + json.dumps(function(*given)))
"""
"""Program that calls a function of a file, and writes its result as the last line."""


@dataclass(frozen=True, slots=True)
class PublicTest:
    """A test that the statement shows: text for programs, JSON values for functions."""

    input: Any
    output: Any


@dataclass(frozen=True, slots=True)
class Observation:
    """What the model is shown of a call. `submission` is its program, if the call ends the attempt."""

    text: str
    submission: bytes | None = None


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    """Return a definition in OpenAI's form. All parameters are text and required."""
    properties = {key: {"type": "string", "description": meaning} for key, meaning in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    _tool(
        "bash",
        "Run a command in a new shell, in the directory where the last one ended. It has no network.",
        command="The command.",
    ),
    _tool("read", "Show a text file.", path="Path of the file."),
    _tool("write", "Write a file, in place of any old one.", path="Path of the file.", text="All of its text."),
    _tool(
        "edit",
        "Replace a part of a file.",
        path="Path of the file.",
        old="Text that stands in the file exactly once.",
        new="Text to put in its place.",
    ),
    _tool("test", "Run a program on the tests that the task shows.", path="Path of the program."),
    _tool("submit", "Submit a program, which ends the task.", path="Path of the program, below /workspace."),
]
"""Definitions of the tools, in the order in which models are told of them."""
_PARAMETERS = {tool["function"]["name"]: tool["function"]["parameters"]["required"] for tool in TOOLS}


class AgentTools:
    """Runs the tool calls of one attempt.

    Args:
        workspace: The attempt's workspace, which the caller closes.
        tests: The public tests, and no others.
        entry_point: Function that the tests call, as `name` or `Class.name`; None for programs.
        limits: Limits of each command, and of each test.
        max_file_bytes: Size of the longest file that is read or submitted.
    """

    def __init__(
        self,
        workspace: Workspace,
        tests: Sequence[PublicTest] = (),
        entry_point: str | None = None,
        limits: CallLimits | None = None,
        max_file_bytes: int = 1 << 18,
    ) -> None:
        self._workspace = workspace
        self._tests = tests
        self._entry_point = entry_point
        self._limits = limits or CallLimits()
        self._max_file_bytes = max_file_bytes

    def call(self, name: str, arguments: Mapping[str, Any]) -> "Future[Observation]":
        """Begin a call. The future raises WorkspaceError if the sandbox fails, and for nothing that the model did."""
        wanted = _PARAMETERS.get(name)
        if wanted is None:
            return _done(Observation(f"There is no tool {name!r}, only {', '.join(_PARAMETERS)}."))
        values = [arguments.get(key) for key in wanted]
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) < len(values) or set(arguments) - set(wanted):
            return _done(Observation(f"{name} takes {' and '.join(wanted)}, as text, and nothing else."))
        answer: Future[Observation] = getattr(self, f"_{name}")(*texts)
        return _recover(answer, FileRefusedError, lambda error: Observation(f"Error: {error}"))

    def _bash(self, command: str) -> "Future[Observation]":
        return _then(self._workspace.run(command, self._limits), lambda result: _done(Observation(show(result))))

    def _read(self, path: str) -> "Future[Observation]":
        chars = self._limits.output_chars
        return _then(
            self._data_of(path), lambda data: _done(Observation(output.show(data, b"", len(data), chars).text))
        )

    def _write(self, path: str, text: str) -> "Future[Observation]":
        return self._write_data(path, _encoded(text))

    def _write_data(self, path: str, data: bytes) -> "Future[Observation]":
        return _then(self._workspace.write(path, data), lambda _: _done(Observation(f"Wrote {path}.")))

    def _edit(self, path: str, old: str, new: str) -> "Future[Observation]":
        before, after = _encoded(old), _encoded(new)

        def replace(data: bytes) -> "Future[Observation]":
            count = data.count(before) if before else 0
            if count != 1:
                return _done(Observation(f"Error: {path} has the old text {count} times, and should have it once."))
            return self._write_data(path, data.replace(before, after))

        return _then(self._data_of(path), replace)

    def _data_of(self, path: str) -> "Future[bytes]":
        def check(part: FilePart) -> "Future[bytes]":
            if part.size > self._max_file_bytes:
                raise FileRefusedError(f"{path} has more than {self._max_file_bytes} bytes: use bash for it")
            return _done(part.data)

        return _then(self._workspace.read(path, max_bytes=self._max_file_bytes), check)

    def _test(self, path: str) -> "Future[Observation]":
        if not self._tests:
            return _done(Observation("The task shows no tests."))
        compiling, command = self._how_to_run(path)
        results = [self._workspace.run(compiling, self._limits)] if compiling else []
        for test in self._tests:
            stdin = test.input if self._entry_point is None else json.dumps(test.input)
            results.append(self._workspace.run(command, self._limits, stdin=stdin.encode(), merged=False))
        return _then(_all(results), lambda ended: _done(Observation(self._report(ended, compiled=bool(compiling)))))

    def _how_to_run(self, path: str) -> tuple[str | None, str]:
        """Return the command that compiles a program, if any, and the one that runs it."""
        if path.endswith((".cpp", ".cc", ".cxx")):
            return f"g++ -std=gnu++20 -O2 -o {_COMPILED} {_quoted(path)}", _COMPILED
        if self._entry_point is None:
            return None, f"python3 {_quoted(path)}"
        return None, f"python3 -c {_quoted(_CALL.format(path=path, entry_point=self._entry_point))}"

    def _report(self, results: list[CallResult], *, compiled: bool) -> str:
        if compiled and results[0].ended != "ok":
            return f"The program does not compile.\n{show(results[0])}"
        runs = results[1:] if compiled else results
        lines: list[str] = []
        for number, (test, result) in enumerate(zip(self._tests, runs, strict=True), start=1):
            if result.ended == "ok" and self._is_right(result.stdout.text, test.output):
                lines.append(f"Test {number}: passed")
            else:
                expected = test.output if self._entry_point is None else json.dumps(test.output)
                lines.append(f"Test {number}: failed\nexpected:\n{expected}\nwritten:\n{show(result)}")
        return "\n".join(lines)

    def _is_right(self, written: str, expected: Any) -> bool:
        if self._entry_point is None:
            return written.split() == str(expected).split()
        try:
            return json.loads(written.rstrip().rpartition("\n")[2]) == expected
        except ValueError:
            return False

    def _submit(self, path: str) -> "Future[Observation]":
        data = self._workspace.submission(path, max_bytes=self._max_file_bytes)
        return _then(data, lambda program: _done(Observation(f"Submitted {path}.", program)))


def show(result: CallResult) -> str:
    """Return what a model is shown of a call: its output, and how it ended if that was not well."""
    parts = [text.rstrip("\n") for text in (result.stdout.text, result.stderr.text) if text.strip()]
    if result.ended in _LIMIT_OF_ENDED:
        parts.append(f"[ended, because it used more {_LIMIT_OF_ENDED[result.ended]} than it may]")
    elif result.ended != "ok":
        parts.append(f"[exit code {result.exit_code}]")
    return "\n".join(parts) or "[no output]"


def _encoded(text: str) -> bytes:
    return text.encode(errors="replace")  # a model's text may have halves of surrogate pairs


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _done(value: T) -> "Future[T]":
    future: Future[T] = Future()
    future.set_result(value)
    return future


def _then(first: "Future[T]", follow: "Callable[[T], Future[U]]") -> "Future[U]":
    """Return the future of what follows on another one's result; an error of either is its error."""
    joined: Future[U] = Future()

    def copy(second: "Future[U]") -> None:
        error = second.exception()
        joined.set_exception(error) if error is not None else joined.set_result(second.result())

    def on_first(done: "Future[T]") -> None:
        try:
            follow(done.result()).add_done_callback(copy)
        except Exception as error:
            joined.set_exception(error)

    first.add_done_callback(on_first)
    return joined


def _recover(first: "Future[T]", kind: type[Exception], explain: Callable[[Exception], T]) -> "Future[T]":
    """Return a future that has the explanation as its result if the other one fails with an error of this kind."""
    joined: Future[T] = Future()

    def on_first(done: "Future[T]") -> None:
        error = done.exception()
        if isinstance(error, kind):
            joined.set_result(explain(error))
        elif error is not None:
            joined.set_exception(error)
        else:
            joined.set_result(done.result())

    first.add_done_callback(on_first)
    return joined


def _all(futures: "Sequence[Future[T]]") -> "Future[list[T]]":
    """Return the results of futures of one workspace, which end in their order."""
    return _then(futures[-1], lambda _: _done([future.result() for future in futures]))
