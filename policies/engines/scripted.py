"""The scripted engine: answers from a function instead of a model. It is deterministic, for tests and dry runs."""

from collections.abc import Callable, Iterator, Sequence

from alphamix.policies.types import Completion, Delta, EngineFailure, Reply, Request


class ScriptedEngine:
    """Engine that answers each request with what `answer` returns for it, in the order of the requests."""

    def __init__(self, answer: Callable[[Request], Completion | EngineFailure], *, reproducible: bool = True) -> None:
        self.reproducible = reproducible
        self._answer = answer

    def sample(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer all requests."""
        for index, request in enumerate(requests):
            yield Reply(index, self._answer(request))

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        """Answer all requests, line by line."""
        for reply in self.sample(requests):
            if isinstance(reply.outcome, Completion):
                for piece in reply.outcome.text.splitlines(keepends=True):
                    yield Delta(reply.index, piece)
            yield Delta(reply.index, "", reply.outcome)

    def close(self) -> None:
        """Do nothing, since nothing is held."""
