"""How long a policy may be silent, be it a server behind a URL or an engine in this process."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds."""

    connect_s: float = 10.0
    """To a URL."""
    first_byte_s: float = 600.0
    """An answer of a URL that is not streamed comes all at once: it must be whole by then. An engine in this process
    must give its first token by then; making and loading its weights counts."""
    idle_s: float = 60.0
    """Between one byte, or token, and the next; also how long a client may refuse to take what is there."""
    total_s: float = 1800.0
