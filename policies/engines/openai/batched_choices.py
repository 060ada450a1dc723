"""Requests for several samples of one prompt (`n`): which are sent together, and what becomes of each choice.

Requests that are sent together differ only in their seeds, which count up by one. The first seed is sent, and choice i
answers the request with seed + i. vLLM draws choice i with exactly that seed (`ParentRequest`), so its texts are those
of requests sent one by one. Other servers draw as they like, from a seed that no other request has.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from alphamix.policies.engines.openai.server_answers import ServerAnswer, is_count
from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.types import Completion, EngineFailure, FinishReason, Request

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


@dataclass(frozen=True, slots=True)
class ChoiceGroup:
    """Requests that are sent as one, each for one sample. `index` is that of the first request; the others follow."""

    index: int
    requests: tuple[Request, ...]
    attempt: int = 1
    deadline: float = math.inf
    """Deadline on the clock of the event loop, set when the group is first sent."""

    def part(self, start: int, stop: int | None = None) -> "ChoiceGroup":
        """Return a group of some neighbours of these requests."""
        return replace(self, index=self.index + start, requests=self.requests[start:stop])

    def rest(self, done: Collection[int]) -> list["ChoiceGroup"]:
        """Return the groups of neighbours that are left once the requests at the positions in `done` are answered."""
        left = [i for i in range(len(self.requests)) if i not in done]
        starts = [i for i in left if i - 1 not in left]
        ends = [i + 1 for i in left if i + 1 not in left]
        fresh = replace(self, attempt=1, deadline=math.inf)
        return [fresh.part(start, end) for start, end in zip(starts, ends, strict=True)]


def next_choice_group(waiting: Submissions, most: int) -> ChoiceGroup | None:
    """Take the next request and its neighbours that may be sent with it, at most `most`; None if nothing waits."""
    taken = waiting.pop()
    if taken is None:
        return None
    index, first = taken
    group = [first]
    while len(group) < most and (after := waiting.peek()) is not None and _follows(group[-1], after[1]):
        waiting.pop()
        group.append(after[1])
    return ChoiceGroup(index, tuple(group))


def outcomes(answer: ServerAnswer, url: str, n: int, seconds: float) -> dict[int, Completion | EngineFailure]:
    """Return a completion or a failure for each choice that arrived, by its index below `n`.

    Servers count the tokens of all choices together. A server may also list the tokens of each choice; its own counts
    are then used. Otherwise the total is split in proportion to the choices' lengths in characters, into whole numbers
    that sum to it: means over a prompt's samples are exact, single counts are not.
    """
    if not is_count(answer.prompt_tokens) or not is_count(answer.completion_tokens):
        failure = EngineFailure("malformed", f"{url} reports no usage: serve the model with one that counts tokens.")
        return dict.fromkeys(range(n), failure)
    indices = sorted(index for index in answer.texts if 0 <= index < n)
    tokens = [answer.token_counts.get(index, 0) for index in indices]
    if sum(tokens) != answer.completion_tokens:
        tokens = _shares(answer.completion_tokens, [_length(answer, index) for index in indices])
    by_index: dict[int, Completion | EngineFailure] = {}
    for index, count in zip(indices, tokens, strict=True):
        stated = answer.finish_reasons.get(index)
        calls = answer.tool_calls(index)
        reason = _FINISH_REASONS.get(stated) if isinstance(stated, str) else None
        if reason == "tool_calls" and not calls:
            reason = None
        if reason is not None:
            text, kind = answer.answer(index)
            by_index[index] = Completion(
                text,
                "tool_calls" if calls and reason == "stop" else reason,
                answer.prompt_tokens,
                count,
                seconds,
                kind,
                reasoning=answer.beside.get(index, {}).get("reasoning", ""),
                tool_calls=calls,
                cached_tokens=answer.cached_tokens if is_count(answer.cached_tokens) else 0,
            )
        elif stated == "content_filter":
            filtered = f"{url}: a filter of the server withheld an answer; turn it off, or leave the problem out."
            by_index[index] = EngineFailure("rejected", filtered)
        else:
            ended = f"{url} ended an answer with the finish reason {stated!r}"
            by_index[index] = EngineFailure("malformed", f"{ended}: only 'stop' and 'length' are whole answers.")
    return by_index


def all_alike(choices: Sequence[Completion | EngineFailure], request: Request) -> bool:
    """Return whether several choices look like copies of one sample: equal, although they were drawn at random."""
    texts = [choice.text for choice in choices if isinstance(choice, Completion)]
    return len(texts) > 1 and len(set(texts)) == 1 and request.parameters.temperature > 0


def _follows(before: Request, request: Request) -> bool:
    return request == replace(before, seed=before.seed + 1)


def _length(answer: ServerAnswer, index: int) -> int:
    return len(answer.texts[index]) + sum(map(len, answer.beside.get(index, {}).values()))


def _shares(total: int, lengths: Sequence[int]) -> list[int]:
    """Split a whole number in proportion to lengths, or evenly if all lengths are 0."""
    weights = lengths if any(lengths) else [1] * len(lengths)
    whole = sum(weights)
    ends = [total * end // whole for end in accumulate(weights)]
    return [end - start for start, end in pairwise([0, *ends])]
