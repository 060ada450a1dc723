"""Bodies of the two completion routes as engines in this process accept them, read strictly.

`null` means absent, as everywhere in the OpenAI API. A parameter that these engines do not support is refused by name,
never ignored, unless its value has no effect. Messages are text: no tools, images or audio.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid
from alphamix.policies.types import Message, Prompt, SamplingParameters, TokenIds

COMPLETIONS_MAX_TOKENS = 16
"""Default of `max_tokens` in `/v1/completions`, from the OpenAI API reference."""

CHANGES_NOTHING: Mapping[str, Sequence[object] | None] = {
    "user": None,
    "metadata": None,
    "safety_identifier": None,
    "prompt_cache_key": None,
    "service_tier": ["auto", "default"],
    "store": [False],
    "logprobs": [False],
    "echo": [False],
    "presence_penalty": [0],
    "frequency_penalty": [0],
    "logit_bias": [{}],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "parallel_tool_calls": [True, False],
    "modalities": [["text"]],
    "response_format": [{"type": "text"}],
    "suffix": [""],
    "top_k": [-1, 0],
    "min_p": [0],
    "repetition_penalty": [1],
    "length_penalty": [1],
    "best_of": [1],
    "top_logprobs": [0],
    "ignore_eos": [False],
    "use_beam_search": [False],
    "skip_special_tokens": [True],
    "functions": [[]],
    "function_call": ["none", "auto"],
    "prompt_cache_retention": None,
}
"""Parameters that are ignored, with the values that have no effect (None: any value)."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_prompts(value: object) -> object:
    """Return one prompt, which is a text or a list of tokens, as a list of prompts."""
    is_tokens = isinstance(value, list) and value and all(type(item) is int for item in cast("list[object]", value))
    return [value] if isinstance(value, str) or is_tokens else value


def _joined_parts(value: object) -> object:
    """Join the text parts of a content; other types are left for pydantic to refuse."""
    if not isinstance(value, list):
        return value
    texts: list[str] = []
    for part in cast("list[object]", value):
        match part:
            case {"type": "text", "text": str(text), **rest} if not rest:
                texts.append(text)
            case _:
                raise ValueError("only text parts are supported")
    return "".join(texts)


Text = Annotated[str, BeforeValidator(_joined_parts)]
StopStrings = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list), Field(max_length=4)]
Token = Annotated[int, Field(ge=0)]
Prompts = Annotated[
    list[str] | list[Annotated[list[Token], Field(min_length=1)]], BeforeValidator(_as_prompts), Field(min_length=1)
]
TokenLimit = Annotated[int, Field(ge=1)]


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted and ignored: there is nothing to hide the length of."""


_READ = frozenset({"role", "content"})
_UNREAD = frozenset({"reasoning", "reasoning_content"})
_EMPTY: tuple[object, ...] = (None, [], {})


class ChatMessage(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text

    @model_validator(mode="before")
    @classmethod
    def _without_what_says_nothing(cls, message: object) -> object:
        """Leave out what clients send back of an answer and no template reads, such as `"refusal": null`."""
        if not isinstance(message, dict):
            return message
        fields = cast("dict[str, object]", message)
        return {key: value for key, value in fields.items() if key in _READ or not (value in _EMPTY or key in _UNREAD)}

    def message(self) -> Message:
        """Return the message as chat templates expect it: `developer` is the newer name of `system`."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.content}


class RequestBody(BaseModel):
    """Parameters that both routes accept."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    model: str
    n: Annotated[int, Field(ge=1)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: TokenLimit | None = None
    stop: StopStrings = []
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    def prompts(self) -> list[Prompt]:
        """Return the prompts, each of which is answered `n` times."""
        raise NotImplementedError

    def token_limit(self) -> int:
        """Return the maximum number of tokens of a choice."""
        raise NotImplementedError

    def parameters(self) -> SamplingParameters:
        """Return the parameters of sampling."""
        return SamplingParameters(self.temperature, self.top_p, self.token_limit(), tuple(self.stop))


class ChatBody(RequestBody):
    """Body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: TokenLimit | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if len({self.max_tokens, self.max_completion_tokens} - {None}) > 1:
            raise ValueError(
                f"max_tokens = {self.max_tokens} and max_completion_tokens = {self.max_completion_tokens} "
                "disagree; send one of them"
            )
        return self

    def prompts(self) -> list[Prompt]:
        """Return the conversation, which is the only prompt."""
        return [[turn.message() for turn in self.messages]]

    def token_limit(self) -> int:
        """Return the limit, which has an old and a new name."""
        return self.max_completion_tokens or self.max_tokens or SamplingParameters().max_tokens


class CompletionBody(RequestBody):
    """Body of `/v1/completions`."""

    prompt: Prompts

    def prompts(self) -> list[Prompt]:
        """Return the texts, or the tokens, to continue."""
        return [prompt if isinstance(prompt, str) else TokenIds(prompt) for prompt in self.prompt]

    def token_limit(self) -> int:
        """Return the limit, or the default of the API."""
        return self.max_tokens or COMPLETIONS_MAX_TOKENS


B = TypeVar("B", bound=RequestBody)


def read_body(kind: type[B], raw: bytes) -> B:
    """Read one request body.

    Raises:
        ApiError: 400; `param` names the parameter that is wrong, if it is one.
    """
    try:
        fields = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise invalid(f"the body must be a JSON object, not a {type(fields).__name__}")
    given = {key: value for key, value in cast("dict[str, Any]", fields).items() if value is not None}
    try:
        body = kind.model_validate(given)
    except ValidationError as error:
        raise validation_failed(error) from None
    _check_unsupported(body.model_extra or {})
    return body


def _check_unsupported(extra: Mapping[str, object]) -> None:
    for key, value in extra.items():
        neutral = CHANGES_NOTHING.get(key, [])
        if neutral is not None and not any(_is_same(value, same) for same in neutral):
            message = f"the parameter {key!r} = {_shown(value)} is not supported here; leave it out"
            raise invalid(message, param=key, code="unsupported_parameter")


def _is_same(value: object, same: object) -> bool:
    """Whether two values are the same; 1 and 1.0 are, and 1 and true are not."""
    kinds = (type(value), type(same))
    return value == same and (kinds[0] is kinds[1] or set(kinds) == {int, float})


def validation_failed(error: ValidationError, parent: str = "") -> ApiError:
    """400: the first fault that pydantic found, in the object `parent` of the body or in the body itself."""
    first = error.errors(include_url=False, include_context=False)[0]
    # What follows a checker in the location are names of our own types.
    location = first["loc"][:1] if first["loc"][:1] == ("checker",) else first["loc"]
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in location]
    param = "".join([parent, *steps]).removeprefix(".")
    reason = first["msg"].removeprefix("Value error, ")
    if not param:
        return invalid(reason)
    if first["type"] == "missing":
        return invalid(f"the parameter {param!r} is missing", param=param)
    return invalid(f"the parameter {param!r} is wrong: {reason} (got {_shown(first['input'])})", param=param)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
