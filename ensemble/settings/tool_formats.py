"""How a model asks for code to be run, and how it is told the result: OpenAI tool calls, and formats in plain text.

The formats in plain text are data (`TextFormat`). They need no parser at the server:

| name     | a call                                  | the result                                           |
|----------|-----------------------------------------|------------------------------------------------------|
| `hermes` | `<tool_call>{JSON}</tool_call>`         | `<tool_response>` in a turn of the user              |
| `cwm`    | `<tool: python>`, code, `</tool>`       | a turn of the role `tool: python`                    |
| `fenced` | a block of the label `run`              | a block of the label `output`, in the same answer    |

`hermes` is also what Qwen's models are trained on, and `cwm` is that of the Code World Model.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from alphamix.ensemble.settings.loop import Ask
from alphamix.grading.workspace import CallResult
from alphamix.policies.types import Completion, Message, Tool

_ENDED = {
    "cpu_limit": "The limit of CPU time ended the program.",
    "wall_limit": "The limit of time ended the program.",
    "memory_limit": "The limit of memory ended the program.",
    "killed": "The program was killed.",
}
PYTHON: Tool = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Run Python code, and return what it prints and the value of its last expression.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The code."}},
            "required": ["code"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a model has asked for: its code, or what is wrong with it."""

    id: str
    code: str = ""
    error: str = ""


class ToolFormat(Protocol):
    """How a model and its sandbox talk to each other."""

    @property
    def instructions(self) -> str:
        """Text of the system message; empty if the model learns of its tool in another way."""
        ...

    def ask(self, messages: Sequence[Message]) -> Ask:
        """Return the request for the next turn."""
        ...

    def calls(self, reply: Completion) -> list[Call]:
        """Return the calls in an answer that is whole."""
        ...

    def extended(
        self, messages: Sequence[Message], reply: Completion, results: Sequence[tuple[Call, str]]
    ) -> list[Message]:
        """Return the messages with an answer and the results of its calls."""
        ...

    def show(self, result: CallResult, /) -> str:
        """Return a result as the model sees it."""
        ...


def show_result(result: CallResult) -> str:
    """Return a result as text: both outputs, and how the program ended if a limit ended it."""
    parts = [result.stdout.text, result.stderr.text, _ENDED.get(result.ended, "")]
    if result.lost_variables:
        parts.append("The variables of earlier calls are gone.")
    return "\n".join(part.rstrip("\n") for part in parts if part) or "The program printed nothing."


