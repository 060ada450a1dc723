"""What programs print, made safe to show: the start and the end of long output, and nothing that is not text.

Control characters and bytes that are not UTF-8 become escapes such as `\\x1b`, because they could break JSON, chat
templates and terminals.
"""

import re
from bisect import bisect_right
from collections.abc import Callable

from alphamix.grading.workspace.types import ShownText

_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BYTE = 0xFF
"""Bits of a surrogate that stand for a byte which is not UTF-8."""


def kept_bytes(max_chars: int) -> int:
    """Return how many bytes of the start, and again of the end, suffice for `show`: a character has at most 4."""
    return 2 * max_chars


def show(head: bytes, tail: bytes, total_bytes: int, max_chars: int) -> ShownText:
    """Return what a program wrote: at most `max_chars` characters, and a note of how many bytes are left out.

    Args:
        head: The first bytes.
        tail: The last bytes, which follow on `head` or begin later.
        total_bytes: Number of bytes written.
        max_chars: Number of characters, half of which are for the start.
    """
    if len(head) + len(tail) == total_bytes:
        head = tail = head + tail
        text = _escape(_decode(head))
        if len(text) <= max_chars:
            return ShownText(text)
    at_start, at_end = max_chars - max_chars // 2, max_chars // 2
    first, last = _decode(head)[:at_start], _decode(tail)[-at_end:] if at_end else ""
    first = first[: _longest(len(first), at_start, lambda count: first[:count])]
    last = last[len(last) - _longest(len(last), at_end, lambda count: last[len(last) - count :]) :]
    dropped_bytes = total_bytes - len(_encode(first)) - len(_encode(last))
    return ShownText(f"{_escape(first)}\n[… {dropped_bytes:,} bytes left out …]\n{_escape(last)}", dropped_bytes)


def _longest(most: int, room: int, part: Callable[[int], str]) -> int:
    """Return the greatest number of characters, at most `most`, for which the escaped part fits into `room`."""
    return bisect_right(range(most + 1), room, key=lambda count: len(_escape(part(count)))) - 1


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _escape(text: str) -> str:
    return _NOT_TEXT.sub(lambda found: f"\\x{ord(found[0]) & _BYTE:02x}", text)
