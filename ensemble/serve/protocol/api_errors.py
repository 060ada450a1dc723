"""Errors of serving, as the OpenAI API reports them: a status and an error object.

The object is `{"error": {"message", "type", "param", "code"}}`. A client is given cause and cure; what an engine said
word for word goes only to the log, since it may name addresses.
"""

import math
from collections.abc import Iterable
from typing import Any

from alphamix.policies.types import EngineFailure

_TRANSIENT_CAUSES = frozenset({"rate_limit", "timeout", "connection"})
"""Causes of an `EngineFailure` that may be over at the next try; any other means a bad answer."""

_LONGEST_NAME = 200
"""Maximum length of the name of an unknown model that is sent back."""


class ApiError(Exception):
    """A request that is answered with an error object instead of choices."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def is_server_error(self) -> bool:
        """Whether the policy or this server failed, and not the request."""
        return self.status >= 500

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


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request is wrong, or asks for something that is not supported."""
    return ApiError(400, message, kind="invalid_request_error", param=param, code=code)


def unauthorized() -> ApiError:
    """401: the API key is missing or wrong."""
    message = "the API key is missing or wrong: send 'Authorization: Bearer …' with a key of this server"
    return ApiError(401, message, kind="authentication_error", code="invalid_api_key")


def unknown_model(model: str, served: Iterable[str]) -> ApiError:
    """404: there is no such model; the message lists those that exist."""
    shown = model if len(model) <= _LONGEST_NAME else f"{model[:_LONGEST_NAME]}…"
    message = f"unknown model {shown!r}: this server has {', '.join(served)}"
    return ApiError(404, message, kind="invalid_request_error", param="model", code="model_not_found")


def body_timeout(timeout_s: float) -> ApiError:
    """408: the client sends its body too slowly."""
    message = f"the request body did not arrive within {timeout_s:g} s: send it at once"
    return ApiError(408, message, kind="invalid_request_error", code="request_timeout")


def body_too_large(limit: int) -> ApiError:
    """413: the body is too large, and is not read to its end."""
    message = f"the request body is larger than {limit} bytes: send smaller requests"
    return ApiError(413, message, kind="invalid_request_error", code="request_too_large")


def _rate_limit(message: str, retry_after_s: float, param: str | None = None) -> ApiError:
    kind, code = "rate_limit_error", "rate_limit"
    return ApiError(429, message, kind=kind, param=param, code=code, retry_after_s=retry_after_s)


def at_capacity(policy: str, limit: int) -> ApiError:
    """429: a policy has as many requests under way as it may."""
    return _rate_limit(f"the policy {policy!r} has {limit} requests under way, its limit: try again later", 1)


def queue_timeout(policy: str, waited_s: float) -> ApiError:
    """429: an engine works, but was busy with other requests for too long."""
    return _rate_limit(f"the policy {policy!r} was busy with other requests for {waited_s:g} s: try again later", 10)


def rate_limited(policy: str, retry_after_s: float) -> ApiError:
    """429: the server of a policy accepts no more requests for now."""
    return _rate_limit(f"the policy {policy!r} is at its limit: try again later", retry_after_s)


def too_many_searches(limit: int) -> ApiError:
    """429: no more best-of requests are accepted."""
    return _rate_limit(f"{limit} best-of requests are under way, the limit of this server: try again later", 1)


def too_many_alphas(policy: str, reason: str, others: Iterable[str]) -> ApiError:
    """429: no more policies at an unlisted α are opened."""
    message = f"{policy!r} cannot be opened now, since {reason}: ask for one of {', '.join(others)}, or try again later"
    return _rate_limit(message, 10, param="model")


def _server_error(status: int, message: str, code: str) -> ApiError:
    return ApiError(status, message, kind="server_error", code=code)


def internal() -> ApiError:
    """500: this server has a bug."""
    return _server_error(500, "internal error; see the server's log", "internal")


def bad_response(policy: str, cause: str) -> ApiError:
    """502: a policy gave no answer that can be used; the log of its server, or of this one, says why."""
    return _server_error(502, f"the policy {policy!r} failed to answer ({cause}); see the server's log", cause)


def unreachable(policy: str, cause: str = "connection") -> ApiError:
    """503: a policy does not answer at all."""
    return _server_error(503, f"the policy {policy!r} is unreachable ({cause}): try again later", cause)


def engine_failed(policy: str, failure: EngineFailure) -> ApiError:
    """503 if another try may help, 400 if none will before the request is changed, else 502."""
    if failure.cause in _TRANSIENT_CAUSES:
        return unreachable(policy, failure.cause)
    if failure.cause == "rejected":
        message = (
            f"the policy {policy!r} refused this request, which may be longer than the model's context; "
            "see the server's log"
        )
        return invalid(message, code=failure.cause)
    return bad_response(policy, failure.cause)


def load_failed(policy: str) -> ApiError:
    """503: a policy cannot be loaded."""
    message = f"the policy {policy!r} could not be loaded; see the server's log"
    return _server_error(503, message, "policy_unavailable")


def out_of_service(policy: str, retry_after_s: float) -> ApiError:
    """503: a policy failed repeatedly, and is not asked for a while."""
    message = f"the policy {policy!r} has failed repeatedly and is out of service: try again later, or ask another"
    return ApiError(503, message, kind="server_error", code="policy_unavailable", retry_after_s=retry_after_s)


def judge_failed() -> ApiError:
    """503: choices were drawn, but the judge failed on all of them."""
    message = "the judge failed on every choice that was drawn, which says nothing about the choices: try again later"
    return _server_error(503, message, "judge_failed")


def timed_out(policy: str, limit: str) -> ApiError:
    """504: a policy was silent for too long."""
    return _server_error(
        504, f"the policy {policy!r} gave {limit}: ask for fewer tokens, or try again later", "timeout"
    )


def search_timeout(timeout_s: float) -> ApiError:
    """504: the time was up before any choice was drawn and judged."""
    message = (
        f"no choice was drawn and judged in {timeout_s:g} s: ask for a smaller budget, fewer tests or fewer tokens"
    )
    return _server_error(504, message, "timeout")
