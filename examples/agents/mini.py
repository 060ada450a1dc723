"""mini-swe-agent as the agent: its loop, with a policy as its model and a workspace as its environment.

Its loop waits for each answer, so an attempt takes a thread. At most `MOST_THREADS` run at once, and further attempts
wait for one. An attempt that is ended ends its thread when it next asks or runs something.
"""

import os
import tempfile
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import alphamix

os.environ.setdefault("MSWEA_SILENT_STARTUP", "1")
os.environ.setdefault("MSWEA_GLOBAL_CONFIG_DIR", tempfile.mkdtemp())  # importing it makes this folder

from minisweagent.agents.default import DefaultAgent  # pyright: ignore[reportMissingImports]
from minisweagent.exceptions import FormatError, Submitted  # pyright: ignore[reportMissingImports]
from minisweagent.models.utils.actions_text import format_observation_messages, parse_regex_actions  # pyright: ignore[reportMissingImports]

MOST_THREADS = 64
_THREADS = ThreadPoolExecutor(MOST_THREADS, "mini-swe-agent")
_SYSTEM = """You work at a programming task in a shell. Each answer has one command, in a block like this:

```bash
ls
```

You are shown what it prints. When the program is right, submit its file by the command `submit FILE`."""
_WRONG = "Write exactly one command in a ```bash block. {{error}}"
_SEEN = "<returncode>{{output.returncode}}</returncode>\n<output>\n{{output.output}}</output>"

Steps = Generator[Any, Any, Any]


class Mini:
    """Agent that lets mini-swe-agent's `DefaultAgent` work."""

    def run(self, task: alphamix.Task) -> Generator[Any, Any, str | None]:
        """Carry out what the loop in the thread wants, and return the path that it submits."""
        bridge = Bridge()
        coming = bridge.coming
        ended = _THREADS.submit(_work, task, bridge)
        ended.add_done_callback(bridge.end)
        try:
            while (want := (yield coming)) is not None:
                want.answer.set_result((yield from want.steps))
                coming = want.next
        finally:
            bridge.abandon()
            ended.cancel()
        return ended.result()


@dataclass(frozen=True)
class Want:
    """What the thread wants, where it waits for the answer, and the future of what it wants next."""

    steps: Steps
    answer: "Future[Any]"
    next: "Future[Want | None]"


class Bridge:
    """Hands what a thread wants to a generator, and keeps the thread waiting for the answer."""

    def __init__(self) -> None:
        self.coming: Future[Want | None] = Future()
        """What the thread wants next; None once it has ended."""
        self._answer: Future[Any] = Future()
        self._is_abandoned = False

    def __call__(self, steps: Steps) -> Any:
        """Let the generator carry out steps. Only the thread calls this."""
        now, self.coming, self._answer = self.coming, Future(), Future()
        now.set_result(Want(steps, self._answer, self.coming))
        if self._is_abandoned:
            raise InterruptedError
        return self._answer.result()

    def end(self, _: object) -> None:
        """Say that the thread has ended."""
        self.coming.set_result(None)

    def abandon(self) -> None:
        """Let the thread go on with an error, since nobody answers any more."""
        self._is_abandoned = True
        if not self._answer.done():
            self._answer.set_exception(InterruptedError())


def _work(task: alphamix.Task, bridge: Bridge) -> str | None:
    agent = DefaultAgent(
        PolicyModel(bridge),
        WorkspaceEnvironment(task, bridge),
        system_template=_SYSTEM,
        instance_template="{{task}}",
        cost_limit=0,  # tokens and turns are limited by the experiment
    )
    return agent.run(task.prompt)["submission"] or None


class PolicyModel:
    """The policy, as a model of mini-swe-agent."""

    config = None

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def query(self, messages: list[dict[str, Any]], **_: Any) -> dict[str, Any]:
        """Ask the policy, and read the command in its answer."""
        chat = [{"role": message["role"], "content": message["content"]} for message in messages]
        reply = self._bridge(_ask(chat))
        answer: dict[str, Any] = {"role": "assistant", "content": reply.text}
        try:
            actions = parse_regex_actions(
                reply.text, action_regex=r"```bash\s*\n(.*?)\n```", format_error_template=_WRONG
            )
        except FormatError as error:
            raise FormatError(answer, *error.messages) from None
        return answer | {"extra": {"actions": actions}}

    def format_message(self, **message: Any) -> dict[str, Any]:
        """Return a message as it is."""
        return message

    def format_observation_messages(
        self, message: dict[str, Any], outputs: list[dict[str, Any]], template_vars: Any = None
    ) -> list[dict[str, Any]]:
        """Return what the commands have printed as turns of the user."""
        return format_observation_messages(outputs, observation_template=_SEEN, template_vars=template_vars)

    def get_template_vars(self, **_: Any) -> dict[str, Any]:
        """Return nothing more for templates."""
        return {}

    serialize = get_template_vars


def _ask(chat: Any) -> Steps:
    return (yield alphamix.Ask(chat))


class WorkspaceEnvironment:
    """The workspace of an attempt, as an environment of mini-swe-agent."""

    config = None

    def __init__(self, task: alphamix.Task, bridge: Bridge) -> None:
        self._task = task
        self._bridge = bridge

    def execute(self, action: dict[str, Any], cwd: str = "") -> dict[str, Any]:
        """Run a command. `submit FILE` ends the task, as no output of a program can."""
        command = action["command"].strip()
        if command.startswith("submit "):
            path = command.removeprefix("submit ").strip()
            extra = {"exit_status": "Submitted", "submission": path}
            raise Submitted({"role": "exit", "content": path, "extra": extra})
        result = self._bridge(self._task.bash(command)).result
        shown = result.stdout.text if result.ended in ("ok", "error") else f"{result.stdout.text}\n{result.ended}"
        return {"output": shown, "returncode": result.exit_code, "exception_info": ""}

    def get_template_vars(self, **_: Any) -> dict[str, Any]:
        """Return nothing more for templates."""
        return {}

    serialize = get_template_vars
