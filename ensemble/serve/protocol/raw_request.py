"""A client's request, kept as bytes: only what routing needs is parsed, and the rest reaches the policies unchanged.

A body is split at its top level only; values stay the bytes that were sent, including unknown parameters. Each policy
answers one `Part` of the choices. `request_schema` decides which parameters an engine in this process accepts. No I/O.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from alphamix.ensemble.serve.protocol.api_errors import invalid
from alphamix.ensemble.serve.protocol.request_record import RequestRecord

Path = Literal["chat/completions", "completions"]
Fields = dict[str, Raw]

T = TypeVar("T")

NULL = Raw(b"null")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON that it expects."""

encode = msgspec.json.Encoder().encode
"""Write JSON; `Raw` values are copied as they are."""

read_fields = msgspec.json.Decoder(Fields).decode
_read_items = msgspec.json.Decoder(list[Raw]).decode


class Part(NamedTuple):
    """Choices `first`, …, `first + n - 1` of each prompt, which one policy answers."""

    policy: str
    first: int
    n: int

    def client_index(self, index: int, choices_per_prompt: int) -> int:
        """Return the index, in the client's answer to all prompts, of choice `index` of this part."""
        prompt, choice = divmod(index, self.n)
        return prompt * choices_per_prompt + self.first + choice


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request to a completion route."""

    path: Path
    fields: Fields
    model: str
    n: int
    """Number of choices for each prompt."""
    num_prompts: int
    seed: int | None
    stream: bool
    include_usage: bool
    session: str | None
    """What names the conversation: the header `x-alphamix-session`, or `user`."""
    record: RequestRecord = field(default_factory=RequestRecord, compare=False)

    @property
    def wants_usage(self) -> bool:
        """Whether the policies are asked for the usage of a stream, for the client or for our accounts."""
        return self.include_usage or self.record.asks_usage

    @property
    def num_bytes(self) -> int:
        """Number of bytes of the prompt, in JSON."""
        return len(bytes(self.fields.get("messages") or self.fields.get("prompt") or b""))

    @property
    def num_choices(self) -> int:
        """Number of choices for all prompts."""
        return self.n * self.num_prompts

    def body(self, model: str, part: Part, extra: Mapping[str, Mapping[str, Any]] | None = None) -> bytes:
        """Return the body that asks for a part of the choices; `n` and `seed` change only if they must.

        Args:
            model: The name under which the policy's server knows it.
            part: The choices to ask for.
            extra: Objects to add; fields that the client sent in objects of the same name are kept.

        Raises:
            ApiError: 400, the client sent a value of such a name that is not an object.
        """
        fields = {**self.fields, "model": Raw(encode(model))}
        if part.n != self.n:
            fields["n"] = Raw(b"%d" % part.n)
        if self.seed is not None and part.first:
            fields["seed"] = Raw(b"%d" % seed_of_choice(self.seed, part.first))
        if self.stream and self.wants_usage and not self.include_usage:
            options = read_parameter(self.fields, "stream_options", Fields) or {}
            fields["stream_options"] = Raw(encode({**options, "include_usage": True}))
        for name, added in (extra or {}).items():
            fields[name] = Raw(encode({**(read_parameter(self.fields, name, Fields) or {}), **added}))
        return encode(fields)


def read_request(path: Path, raw: bytes, record: RequestRecord | None = None, session: str | None = None) -> RawRequest:
    """Read a request body, and note in the record what it asks.

    Raises:
        ApiError: 400; `param` names the parameter that is wrong, if it is one.
    """
    try:
        if not raw.isascii():
            raw.decode()  # msgspec does not check the encoding of what it leaves raw
        fields = read_fields(raw)
    except msgspec.ValidationError:
        raise invalid("the body must be a JSON object: send one") from None
    except UNREADABLE as error:
        raise invalid(f"the body is not JSON: {error}; send a JSON object") from None
    n = read_parameter(fields, "n", int)
    if n is not None and n < 1:
        raise invalid(f"the parameter 'n' is wrong: send 1 or more (got {n})", param="n")
    model = read_parameter(fields, "model", str)
    if model is None:
        raise invalid("the parameter 'model' is missing: send the name of a policy or ensemble", param="model")
    stream_options: Mapping[str, Any] = read_parameter(fields, "stream_options", dict[str, Any]) or {}
    record = record or RequestRecord()
    request = RawRequest(
        path=path,
        fields=fields,
        model=model,
        n=1 if n is None else n,
        num_prompts=_num_prompts(fields) if path == "completions" else 1,
        seed=read_parameter(fields, "seed", int),
        stream=bool(read_parameter(fields, "stream", bool)),
        include_usage=stream_options.get("include_usage") is True,
        session=session or read_parameter(fields, "user", str),
        record=record,
    )
    record.stream, record.n = request.stream, request.n
    return request


def turn_of_session(session: str) -> int:
    """Return the turn of a conversation, always the same; over many conversations the shares equal the weights."""
    return int.from_bytes(hashlib.sha256(session.encode(errors="surrogatepass")).digest()[:8])


def seed_of_choice(seed: int, choice: int) -> int:
    """Return the seed of a choice, below 2⁶³.

    The first choice keeps the seed of its request, so that n = 1 and choice 0 of n = 8 agree. The others are hashed:
    counting up would make requests with neighbouring seeds share samples.
    """
    if choice == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{choice}".encode()).digest()[:8]) >> 1


def read_parameter(fields: Fields, name: str, kind: type[T]) -> T | None:
    """Return a parameter, or None if it is absent or null, which mean the same in the OpenAI API."""
    if (raw := fields.get(name)) is None or raw == NULL:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE as error:
        raise invalid(f"the parameter {name!r} is wrong: {error}", param=name) from None


def _num_prompts(fields: Fields) -> int:
    """Count the prompts: `prompt` is a text, its token ids, or a list of either."""
    prompt = fields.get("prompt")
    if prompt is None or not bytes(prompt).startswith(b"["):
        return 1
    items = _read_items(prompt)
    if not items:
        raise invalid("the parameter 'prompt' is wrong: send at least one prompt (got [])", param="prompt")
    return len(items) if bytes(items[0])[:1] in (b'"', b"[") else 1
