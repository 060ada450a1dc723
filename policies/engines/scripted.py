"""The scripted engine: answers from a function instead of a model. It is deterministic, for tests and dry runs."""

from collections.abc import Callable, Iterator, Sequence

from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.types import Completion, Delta, Engine, EngineFailure, Request

Answer = Callable[[Request], Completion | EngineFailure]


class ScriptedEngine(Engine):
    """Engine that answers each request with what `answer` returns for it, in the order of the requests.

    A stream has one piece for each line of the text.
    """

    def __init__(self, answer: Answer, *, reproducible: bool = True) -> None:
        self.reproducible = reproducible
        self._answer = answer

    def open_session(self, *, stream: bool = False) -> "ScriptedSession":
        """Begin a session."""
        return ScriptedSession(self._answer, stream=stream)

    def close(self) -> None:
        """Do nothing, since nothing is held."""


class ScriptedSession:
    """Session that answers a request when its outcome is asked for, so it never waits."""

    def __init__(self, answer: Answer, *, stream: bool) -> None:
        self._answer = answer
        self._stream = stream
        self._waiting = Submissions()
        self._pieces: Iterator[Delta] = iter(())

    def submit(self, requests: Sequence[Request]) -> int:
        """Add requests, and return the index of the first."""
        return self._waiting.add(requests)

    def receive(self) -> Delta | None:
        """Return the next delta; None if no request is left."""
        if (piece := next(self._pieces, None)) is not None:
            return piece
        if (taken := self._waiting.pop()) is None:
            return None
        self._pieces = self._answer_one(*taken)
        return next(self._pieces)

    def wake(self) -> None:
        """Do nothing, since no call of `receive` waits."""

    def close(self) -> None:
        """Forget the requests that have no outcome."""
        self._waiting, self._pieces = Submissions(), iter(())

    def _answer_one(self, index: int, request: Request) -> Iterator[Delta]:
        outcome = self._answer(request)
        if self._stream and isinstance(outcome, Completion):
            for piece in outcome.text.splitlines(keepends=True):
                yield Delta(index, piece)
        yield Delta(index, "", outcome)
