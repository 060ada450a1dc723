"""How a model calls tools, and how it is told the results: OpenAI tool calls, and formats in plain text.

The formats in plain text are data (`TextFormat`). They need no parser at the server:

| name     | a call                                  | the result                                           |
|----------|-----------------------------------------|------------------------------------------------------|
| `hermes` | `<tool_call>{JSON}</tool_call>`         | `<tool_response>` in a turn of the user              |
| `cwm`    | `<tool: NAME>`, arguments, `</tool>`    | a turn of the role `tool: NAME`                      |
| `fenced` | a block with the tool's name as label   | a block of the label `output`, in the same answer    |

`hermes` is also what Qwen's models are trained on, and `cwm` is that of the Code World Model. Arguments that are no
JSON each stand on a line of their own; the last takes all lines that are left, and of three, a line `=======` parts the
last two.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from alphamix.ensemble.settings.loop import Ask
from alphamix.grading.workspace import CallResult
from alphamix.policies.types import Completion, Message, Tool

_ENDED = {
    "cpu_limit": "The limit of CPU time ended the program.",
    "wall_limit": "The limit of time ended the program.",
    "memory_limit": "The limit of memory ended the program.",
    "killed": "The program was killed.",
}
_SEPARATOR = "\n=======\n"


def text_tool(name: str, description: str, **parameters: str) -> Tool:
    """Return the definition of a tool in OpenAI's form. All parameters are text and required."""
    properties = {key: {"type": "string", "description": meaning} for key, meaning in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a model has asked for: a tool and its arguments, or what is wrong with it."""

    id: str
    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


class ToolFormat(Protocol):
    """How a model and its tools talk to each other."""

    @property
    def instructions(self) -> str:
        """Text of the system message; empty if the model learns of its tools in another way."""
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
    """Return a result as text: both outputs, and how the program ended if it did not end well."""
    parts = [result.stdout.text, result.stderr.text, _ENDED.get(result.ended, "")]
    if result.ended == "error":
        parts.append(f"The exit code is {result.exit_code}.")
    if result.lost_variables:
        parts.append("The variables of earlier calls are gone.")
    return "\n".join(part.rstrip("\n") for part in parts if part) or "The program printed nothing."


class OpenAITools:
    """Tool calls of the OpenAI API. The server must parse what its model writes."""

    instructions = ""
    show = staticmethod(show_result)

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = tuple(tools)

    def ask(self, messages: Sequence[Message]) -> Ask:
        """Return the request for the next turn."""
        return Ask(tuple(messages), self._tools)

    def calls(self, reply: Completion) -> list[Call]:
        """Return the calls in an answer that is whole."""
        return [
            _checked_call(call["id"], call["function"]["name"], call["function"]["arguments"], self._tools)
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

    tools: Sequence[Tool]
    instructions: str
    pattern: re.Pattern[str]
    """What a call looks like. Its group `json` is a JSON object; or `name` is the tool and `body` has the arguments."""
    result: str
    """What a result looks like, with `{result}` in it."""
    role: str
    """Role of the turn that holds the results, with `{name}` for a turn of each; `assistant` continues the answer."""
    stop: tuple[str, ...] = ()
    """What would begin a result, which the model must not make up."""
    show: Callable[[CallResult], str] = show_result

    def ask(self, messages: Sequence[Message]) -> Ask:
        """Return the request for the next turn, or for the rest of an answer that has results in it."""
        continues = self.role == "assistant" and messages[-1]["role"] == "assistant"
        return Ask(tuple(messages), stop=self.stop, continues_last_message=continues)

    def calls(self, reply: Completion) -> list[Call]:
        """Return the calls in an answer that is whole. Those in the model's thinking do not count."""
        found = self.pattern.finditer(reply.message["content"].rpartition("</think>")[2])
        return [self._call(str(place), match.groupdict()) for place, match in enumerate(found)]

    def _call(self, identity: str, parts: Mapping[str, str]) -> Call:
        if "json" in parts:
            return _json_call(identity, parts["json"], self.tools)
        names = {_label(tool): _name(tool) for tool in self.tools}
        name = names.get(parts["name"], parts["name"])
        return _checked_call(identity, name, _text_arguments(name, parts["body"], self.tools), self.tools)

    def extended(
        self, messages: Sequence[Message], reply: Completion, results: Sequence[tuple[Call, str]]
    ) -> list[Message]:
        """Return the messages with an answer and the results of its calls."""
        texts = [self.result.replace("{result}", result) for _, result in results]
        if self.role == "assistant":
            before = list(messages)
            begun = before.pop()["content"] if before[-1]["role"] == "assistant" else ""
            joined = "\n".join(texts)
            return [*before, {"role": "assistant", "content": f"{begun}{reply.text.rstrip()}\n{joined}\n"}]
        if "{name}" in self.role:
            turns = [(self.role.format(name=call.name), text) for (call, _), text in zip(results, texts, strict=True)]
        else:
            turns = [(self.role, "\n".join(texts))]
        return [*messages, reply.message, *(cast("Message", {"role": role, "content": text}) for role, text in turns)]


def _json_call(identity: str, body: str, tools: Sequence[Tool]) -> Call:
    try:
        call: Any = json.loads(body, strict=False)
        name, arguments = call["name"], call.get("arguments", {})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return Call(identity, "", error=f"The call is no JSON object with a name and arguments: {error}")
    return _checked_call(identity, name, arguments, tools)


def _checked_call(identity: str, name: Any, arguments: Any, tools: Sequence[Tool]) -> Call:
    """Return a call, whose arguments may be an object or its JSON, if it is one of the tools and has all it takes."""
    wanted = {_name(tool): _parameters(tool) for tool in tools}.get(name) if isinstance(name, str) else None
    if wanted is None:
        return Call(identity, str(name), error=f"There is no tool {name!r}, only {', '.join(map(_name, tools))}.")
    try:
        given: Any = json.loads(arguments or "{}", strict=False) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        return Call(identity, name, error=f"The arguments are no JSON object: {error}")
    if (
        not isinstance(given, dict)
        or given.keys() != set(wanted)
        or not all(isinstance(v, str) for v in given.values())
    ):
        return Call(identity, name, error=f"{name} takes {' and '.join(wanted)}, as text, and nothing else.")
    return Call(identity, name, given)


def _text_arguments(name: str, body: str, tools: Sequence[Tool]) -> dict[str, str]:
    """Return as many arguments as can be found in the body of a call."""
    names = next((_parameters(tool) for tool in tools if _name(tool) == name), [])
    text = body.removesuffix("\n")
    if len(names) < 2:
        return dict(zip(names, [text], strict=False))
    first, _, rest = text.partition("\n")
    return dict(zip(names, [first.strip(), *rest.split(_SEPARATOR, len(names) - 2)], strict=False))


def _name(tool: Tool) -> str:
    return tool["function"]["name"]


def _label(tool: Tool) -> str:
    """Return the label of a block that calls a tool. A block `python` is the final program."""
    return "run" if _name(tool) == "python" else _name(tool)


def _parameters(tool: Tool) -> list[str]:
    return tool["function"]["parameters"]["required"]


def _body_of(tool: Tool) -> str:
    """Return what the body of a call looks like, with the names of the arguments in brackets."""
    first, *rest = (f"[{name}]" for name in _parameters(tool))
    return "\n".join([first, *([_SEPARATOR.join(rest)] if rest else [])])


def _show_for_cwm(result: CallResult) -> str:
    status = "completed." if result.ended in ("ok", "error") else _ENDED[result.ended]
    parts = [status, f"[stdout]{result.stdout.text}[/stdout]", f"[stderr]{result.stderr.text}[/stderr]"]
    if result.lost_variables:
        parts.append("The variables of earlier calls are gone.")
    return "\n".join(parts)


def _hermes(tools: Sequence[Tool]) -> TextFormat:
    example = {"name": _name(tools[0]), "arguments": dict.fromkeys(_parameters(tools[0]), "…")}
    return TextFormat(
        tools,
        instructions=(
            "You can call these functions while you work:\n<tools>\n"
            + "\n".join(map(json.dumps, tools))
            + "\n</tools>\n"
            "For each call, write a JSON object between tags, and end your turn:\n"
            f"<tool_call>\n{json.dumps(example, ensure_ascii=False)}\n</tool_call>\n"
            "The result arrives between <tool_response> tags."
        ),
        pattern=re.compile(r"<tool_call>(?P<json>.*?)</tool_call>", re.DOTALL),
        result="<tool_response>\n{result}\n</tool_response>",
        role="user",
        stop=("<tool_response>",),
    )


def _cwm(tools: Sequence[Tool]) -> TextFormat:
    announced = (
        f"<tool: {_name(tool)}>\n{_body_of(tool)}\n</tool>\n{tool['function']['description']}" for tool in tools
    )
    return TextFormat(
        tools,
        instructions="\n\n".join(["You have access to the following tools:", *announced]),
        pattern=re.compile(r"<tool: (?P<name>\w+)>\n?(?P<body>.*?)</tool>", re.DOTALL),
        result="{result}",
        role="tool: {name}",
        show=_show_for_cwm,
    )


def _fenced(tools: Sequence[Tool]) -> TextFormat:
    announced = (f"```{_label(tool)}\n{_body_of(tool)}\n```\n{tool['function']['description']}" for tool in tools)
    labels = "|".join(_label(tool) for tool in tools)
    return TextFormat(
        tools,
        instructions="\n\n".join(
            [
                "You can call tools while you work. Write a call in a block with one of these labels; the result then "
                "follows in a block with the label `output`:",
                *announced,
            ]
        ),
        pattern=re.compile(rf"^```(?P<name>{labels})[ \t]*\n(?P<body>(?:(?!```).*\n)*?)```\s*\Z", re.MULTILINE),
        result="```output\n{result}\n```",
        role="assistant",
        stop=("```output",),
    )


FORMATS: dict[str, Callable[[Sequence[Tool]], ToolFormat]] = {
    "openai": OpenAITools,
    "hermes": _hermes,
    "cwm": _cwm,
    "fenced": _fenced,
}
"""What makes each format for given tools, by its name in an experiment."""
