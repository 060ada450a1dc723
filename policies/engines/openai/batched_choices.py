"""Requests for several samples of one prompt (`n`): which are sent together, and what becomes of each choice.

The requests asked together differ in nothing but their seeds, which count up by one. The first seed is sent, and choice
i answers the request with seed + i: vLLM draws it with that very seed (`ParentRequest`), so that there the texts are
those of requests asked one by one; other servers draw it as they like, from a seed that no other request has.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from alphamix.policies.engines.openai.server_answers import ServerAnswer, is_count
from alphamix.policies.types import Completion, EngineFailure, FinishReason, Request

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True)
class ChoiceGroup:
    """Requests that are sent as one, each for one sample. `index` is that of the first; the others follow it."""

    index: int
    requests: tuple[Request, ...]
    attempt: int = 1
    deadline: float | None = None
    """Deadline on the clock of the event loop, set when the group is first sent."""

    def part(self, start: int, stop: int | None = None) -> "ChoiceGroup":
        """Return a group of some neighbours of these requests."""
        return replace(self, index=self.index + start, requests=self.requests[start:stop])

    def rest(self, done: Collection[int]) -> list["ChoiceGroup"]:
        """Return the groups of neighbours that are left when the requests at the places in `done` are answered."""
        left = [i for i in range(len(self.requests)) if i not in done]
        starts = [i for i in left if i - 1 not in left]
        ends = [i + 1 for i in left if i + 1 not in left]
        fresh = replace(self, attempt=1, deadline=None)
        return [fresh.part(start, end) for start, end in zip(starts, ends, strict=True)]


def choice_groups(requests: Sequence[Request], most: int) -> Iterator[ChoiceGroup]:
    """Group neighbours that may be sent together, at most `most` in a group."""
    start, group = 0, list[Request]()
    for index in range(len(requests)):
        request = requests[index]
        if group and (len(group) == most or not _follows(group[-1], request)):
            yield ChoiceGroup(start, tuple(group))
            start, group = index, []
        group.append(request)
    if group:
        yield ChoiceGroup(start, tuple(group))


def outcomes(answer: ServerAnswer, url: str, n: int, seconds: float) -> dict[int, Completion | EngineFailure]:
    """Return what became of each choice, by its index below `n`: a completion or a failure. Missing choices are left
    out.

    Servers count the tokens of all choices together. Where one also lists those of each choice, the counts are its own.
    Else each choice gets the share that its length in characters has, in whole numbers that sum to the server's count:
    means over a prompt's samples are exact, single counts are not.
    """
    if not is_count(answer.prompt_tokens) or not is_count(answer.completion_tokens):
        failure = EngineFailure("malformed", f"{url} reports no usage: serve the model with one that counts tokens.")
        return dict.fromkeys(range(n), failure)
    came = sorted(index for index in answer.texts if 0 <= index < n)
    tokens = [answer.token_counts.get(index, 0) for index in came]
    if sum(tokens) != answer.completion_tokens:
        tokens = _shares(answer.completion_tokens, [len(answer.texts[index]) for index in came])
    found: dict[int, Completion | EngineFailure] = {}
    for index, count in zip(came, tokens, strict=True):
        stated = answer.finish_reasons.get(index)
        reason = _FINISH_REASONS.get(stated) if isinstance(stated, str) else None
        found[index] = (
            Completion(answer.texts[index], reason, answer.prompt_tokens, count, seconds)
            if reason is not None
            else EngineFailure(
                "malformed",
                f"{url} ended an answer with the finish reason {stated!r}: only 'stop' and 'length' are whole answers.",
            )
        )
    return found


def deadline_of(ask: ChoiceGroup) -> float:
    """Return the time of the event loop by which a group that was sent must be answered."""
    assert ask.deadline is not None
    return ask.deadline


def all_alike(found: Sequence[Completion | EngineFailure], request: Request) -> bool:
    """Return whether several choices look like copies of one sample: equal, although they were drawn at random."""
    texts = [one.text for one in found if isinstance(one, Completion)]
    return len(texts) > 1 and len(set(texts)) == 1 and request.parameters.temperature > 0


def _follows(before: Request, request: Request) -> bool:
    return (
        request.seed == before.seed + 1 and request.prompt == before.prompt and request.parameters == before.parameters
    )


def _shares(total: int, lengths: Sequence[int]) -> list[int]:
    """Split a whole number in proportion to lengths, or evenly if all lengths are 0."""
    weights = lengths if any(lengths) else [1] * len(lengths)
    whole = sum(weights)
    ends = [total * end // whole for end in accumulate(weights)]
    return [end - start for start, end in pairwise([0, *ends])]
