"""What a client asked, kept as bytes: what routing needs is read, all else reaches the policy as it came.

A body is split at its top level only; values stay the bytes that were sent, unknown parameters too. No policy and
no I/O here. What embedded engines take of a body, and refuse, is `bodies`' affair.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Raw

from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid
from alphamix.ensemble.serve.protocol.parts import Part, seed_of_choice

Path = Literal["chat/completions", "completions"]
Fields = dict[str, Raw]

T = TypeVar("T")

NULL = Raw(b"null")

encode = msgspec.json.Encoder().encode
"""Write JSON; `Raw` values as they are."""

_read_fields = msgspec.json.Decoder(Fields).decode
_read_items = msgspec.json.Decoder(list[Raw]).decode


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request to a completion route."""

    path: Path
    fields: Fields
    model: str
    n: int
    """Choices for each prompt."""
    num_prompts: int
    seed: int | None
    stream: bool
    include_usage: bool
    user: str | None

    @property
    def num_choices(self) -> int:
        """Choices of all prompts."""
        return self.n * self.num_prompts

    def body(self, model: str, part: Part, extra: Mapping[str, Mapping[str, Any]] | None = None) -> bytes:
        """Write the body that asks for a part of the choices. `n` and `seed` change only where they must.

        Args:
            model: The name that the policy's server knows it by.
            part: Which choices.
            extra: Objects that the server wants besides; what a client gives under their names is kept beside them.

        Raises:
            ApiError: 400, a client gives something under such a name that is no object.
        """
        fields = {**self.fields, "model": Raw(encode(model))}
        if part.n != self.n:
            fields["n"] = Raw(b"%d" % part.n)
        if self.seed is not None and part.first:
            fields["seed"] = Raw(b"%d" % seed_of_choice(self.seed, part.first))
        for name, wanted in (extra or {}).items():
            fields[name] = Raw(encode({**(_read(self.fields, name, Fields) or {}), **wanted}))
        return encode(fields)


def read_request(path: Path, raw: bytes) -> RawRequest:
    """Read a request body.

    Raises:
        ApiError: 400; `param` names the parameter that is wrong, where one is.
    """
    try:
        fields = _read_fields(raw)
    except msgspec.ValidationError:
        raise invalid("the body must be a JSON object: send one") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}; send a JSON object") from None
    n = _read(fields, "n", int)
    if n is not None and n < 1:
        raise invalid(f"the parameter 'n' is wrong: send 1 or more (got {n})", param="n")
    model = _read(fields, "model", str)
    if model is None:
        raise invalid("the parameter 'model' is missing: send the name of a policy or ensemble", param="model")
    stream_options: Mapping[str, Any] = _read(fields, "stream_options", dict[str, Any]) or {}
    return RawRequest(
        path=path,
        fields=fields,
        model=model,
        n=1 if n is None else n,
        num_prompts=_num_prompts(fields) if path == "completions" else 1,
        seed=_read(fields, "seed", int),
        stream=bool(_read(fields, "stream", bool)),
        include_usage=stream_options.get("include_usage") is True,
        user=_read(fields, "user", str),
    )


def _read(fields: Fields, name: str, kind: type[T]) -> T | None:
    """Read a parameter; null means absent, as everywhere in the OpenAI API."""
    if (raw := fields.get(name)) is None or raw == NULL:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"the parameter {name!r} is wrong: {error}", param=name) from None


def _num_prompts(fields: Fields) -> int:
    """Count prompts: a text, its token ids, or a list of either."""
    prompt = fields.get("prompt")
    if prompt is None or not bytes(prompt).startswith(b"["):
        return 1
    items = _read_items(prompt)
    if not items:
        raise invalid("the parameter 'prompt' is wrong: send at least one prompt (got [])", param="prompt")
    return len(items) if bytes(items[0])[:1] in (b'"', b"[") else 1


def read_object(raw: bytes) -> Fields:
    """Split an object of a server's answer at its top level.

    Raises:
        ApiError: 502, it is none, or no text: clients could not read it.
    """
    try:
        if not raw.isascii():
            raw.decode()
        return _read_fields(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ApiError(502, "an answer is no JSON object", kind="server_error", code="malformed") from None
