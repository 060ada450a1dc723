"""Incremental detokenisation: tokens become text in whole characters, and possible beginnings of stop strings are held
back. This module knows no model and no request."""

from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]
"""Function that returns the text of some tokens without special tokens."""

_REPLACEMENT = "\ufffd"
"""Character that decoders write for bytes that do not yet form a character."""


class TextStream:
    """Text of one answer that grows. The pieces that it returns, joined, are `text`.

    Without `in_pieces`, and without stop strings to be looked for, there is one piece, at the end.
    """

    def __init__(self, decode: Decode, stop: Sequence[str] = (), *, in_pieces: bool = True) -> None:
        self._decode = decode
        self._stop = stop
        self._in_pieces = in_pieces or bool(stop)
        # A decoder may treat the first token of its input specially (drop a leading space), so every piece is decoded
        # together with the piece before it, whose text is then cut off.
        self._tokens: list[int] = []
        self._previous = 0
        self._pending = 0
        self._held = ""
        self._emitted: list[str] = []
        self.stopped = False
        """Whether a stop string was found; the text ends before it."""

    @property
    def text(self) -> str:
        """The text returned so far."""
        return "".join(self._emitted)

    def push(self, token: int) -> str:
        """Add one token; return the text that has become certain, often empty."""
        self._tokens.append(token)
        if not self._in_pieces:
            return ""
        piece = self._new_text()
        if not piece or piece.endswith(_REPLACEMENT):
            return ""
        self._previous, self._pending = self._pending, len(self._tokens)
        return self._emit(piece)

    def finish(self) -> str:
        """Return the text that was held back, now that the answer is whole."""
        if self.stopped:
            return ""
        piece = self._emit(self._new_text())
        self._pending = len(self._tokens)
        if self.stopped:
            return piece
        rest, self._held = self._held, ""
        self._emitted.append(rest)
        return piece + rest

    def _new_text(self) -> str:
        before = self._decode(self._tokens[self._previous : self._pending])
        return self._decode(self._tokens[self._previous :])[len(before) :]

    def _emit(self, piece: str) -> str:
        certain, self._held, self.stopped = split_at_stop(self._held + piece, self._stop)
        self._emitted.append(certain)
        return certain


def split_at_stop(text: str, stop: Sequence[str]) -> tuple[str, str, bool]:
    """Split text before what may begin a stop string. From the first whole stop string on, the text is dropped.

    Returns:
        The certain text, the text held back, and whether there was a stop string.
    """
    starts = [text.find(string) for string in stop if string in text]
    if starts:
        return text[: min(starts)], "", True
    held = max((_overlap(text, string) for string in stop), default=0)
    return text[: len(text) - held], text[len(text) - held :], False


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `string`."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
