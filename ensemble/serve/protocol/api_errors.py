"""What goes wrong while serving, as the OpenAI API says it: a status and an error object.

The object is `{"error": {"message", "type", "param", "code"}}`. A client gets causes and cures; what an
engine said word for word (it may name addresses) goes to the log alone.
"""

import math
from collections.abc import Iterable
from typing import Any

from alphamix.policies.types import EngineFailure

PASSING_CAUSES = frozenset({"rate_limit", "timeout", "connection"})
"""Causes of an `EngineFailure` that may be over at the next try; any other means a bad answer."""

_LONGEST_NAME = 200
"""Of a model that is not served: no more of it is sent back."""


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
        """Whether whoever was asked has failed, not the request."""
        return self.status >= 500

    @property
    def is_retryable(self) -> bool:
        """Whether another policy may answer the same request."""
        return self.is_server_error or self.status == 429

    @property
    def headers(self) -> dict[str, str]:
        """Give the headers that go with it."""
        return {} if self.retry_after_s is None else {"retry-after": str(max(1, math.ceil(self.retry_after_s)))}

    def as_json(self) -> dict[str, Any]:
        """Give the body that OpenAI clients read."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself is wrong, or asks for what no engine here can do."""
    return ApiError(400, message, kind="invalid_request_error", param=param, code=code)


def unknown_model(model: str, served: Iterable[str]) -> ApiError:
    """404, with the names that would have been right."""
    shown = model if len(model) <= _LONGEST_NAME else f"{model[:_LONGEST_NAME]}…"
    message = f"the model {shown!r} is not served here; served are: {', '.join(served)}"
    return ApiError(404, message, kind="invalid_request_error", param="model", code="model_not_found")


def body_too_large(limit: int) -> ApiError:
    """413: the body is not read to its end."""
    message = f"the request body is larger than {limit} bytes; send less at once"
    return ApiError(413, message, kind="invalid_request_error", code="request_too_large")


def body_timeout(timeout_s: float) -> ApiError:
    """408: the body does not come."""
    message = f"the request body did not come within {timeout_s:g} s: send it at once"
    return ApiError(408, message, kind="invalid_request_error", code="request_timeout")


def engine_failed(policy: str, failure: EngineFailure) -> ApiError:
    """503 where another try may help, 400 where none will before the request is changed, else 502."""
    if failure.cause in PASSING_CAUSES:
        message = f"the policy {policy!r} is not reachable now ({failure.cause}); try again later"
        return ApiError(503, message, kind="server_error", code=failure.cause)
    if failure.cause == "rejected":
        message = (
            f"the policy {policy!r} refused this request (it may be longer than the model's context); "
            "the server's log says why"
        )
        return invalid(message, code=failure.cause)
    message = f"the policy {policy!r} failed to answer ({failure.cause}); the server's log says why"
    return ApiError(502, message, kind="server_error", code=failure.cause)


def load_failed(policy: str) -> ApiError:
    """503: a policy that is listed cannot be loaded."""
    message = f"the policy {policy!r} could not be loaded; the server's log says why"
    return ApiError(503, message, kind="server_error", code="policy_unavailable")


def unauthorized() -> ApiError:
    """401: no key, or a wrong one."""
    message = "the API key is missing or wrong: send 'Authorization: Bearer …' with a key of this server"
    return ApiError(401, message, kind="authentication_error", code="invalid_api_key")


def at_capacity(policy: str, limit: int) -> ApiError:
    """429: no more requests are taken for a policy."""
    message = f"the policy {policy!r} has {limit} requests under way, its limit: try again later"
    return ApiError(429, message, kind="rate_limit_error", code="rate_limit", retry_after_s=1)


def queue_timeout(policy: str, waited_s: float) -> ApiError:
    """429: an engine works, but has had others to answer for too long."""
    message = f"the policy {policy!r} has had others to answer for {waited_s:g} s: try again later"
    return ApiError(429, message, kind="rate_limit_error", code="rate_limit", retry_after_s=10)


def rate_limited(policy: str, retry_after_s: float) -> ApiError:
    """429: the server of a policy takes no more for now."""
    message = f"the policy {policy!r} is at its limit: try again later"
    return ApiError(429, message, kind="rate_limit_error", code="rate_limit", retry_after_s=retry_after_s)


def out_of_service(policy: str, retry_after_s: float) -> ApiError:
    """503: a policy has failed too often of late and is given a rest."""
    message = f"the policy {policy!r} has failed repeatedly and is out of service: try again later, or ask another"
    return ApiError(503, message, kind="server_error", code="policy_unavailable", retry_after_s=retry_after_s)


def timed_out(policy: str, limit: str) -> ApiError:
    """504: a policy was silent for too long."""
    message = f"the policy {policy!r} gave {limit}: ask for fewer tokens, or try again later"
    return ApiError(504, message, kind="server_error", code="timeout")


def broken(policy: str, cause: str) -> ApiError:
    """502: the server of a policy cannot be used as it is; its log, or this server's, says why."""
    message = f"the policy {policy!r} failed to answer ({cause}); the server's log says why"
    return ApiError(502, message, kind="server_error", code=cause)


def unreachable(policy: str) -> ApiError:
    """503: the server of a policy does not answer at all."""
    message = f"the policy {policy!r} is not reachable now (connection); try again later"
    return ApiError(503, message, kind="server_error", code="connection")


def too_many_searches(limit: int) -> ApiError:
    """429: no more best-of requests are taken."""
    message = f"{limit} best-of requests are under way, the limit of this server: try again later"
    return ApiError(429, message, kind="rate_limit_error", code="rate_limit", retry_after_s=1)


def too_many_alphas(policy: str, reason: str, others: Iterable[str]) -> ApiError:
    """429: no more policies at an α of their own."""
    message = f"{policy!r} is not made now, since {reason}: ask for one of {', '.join(others)}, or try again later"
    return ApiError(429, message, kind="rate_limit_error", param="model", code="rate_limit", retry_after_s=10)


def search_timeout(timeout_s: float) -> ApiError:
    """504: time was out before any choice was drawn and judged."""
    message = (
        f"no choice was drawn and judged in {timeout_s:g} s: ask for a smaller budget, fewer tests or fewer tokens"
    )
    return ApiError(504, message, kind="server_error", code="timeout")


def judge_failed() -> ApiError:
    """503: choices came, and the judge failed on all of them."""
    message = "the judge failed on all choices that were drawn, which says nothing about them: try again later"
    return ApiError(503, message, kind="server_error", code="judge_failed")


def internal() -> ApiError:
    """500: a fault of this server."""
    return ApiError(500, "internal error; the server's log says more", kind="server_error", code="internal")
