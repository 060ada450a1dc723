"""Failures at a URL: their cause, their cure, and how long to wait before the request is repeated.

A request is repeated after failures that may pass by themselves: rate limits, time-outs, lost connections and errors of
the server. A rejected request or a malformed answer would only come back the same. The client's own retries are off:
they know no deadline, give up at a Retry-After of more than a minute or two, and repeat a 409.
"""

import math
import random
import re
import time
from email.utils import parsedate_to_datetime

import openai

_MALFORMED_BODY = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
ERRORS = (openai.APIError, TimeoutError, ConnectionError, *_MALFORMED_BODY)
"""Errors that a request raises, or that reading a body of an unexpected form raises."""

_PASSING = frozenset({"rate_limit", "timeout", "connection", "server"})
"""Causes for which a request is repeated."""

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0

_CAUSES: tuple[tuple[type[Exception], str, str], ...] = (
    (TimeoutError, "timeout", "raise the time-out, or ask for fewer tokens"),
    (openai.APITimeoutError, "timeout", "raise the time-out, or ask for fewer tokens"),
    (ConnectionError, "connection", "see that the server runs and is not overloaded"),
    (openai.APIConnectionError, "connection", "see that the server runs and the URL is right"),
    (openai.RateLimitError, "rate_limit", "lower the concurrency"),
    (openai.InternalServerError, "server", "see the server's log"),
    (openai.APIStatusError, "rejected", "correct the request or the model's name"),
)
"""Errors, most specific first, with their cause and cure."""

_TOO_LONG = re.compile(r"context (?:length|window|size)|max_model_len|maximum (?:model|sequence) length", re.IGNORECASE)
"""What the errors of vLLM, SGLang, llama.cpp and others say; their codes differ."""

_MALFORMED = ("malformed", "see that the URL is an OpenAI-compatible API")


def classify(error: Exception) -> tuple[str, str]:
    """Return the cause of an error, and its cure."""
    if isinstance(error, openai.APITimeoutError) and not _timed_out(error):
        return "connection", "see that the server runs and the URL is right"
    if isinstance(error, openai.APIStatusError) and error.status_code == 408:
        return "timeout", "see the server's log"
    for kind, cause, cure in _CAUSES:
        if isinstance(error, kind):
            return cause, cure
    return _MALFORMED


def wait_before_retry(error: Exception, attempt: int) -> float | None:
    """Return the seconds to wait after failed attempt number `attempt`, from 1; None if it must not be repeated.

    The server's Retry-After (seconds or an HTTP date) sets the wait. Without one, the wait doubles with each attempt,
    with jitter, so that requests which failed together do not come back together.
    """
    if classify(error)[0] not in _PASSING:
        return None
    asked_s = _retry_after(error)
    return random.uniform(0.5, 1) * pause(attempt) if asked_s is None else asked_s


def pause(attempt: int) -> float:
    """Return the seconds to leave a server alone after `attempt` failures in a row, from 1. They double each time."""
    return min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S)


def is_too_long(error: Exception) -> bool:
    """Return whether the server refuses a request because it exceeds the model's context."""
    return isinstance(error, openai.BadRequestError) and (
        error.code == "context_length_exceeded" or _TOO_LONG.search(str(error)) is not None
    )


def overloaded(error: Exception) -> bool:
    """Return whether the server says, or shows by being late, that it has too many concurrent requests."""
    busy = isinstance(error, openai.APIStatusError) and error.status_code in (429, 503)
    return busy or classify(error)[0] == "timeout"


def _retry_after(error: Exception) -> float | None:
    """Return the wait that the header asks for, in seconds from now; None if it is absent or invalid."""
    header = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(seconds, 0.0)


def _timed_out(error: BaseException | None) -> bool:
    """Return whether time really ran out. The aiohttp backend reports a refused connection as a timeout, too."""
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__
    return False
