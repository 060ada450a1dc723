"""Options of engines: how one runs, whatever the policy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs, whatever the policy. What an engine has no use for, it does not read."""

    batch_size: int = 256
    """Rows of one embedded batch."""
    device: str | None = None
    """Where an embedded model runs; None takes the GPU if there is one."""
    concurrency: int = 512
    """Samples in flight to one URL, at most: how many there are is found out (`concurrency`)."""
    choices: int = 16
    """Samples of one prompt that are asked for in one request to a URL (`n`), at most."""
    first_byte_timeout_s: float = 600.0
    """Seconds that a URL may be silent before the first byte, in each attempt. An answer that is not streamed comes
    all at once: it must be whole by then."""
    idle_timeout_s: float = 60.0
    """Seconds that a URL may be silent between one byte and the next."""
    deadline_s: float = 1800.0
    """Seconds for a request to a URL from when it is first sent, over all attempts and the waits between them."""
    max_retries: int = 5
    """Repeats of a request to a URL, at most, after rate limits, time-outs, lost connections and server errors."""
