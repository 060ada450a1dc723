"""Errors of serving, as the OpenAI API reports them: a status and an error object.

The object is `{"error": {"message", "type", "param", "code"}}`. A client receives cause and cure; what an engine said
goes only to the log, since it may name addresses.
"""

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

_CERTAIN = frozenset({"connection", "timeout", "policy_unavailable"})
"""Codes of failures that are the policy's, whatever the request was."""
_LONGEST_NAME = 200
"""Maximum length of the name of an unknown model that is sent back."""


@dataclass(eq=False, repr=False)
class ApiError(Exception):
    """A request that is answered with an error object instead of choices."""

    status: int
    message: str
    _: KW_ONLY
    kind: str
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    rest_s: float | None = None
    """How long the server of a policy asks not to be asked; None if it does not say."""

    def __post_init__(self) -> None:
        super().__init__(self.message)

    @property
    def is_server_error(self) -> bool:
        """Whether the policy or this server failed, and not the request."""
        return self.status >= 500

    @property
    def is_doubtful(self) -> bool:
        """Whether the request may have made the policy fail: a server that answers with an error is there."""
        return self.is_server_error and self.code not in _CERTAIN

    @property
    def is_retryable(self) -> bool:
        """Whether another policy may answer the same request."""
        return self.is_server_error or self.status == 429

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        return {} if self.retry_after_s is None else {"retry-after": str(max(1, math.ceil(self.retry_after_s)))}

    def as_json(self) -> dict[str, Any]:
        """Return the body that OpenAI clients read."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> ApiError:
    """4xx: the request is wrong, or asks for something that is not supported."""
    return ApiError(status, message, kind="invalid_request_error", param=param, code=code)


def rate_limit(message: str, retry_after_s: float, *, param: str | None = None) -> ApiError:
    """429: a limit is reached; the same request may be accepted later."""
    return ApiError(429, message, kind="rate_limit_error", param=param, code="rate_limit", retry_after_s=retry_after_s)


def server_error(status: int, message: str, code: str, *, retry_after_s: float | None = None) -> ApiError:
    """5xx: the policy or this server failed."""
    return ApiError(status, message, kind="server_error", code=code, retry_after_s=retry_after_s)


def unknown_model(model: str, served: Iterable[str]) -> ApiError:
    """404: there is no such model; the message lists those that exist."""
    shown = model if len(model) <= _LONGEST_NAME else f"{model[:_LONGEST_NAME]}…"
    message = f"unknown model {shown!r}: this server has {', '.join(served)}"
    return invalid(message, status=404, param="model", code="model_not_found")


def queue_timeout(policy: str, waited_s: float) -> ApiError:
    """429: an engine works, but was busy with other requests for too long."""
    return rate_limit(f"the policy {policy!r} was busy with other requests for {waited_s:g} s: try again later", 10)


def stopping() -> ApiError:
    """503: this server stops before the answer is complete."""
    return server_error(503, "this server is stopping: send the request again", "stopping", retry_after_s=1)


def internal() -> ApiError:
    """500: this server has a bug."""
    return server_error(500, "internal error; see the server's log", "internal")


def bad_response(policy: str, cause: str) -> ApiError:
    """502: a policy gave no answer that can be used; the log of its server, or of this one, says why."""
    return server_error(502, f"the policy {policy!r} failed to answer ({cause}); see the server's log", cause)


def unreachable(policy: str, cause: str = "connection") -> ApiError:
    """503: a policy does not answer at all."""
    return server_error(503, f"the policy {policy!r} is unreachable ({cause}): try again later", cause)


def timed_out(policy: str, limit: str) -> ApiError:
    """504: a policy was silent for too long."""
    message = f"the policy {policy!r} gave {limit}: ask for fewer tokens, or try again later"
    return server_error(504, message, "timeout")
