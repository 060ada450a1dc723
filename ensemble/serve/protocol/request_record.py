"""What one request took: who asked what, which policies answered, how many tokens, what failed, and when.

A record goes with its request. What answers adds to it, and `accounts` reads it when the answer has been sent.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Usage = Mapping[str, Any]
_BYTES_PER_TOKEN = 4
"""A token of English text has about four characters; other languages have fewer, but more bytes a character."""


class PolicyFailure(NamedTuple):
    """A call of a policy that failed; if another policy took over, the request did not."""

    policy: str
    cause: str


@dataclass(slots=True)
class PolicyShare:
    """What one policy did for a request."""

    calls: int = 0
    choices: int = 0
    prompt_tokens: int | None = 0
    """None if a call did not report it."""
    completion_tokens: int | None = 0
    tokens: int = 0
    """All tokens, read and written: those of calls that reported them, and an estimate for the others."""
    estimated_tokens: int = 0
    """The part of `tokens` that is estimated."""
    seconds: float = 0.0
    """Sum over the calls."""


@dataclass(slots=True)
class RequestRecord:
    """Record of one request."""

    id: str = ""
    key: str = ""
    """Name of the client's key; empty if the server has no keys."""
    path: str = ""
    model: str = ""
    """Name of the served model; empty if there is no such model."""
    stream: bool = False
    n: int = 1
    status: int = 200
    error: str | None = None
    """Code of the error that the client received, or its type if it has no code."""
    asks_usage: bool = False
    """Whether upstreams are asked for the usage of streams even if the client does not want it."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Headers that go upstream with the request."""
    first_token_s: float | None = None
    policies: dict[str, PolicyShare] = field(default_factory=dict[str, PolicyShare])
    failures: list[PolicyFailure] = field(default_factory=list[PolicyFailure])
    usages: list[Usage | None] = field(default_factory=list[Usage | None])
    """Usage of each call that was answered, None if it was not reported."""
    started_at: float = field(default_factory=time.time)
    """Unix seconds."""
    _started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self._started

    @property
    def tokens(self) -> int:
        """Number of tokens of all calls, as far as they are known or estimated."""
        return sum(share.tokens for share in self.policies.values())

    def add(self, policy: str, usage: Usage | None, choices: int, seconds: float, num_bytes: int) -> None:
        """Add a call that was answered; its tokens are estimated from its bytes of text if it does not report them."""
        self.usages.append(usage)
        share = self._share(policy)
        share.calls += 1
        share.choices += choices
        share.seconds += seconds
        read, written = _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")
        share.prompt_tokens = _plus(share.prompt_tokens, read)
        share.completion_tokens = _plus(share.completion_tokens, written)
        if read is not None and written is not None:
            share.tokens += read + written
        else:
            self.add_broken_off(policy, num_bytes)

    def add_broken_off(self, policy: str, num_bytes: int) -> None:
        """Add a call that ended before its usage came: its tokens are estimated from its bytes of text."""
        share, tokens = self._share(policy), -(-num_bytes // _BYTES_PER_TOKEN)
        share.tokens += tokens
        share.estimated_tokens += tokens

    def _share(self, policy: str) -> PolicyShare:
        share = self.policies.get(policy)
        if share is None:
            share = self.policies[policy] = PolicyShare()
        return share

    def as_json(self) -> dict[str, Any]:
        """Return the record as a line of the request log has it."""
        first_token_s = self.first_token_s
        return {
            "time": round(self.started_at, 3),
            "id": self.id,
            "key": self.key or None,
            "path": self.path,
            "model": self.model or None,
            "stream": self.stream,
            "n": self.n,
            "status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 6),
            "first_token_s": None if first_token_s is None else round(first_token_s, 6),
            "policies": {
                name: {
                    "calls": share.calls,
                    "choices": share.choices,
                    "prompt_tokens": share.prompt_tokens,
                    "completion_tokens": share.completion_tokens,
                    "tokens": share.tokens,
                    "estimated_tokens": share.estimated_tokens,
                    "seconds": round(share.seconds, 6),
                }
                for name, share in self.policies.items()
            },
            "failures": [failure._asdict() for failure in self.failures],
        }


def _tokens(usage: Usage | None, name: str) -> int | None:
    tokens = None if usage is None else usage.get(name)
    return tokens if type(tokens) is int and tokens >= 0 else None


def _plus(total: int | None, tokens: int | None) -> int | None:
    return None if total is None or tokens is None else total + tokens
