"""Options of engines."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options that do not depend on the policy. An engine ignores options that do not apply to it."""

    batch_size: int = 256
    """Maximum number of rows in one batch of an embedded model."""
    device: str | None = None
    """Device of an embedded model; None selects the GPU if there is one."""
    dtype: str | None = None
    """Number format of an embedded model, a float dtype of torch; None selects float32 on a CPU, and on a GPU that of
    the checkpoint."""
    concurrency: int = 512
    """Maximum number of samples in flight to one URL; the level below it adapts (`concurrency`)."""
    choices: int = 16
    """Maximum number of samples of one prompt that are requested from a URL in one request (`n`)."""
    first_byte_timeout_s: float = 600.0
    """Timeout in seconds for the first byte from a URL, in each attempt. An answer that is not streamed arrives all at
    once, so the server must have completed it by then."""
    idle_timeout_s: float = 60.0
    """Timeout in seconds between one byte from a URL and the next."""
    deadline_s: float = 1800.0
    """Deadline in seconds for a request to a URL, counted from when it is first sent, over all attempts and waits."""
    max_retries: int = 5
    """Maximum number of retries of a request to a URL after rate limits, timeouts, lost connections and server
    errors."""
