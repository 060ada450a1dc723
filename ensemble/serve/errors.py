"""What goes wrong while serving, as the OpenAI API says it: a status and an error object.

The object is `{"error": {"message", "type", "param", "code"}}`. A client gets causes and cures; what an
engine said word for word (it may name addresses) goes to the log alone.
"""

from collections.abc import Iterable
from typing import Any

from policies.types import EngineFailure

PASSING_CAUSES = frozenset({"rate_limit", "timeout", "connection"})
"""Causes of an `EngineFailure` that may be over at the next try; any other means a bad answer."""


class ApiError(Exception):
    """A request that is answered with an error object instead of choices."""

    def __init__(
        self, status: int, message: str, *, kind: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code

    def as_json(self) -> dict[str, Any]:
        """Give the body that OpenAI clients read."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself is wrong, or asks for what no engine here can do."""
    return ApiError(400, message, kind="invalid_request_error", param=param, code=code)


def unknown_model(model: str, served: Iterable[str]) -> ApiError:
    """404, with the names that would have been right."""
    message = f"the model {model!r} is not served here; served are: {', '.join(served)}"
    return ApiError(404, message, kind="invalid_request_error", param="model", code="model_not_found")


def too_large(limit: int) -> ApiError:
    """413: the body is not read to its end."""
    message = f"the request body is larger than {limit} bytes; send less at once"
    return ApiError(413, message, kind="invalid_request_error", code="request_too_large")


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


def not_opened(policy: str) -> ApiError:
    """503: a policy that is listed cannot be loaded."""
    message = f"the policy {policy!r} could not be loaded; the server's log says why"
    return ApiError(503, message, kind="server_error", code="policy_unavailable")


def internal() -> ApiError:
    """500: a fault of this server."""
    return ApiError(500, "internal error; the server's log says more", kind="server_error", code="internal")
