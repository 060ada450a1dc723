"""How long a policy may be silent, be it a remote server or an engine in this process."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time-outs in seconds."""

    connect_s: float = 10.0
    """Limit for connecting to a remote server."""
    first_byte_s: float = 600.0
    """Limit for the first byte of a remote server, which is the complete answer if it is not streamed, or for the first
    token of an engine in this process, which includes making and loading its weights."""
    idle_s: float = 60.0
    """Limit between one byte, or token, and the next, and for a client that does not take what is ready for it."""
    total_s: float = 1800.0
    """Limit for the complete answer."""
