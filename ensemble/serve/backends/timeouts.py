"""How long a policy may be silent, whether a remote server or an engine in this process answers for it."""

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
    """Limit between two bytes or two tokens, and for a client to accept what is ready for it."""
    total_s: float = 1800.0
    """Limit for the complete answer."""