class OpenAITools:
    """Tool calls of the OpenAI API. The server must parse what its model writes."""

    instructions = ""
    show = staticmethod(show_result)

    def ask(self, messages: Sequence[Message]) -> Ask:
        """Return the request for the next turn."""
        return Ask(tuple(messages), (PYTHON,))

    def calls(self, reply: Completion) -> list[Call]:
        """Return the calls in an answer that is whole."""
        return [
            _checked_call(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in reply.tool_calls
        ]

    def extended(
        self, messages: Sequence[Message], reply: Completion, results: Sequence[tuple[Call, str]]
    ) -> list[Message]:
        """Return the messages with an answer and one message for each call, as servers require."""
        answers: list[Message] = [
            {"role": "tool", "tool_call_id": call.id, "content": result} for call, result in results
        ]
        return [*messages, reply.message, *answers]


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Format in plain text."""

    instructions: str
    pattern: re.Pattern[str]
    """What a call looks like; its only group is the body."""
    result: str
    """What a result looks like, with `{result}` in it."""
    role: str
    """Role of the turn that holds the results; `assistant` if they continue the answer."""
    body: Literal["code", "json"] = "code"
    """Whether the body is the code, or the JSON of a call."""
    stop: tuple[str, ...] = ()
    """What would begin a result, which the model must not make up."""
    show: Callable[[CallResult], str] = show_result

    def ask(self, messages: Sequence[Message]) -> Ask:
        """Return the request for the next turn, or for the rest of an answer that has results in it."""
        continues = self.role == "assistant" and messages[-1]["role"] == "assistant"
        return Ask(tuple(messages), stop=self.stop, continues_last_message=continues)

    def calls(self, reply: Completion) -> list[Call]:
        """Return the calls in an answer that is whole. Those in the model's thinking do not count."""
        bodies = self.pattern.findall(reply.message["content"].rpartition("</think>")[2])
        if self.body == "code":
            return [Call(str(place), body) for place, body in enumerate(bodies)]
        return [_json_call(str(place), body) for place, body in enumerate(bodies)]

    def extended(
        self, messages: Sequence[Message], reply: Completion, results: Sequence[tuple[Call, str]]
    ) -> list[Message]:
        """Return the messages with an answer and the results of its calls."""
        text = "\n".join(self.result.replace("{result}", result) for _, result in results)
        if self.role != "assistant":
            turn = cast("Message", {"role": self.role, "content": text})
            return [*messages, reply.message, turn]
        before = list(messages)
        begun = before.pop()["content"] if before[-1]["role"] == "assistant" else ""
        return [*before, {"role": "assistant", "content": f"{begun}{reply.text.rstrip()}\n{text}\n"}]


def _json_call(identity: str, body: str) -> Call:
    try:
        call: Any = json.loads(body, strict=False)
        name, arguments = call["name"], call.get("arguments", {})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return Call(identity, error=f"The call is no JSON object with a name and arguments: {error}")
    return _checked_call(identity, name, arguments)


def _checked_call(identity: str, name: Any, arguments: Any) -> Call:
    """Return a call of the only tool there is, whose arguments may be an object or its JSON."""
    if name != "python":
        return Call(identity, error=f"There is no tool {name!r}; call 'python'.")
    try:
        code = (json.loads(arguments, strict=False) if isinstance(arguments, str) else arguments)["code"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        return Call(identity, error=f"The arguments are no JSON object with the code: {error!r}")
    return Call(identity, code) if isinstance(code, str) else Call(identity, error="The code must be a string.")


def _show_for_cwm(result: CallResult) -> str:
    status = "completed." if result.ended in ("ok", "error") else _ENDED[result.ended]
    parts = [status, f"[stdout]{result.stdout.text}[/stdout]", f"[stderr]{result.stderr.text}[/stderr]"]
    if result.lost_variables:
        parts.append("The variables of earlier calls are gone.")
    return "\n".join(parts)


HERMES = TextFormat(
    instructions=(
        "You can call this function while you work:\n<tools>\n" + json.dumps(PYTHON) + "\n</tools>\n"
        "For each call, write a JSON object between tags, and end your turn:\n"
        '<tool_call>\n{"name": "python", "arguments": {"code": "print(1 + 1)"}}\n</tool_call>\n'
        "The result arrives between <tool_response> tags."
    ),
    pattern=re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL),
    result="<tool_response>\n{result}\n</tool_response>",
    role="user",
    body="json",
    stop=("<tool_response>",),
)
CWM = TextFormat(
    instructions=(
        "You have access to the following tools:\n\n<tool: python>\n[code]\n</tool>\n"
        "Runs the Python [code], and returns what it prints and the value of its last expression."
    ),
    pattern=re.compile(r"<tool: python>\n?(.*?)\n?</tool>", re.DOTALL),
    result="{result}",
    role="tool: python",
    show=_show_for_cwm,
)
FENCED = TextFormat(
    instructions=(
        "You can run Python code while you work. Write it in a block with the label `run`; what it prints, and the "
        "value of its last expression, then follow in a block with the label `output`:\n"
        "```run\nprint(1 + 1)\n```\n```output\n2\n```\nThe block with your final program has the label `python`."
    ),
    pattern=re.compile(r"```run[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL),
    result="```output\n{result}\n```",
    role="assistant",
    stop=("```output",),
)

FORMATS: dict[str, ToolFormat] = {"openai": OpenAITools(), "hermes": HERMES, "cwm": CWM, "fenced": FENCED}
"""Every format, by its name in an experiment."""
