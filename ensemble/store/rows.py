"""What a run's record stores, and its conversion to and from rows: slots, samples and verdicts.

Texts are compressed one by one with Zstandard, so that each can be read alone.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.store.transcripts import AttemptUsage, Transcript, as_json
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import AnswerKind, Completion, Message

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 3

FINAL_CAUSES = ("rejected", "gone")
"""Causes of failures that asking again does not cure by itself: the request was refused, or the policy is gone."""


class StoreError(EnsembleError):
    """A run's record cannot be used as requested: the message says why, then what to do."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The numbered place of one sample of a policy at a problem."""

    number: int
    policy: str
    problem: str
    index: int
    seed: int

    def __str__(self) -> str:
        return f"sample {self.index} of {self.policy!r} at {self.problem!r}"


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion in its slot."""

    slot: Slot
    completion: Completion
    created: float
    """Seconds since the epoch."""
    is_code: bool = False
    """Whether the text is the program itself, as an agent submits it, not a completion that contains one."""
    unknown: frozenset[str] = frozenset()
    """Fields of the completion that are unknown, and therefore 0 (imported samples only)."""
    transcript: Transcript | None = field(default=None, compare=False)
    """How the sample came about. It is stored with the sample, and read apart (`Store.transcript`)."""


@dataclass(frozen=True, slots=True)
class Graded:
    """A verdict on the sample in a slot."""

    slot: Slot
    judgement: Judgement
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class VerdictSet:
    """A named set of verdicts on a run's samples: the run's own, or a later one with other limits or checkers."""

    name: str
    about: Mapping[str, Any]
    """What the verdicts depend on: the judge, the problems and the options."""
    created: float
    """Seconds since the epoch."""
    graded: int
    """Number of verdicts so far."""
    is_current: bool
    """Whether outcomes are counted from this set unless another is named."""


class FailureCount(NamedTuple):
    """Number of slots of a policy that have no sample because asking for it failed in the same way."""

    policy: str
    cause: str
    message: str
    slots: int

    @property
    def is_final(self) -> bool:
        """Whether asking again does not help by itself."""
        return self.cause in FINAL_CAUSES

    def __str__(self) -> str:
        return (
            f"{self.policy}: {self.message}" if self.cause == "gone" else f"{self.policy}: {self.cause}: {self.message}"
        )


class Recent(NamedTuple):
    """Samples of a policy that arrived since a given time. Times are in seconds since the epoch."""

    samples: int
    tokens: int
    began: float | None
    """When the first of these samples was asked for; None if there are none."""
    last_sample: float | None
    """When the last sample arrived, even if before the given time; None if none ever did."""
    counted: int
    """Number of samples of any time whose tokens are known."""


SAMPLE_COLUMNS = "finish_reason, prompt_tokens, completion_tokens, seconds, created, is_code"
JUDGEMENT_COLUMNS = (
    "verdict, tests_passed, num_tests, first_failed_test, cpu_s, peak_rss_mb, message, forgeable, passed_tests"
)
"""The columns of a judgement, with the names and the order of its fields."""


def sample_row(sample: Sample) -> tuple[Any, ...]:
    """Return `SAMPLE_COLUMNS` of a sample; null where a number is unknown."""
    completion = sample.completion
    numbers = [
        None if name in sample.unknown else getattr(completion, name)
        for name in ("prompt_tokens", "completion_tokens", "seconds")
    ]
    return completion.finish_reason, *numbers, sample.created, sample.is_code


def sample_of(slot: Slot, row: Sequence[Any], text: bytes, kind: AnswerKind) -> Sample:
    """Return the sample of a slot from its `SAMPLE_COLUMNS`, its compressed text and the kind of answer."""
    finish_reason, prompt_tokens, completion_tokens, seconds, created, is_code = row
    numbers = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "seconds": seconds}
    unknown = frozenset(name for name, number in numbers.items() if number is None)
    completion = Completion(
        decompress(text),
        finish_reason,
        prompt_tokens or 0,
        completion_tokens or 0,
        0.0 if seconds is None else seconds,
        kind,
    )
    return Sample(slot, completion, created, bool(is_code), unknown)


def transcript_row(slot: int, prompt: int, transcript: Transcript, text: str) -> tuple[Any, ...]:
    """Return the row of a transcript whose prompt is stored under a number, and whose sample has the text."""
    usage = transcript.usage
    return (
        slot,
        prompt,
        transcript.ending,
        usage.turns,
        usage.calls,
        usage.new_prompt_tokens,
        usage.cached_tokens,
        usage.tool_characters,
        usage.tool_seconds,
        None if transcript.is_plain(text) else compress(as_json(transcript.turns)),
    )


def transcript_of(row: Sequence[Any]) -> Transcript:
    """Return the transcript of a row of the query `TRANSCRIPT_OF`."""
    prompt, prompt_messages, text, ending, stored, *counts, seconds, tool_seconds = row
    before: list[Message] = json.loads(decompress(prompt_messages))
    plain: Message = {"role": "assistant", "content": decompress(text)}
    after: list[Message] = json.loads(decompress(stored)) if stored else [plain]
    turns, calls, prompt_tokens, new_tokens, cached, completion_tokens, characters = counts
    usage = AttemptUsage(
        turns,
        calls,
        prompt_tokens or 0,
        new_tokens,
        cached,
        completion_tokens or 0,
        characters,
        model_seconds=(seconds or 0.0) - tool_seconds,
        tool_seconds=tool_seconds,
    )
    return Transcript(prompt, (*before, *after), len(before), ending, usage)


def judgement_row(judgement: Judgement) -> tuple[Any, ...]:
    """Return `JUDGEMENT_COLUMNS` of a judgement; the answers of its tests are not stored."""
    *plain, passed_tests, _answers = astuple(judgement)
    return *plain, None if passed_tests is None else json.dumps(passed_tests)


def judgement_of(row: Sequence[Any]) -> Judgement:
    """Return the judgement of `JUDGEMENT_COLUMNS`."""
    verdict, *plain, forgeable, passed_tests = row
    passed = None if passed_tests is None else tuple(json.loads(passed_tests))
    return Judgement(Verdict(verdict), *plain, forgeable=bool(forgeable), passed_tests=passed)


def compress(text: str) -> bytes:
    """Return a text as it is stored; half a surrogate pair survives."""
    return zstd.compress(text.encode("utf-8", "surrogatepass"), _LEVEL)


def decompress(stored: bytes) -> str:
    """Return the text that was stored."""
    return zstd.decompress(stored).decode("utf-8", "surrogatepass")
