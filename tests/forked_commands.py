"""A process that has imported what `alphamix` needs and forks for each command, so that commands start at once.

Run as a script, it reads one command a line as JSON: arguments, working folder, environment, and the files for the two
output streams. It answers with the process id, and with the exit code once the command has ended. The fork runs
`python -m alphamix` from its first line to the interpreter's own exit.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUNNING = (
    *(f"alphamix.ensemble.cli.commands.{name}" for name in ("run", "resume", "report", "status", "export")),
    "matplotlib.backends.backend_agg",
    "alphamix.policies.engines.openai.engine",
)
"""What a run with policies behind URLs needs."""
CHECKPOINTS = (
    *RUNNING,
    "torch",
    "transformers.models.llama.modeling_llama",
    "alphamix.policies.engines.transformers.engine",
)
"""What a run with policies in the same process needs too."""
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A process that has threads cannot be forked safely."""


class RunningCommand:
    """A command that runs in a fork."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self._pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        if self.returncode is None and self._server.has_answer(0):
            self.returncode = int(self._server.read()["code"])
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        """Wait for the end; raise `subprocess.TimeoutExpired` after `timeout` seconds."""
        if self.returncode is not None:
            return self.returncode
        if not self._server.has_answer(timeout):
            os.kill(self._pid, signal.SIGKILL)
            self._server.read()  # the exit code: the next command would take it for its own answer
            raise subprocess.TimeoutExpired("alphamix", timeout)
        code = self.returncode = int(self._server.read()["code"])
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)


class ForkServer:
    """Starts commands, one at a time."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"

    def start(self, *arguments: object, cwd: Path | None = None) -> RunningCommand:
        assert self._process.stdin is not None
        request = {
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd or Path.cwd()),
            "environment": os.environ | SINGLE_THREADED,
            "stdout": str(self._stdout),
            "stderr": str(self._stderr),
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return RunningCommand(self, self.read()["pid"])

    def run(self, *arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, and return what it wrote."""
        code = self.start(*arguments, cwd=cwd).wait()
        stdout = self._stdout.read_text(encoding="utf-8")
        return subprocess.CompletedProcess(["alphamix", *map(str, arguments)], code, stdout, self.last_error())

    def last_error(self) -> str:
        """Return what the last command wrote on standard error."""
        return self._stderr.read_text(encoding="utf-8")

    def has_answer(self, timeout_s: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], timeout_s)[0])

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def open_fork_server(folder: Path, *modules: str) -> Generator[ForkServer]:
    """Start a server whose forks have imported these modules; it keeps the last command's output in `folder`."""
    command = [sys.executable, __file__, *modules]
    environment = os.environ | SINGLE_THREADED
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        server = ForkServer(process, folder)
        assert server.read() == {"threads": 1}
        yield server
        assert process.stdin is not None
        process.stdin.close()


def _answer(**content: object) -> None:
    os.write(1, f"{json.dumps(content)}\n".encode())


def _become(request: dict[str, Any]) -> None:
    """Make this process one that was started with the request's folder, environment and streams."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, path in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["alphamix", *request["arguments"]]


def _next_request() -> dict[str, Any] | None:
    """Serve; return a request in the fork that is to carry it out, None at the end."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return json.loads(line)
        _answer(pid=child)
        _, status = os.waitpid(child, 0)
        _answer(code=os.waitstatus_to_exitcode(status))
    return None


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # else a collection in a fork copies the memory of all that was imported
    _answer(threads=threading.active_count())
    if (wanted := _next_request()) is not None:
        _become(wanted)
        runpy.run_module("alphamix", run_name="__main__", alter_sys=True)
