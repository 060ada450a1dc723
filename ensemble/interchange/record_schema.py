"""The record schema of samples and verdicts in files, and its conversion to and from the rows of a run.

A key whose value is unknown is left out; null means the same as no key. Unknown keys are ignored.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator, model_validator

from alphamix.ensemble.interchange.record_files import Columns
from alphamix.ensemble.run_settings import RunSettings
from alphamix.ensemble.store import AttemptUsage, Ending, Graded, Sample, Slot, Transcript
from alphamix.grading.types import Failure, Judgement, Verdict, failure_of
from alphamix.policies.types import AnswerKind, Completion, Message

SAMPLE_COLUMNS: Columns = {
    "problem_id": "string",
    "policy": "string",
    "index": "int64",
    "completion": "string",
    "code": "string",
    "kind": "string",
    "finish_reason": "string",
    "ending": "string",
    "prompt": {"id": "string", "hash": "string"},
    "messages": "string",  # JSON
    "usage": {
        "prompt_tokens": "int64",
        "completion_tokens": "int64",
        "turns": "int64",
        "calls": "int64",
        "new_prompt_tokens": "int64",
        "cached_tokens": "int64",
        "tool_characters": "int64",
        "model_seconds": "double",
        "tool_seconds": "double",
    },
    "seconds": "double",
    "seed": "int64",
    "setting": "string",
    "fingerprint": "string",
    "created": "double",
}
VERDICT_COLUMNS: Columns = {
    "problem_id": "string",
    "policy": "string",
    "index": "int64",
    "verdict": "string",
    "failure": "string",
    "tests_passed": "int64",
    "num_tests": "int64",
    "first_failed_test": "int64",
    "cpu_s": "double",
    "peak_rss_mb": "double",
    "message": "string",
    "forgeable": "bool",
    "passed_tests": ["bool"],
    "judge": "string",  # JSON
}
_JUDGEMENT_FIELDS = ("tests_passed", "num_tests", "first_failed_test", "cpu_s", "peak_rss_mb", "message")
_Count = Annotated[int, Field(ge=0, lt=2**63, strict=True)]  # what SQLite can hold
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class SampleKey:
    """The identity of a sample in a file."""

    problem: str
    policy: str
    index: int

    def __str__(self) -> str:
        return f"sample {self.index} of {self.policy!r} at {self.problem!r}"


def _text(value: Any) -> str:
    """Accept any string: pydantic's own check refuses half a surrogate pair, which models do produce."""
    if not isinstance(value, str):
        raise ValueError(f"{json.dumps(value)}, not text")
    return value


def _whole_number(value: Any) -> int:
    if type(value) is not int:  # true is not 1
        raise ValueError(f"{json.dumps(value)}, not a whole number")
    return value


_Text = Annotated[str, PlainValidator(_text)]
_WholeNumber = Annotated[int, PlainValidator(_whole_number)]


class _Line(BaseModel):
    """The keys that identify a sample."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    problem_id: _Text
    policy: _Text
    index: _WholeNumber

    @property
    def key(self) -> SampleKey:
        """The identity of the sample."""
        return SampleKey(self.problem_id, self.policy, self.index)


class SampleLine(_Line):
    """What grading reads of a sample."""

    completion: Any = None
    code: Any = None
    finish_reason: Annotated[str | None, PlainValidator(lambda value: None if value is None else _text(value))] = None

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if not isinstance(self.completion if self.code is None else self.code, str):
            raise ValueError("neither code nor completion is text")
        return self

    @property
    def text(self) -> str:
        """The code, or without it the completion."""
        return self.completion if self.code is None else self.code

    @property
    def is_code(self) -> bool:
        """Whether the text is the program itself, not a completion that contains a program."""
        return self.code is not None


class VerdictLine(_Line):
    """What resuming reads of a verdict."""

    verdict: Verdict
    failure: Failure | None


class Usage(BaseModel):
    """What a sample cost, where it is known."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    turns: _Count | None = None
    calls: _Count | None = None
    new_prompt_tokens: _Count | None = None
    cached_tokens: _Count | None = None
    tool_characters: _Count | None = None
    model_seconds: _Amount | None = None
    tool_seconds: _Amount | None = None


class PromptKey(BaseModel):
    """What names the prompt of a sample."""

    id: str | None = None
    hash: str | None = None


def _messages(value: Any) -> tuple[Message, ...] | None:
    """Return the messages of a record, which are text in Parquet."""
    messages: Any = json.loads(value) if isinstance(value, str) else value
    if messages is None:
        return None
    if not isinstance(messages, list) or not messages:
        raise ValueError("no list of messages")
    for message in cast("list[Any]", messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise ValueError(f"a list with {json.dumps(message)}, which has no role and content")
        for key in ("role", "content"):
            _text(message[key])
    return tuple(messages)


class SampleRecord(SampleLine):
    """One sample of a file that is imported."""

    kind: AnswerKind | None = None
    usage: Usage | None = None
    ending: Ending | None = None
    prompt: PromptKey | None = None
    messages: Annotated[Any, PlainValidator(_messages)] = None
    seconds: _Amount | None = None
    seed: int | None = None
    setting: str | None = None
    fingerprint: str | None = None
    created: _Amount | None = None

    @field_validator("finish_reason")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value not in (None, "stop", "length"):
            raise ValueError(f"{json.dumps(value)}, not stop or length")
        return value

    def misfit(self, slot: Slot, about: Mapping[str, str]) -> str:
        """Return what differs from the plan; empty if nothing does."""
        policy, setting = RunSettings.of_plan(about).split(slot.policy)
        planned = {"seed": slot.seed, "setting": setting, "fingerprint": about.get(f"policies.{policy}")}
        for key, value in planned.items():
            own = getattr(self, key)
            if own is not None and value is not None and own != value:
                return f"its {key} is {own!r}, but the plan says {value!r}"
        return ""

    def sample(self, slot: Slot) -> Sample:
        """Return the record as the sample of a slot."""
        usage = self.usage or Usage()
        tokens = {name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens")}
        numbers: dict[str, Any] = {**tokens, "seconds": self.seconds}
        unknown = frozenset(name for name, number in numbers.items() if number is None)
        counted: dict[str, Any] = {name: number or 0 for name, number in numbers.items()}
        completion = Completion(
            text=self.text,
            finish_reason="length" if self.finish_reason == "length" else "stop",
            **counted,
            kind=self.kind or "text",
        )
        created = time.time() if self.created is None else self.created
        return Sample(slot, completion, created, self.is_code, unknown, self._transcript(usage))

    def _transcript(self, usage: Usage) -> Transcript | None:
        """Return the transcript, if the record writes it out: its prompt is what has the prompt's hash, or else what
        comes before the first answer."""
        messages: tuple[Message, ...] | None = self.messages
        if messages is None:
            return None
        prompt = self.prompt or PromptKey()
        num_prompt_messages = sum(1 for _ in takewhile(lambda message: message["role"] != "assistant", messages))
        costs: dict[str, Any] = {name: number for name, number in dict(usage).items() if number is not None}
        usual = Transcript(
            prompt.id or "own", messages, num_prompt_messages, self.ending or "submitted", AttemptUsage(**costs)
        )
        if prompt.hash in (None, usual.prompt_hash):
            return usual
        longer = (
            replace(usual, num_prompt_messages=number) for number in range(num_prompt_messages, len(messages) + 1)
        )
        return next((transcript for transcript in longer if transcript.prompt_hash == prompt.hash), usual)


class VerdictRecord(VerdictLine):
    """One verdict of a file that is imported."""

    failure: Failure | None = None
    tests_passed: _Count
    num_tests: Annotated[_Count, Field(ge=1)]
    first_failed_test: _Count | None = None
    cpu_s: _Amount = 0.0
    peak_rss_mb: _Amount = 0.0
    message: str = ""
    forgeable: bool | None = None
    passed_tests: tuple[bool, ...] | None = None
    judge: dict[str, Any] | str | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.tests_passed > self.num_tests:
            raise ValueError(f"{self.tests_passed} tests passed of {self.num_tests}")
        if self.verdict is Verdict.AC and (self.failure is not None or self.tests_passed < self.num_tests):
            raise ValueError("AC, but not all tests passed")
        self.message.encode()  # half a surrogate pair, which the record cannot store, raises a ValueError
        if isinstance(self.judge, str) and not _is_object(self.judge):
            raise ValueError(f"judge is {self.judge}, not a JSON object")
        return self

    def graded(self, slot: Slot, finish_reason: str) -> Graded:
        """Return the record as the verdict on the sample of a slot."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _JUDGEMENT_FIELDS}
        judgement = Judgement(self.verdict, **fields, forgeable=bool(self.forgeable), passed_tests=self.passed_tests)
        return Graded(slot, judgement, self.failure or failure_of(self.verdict, finish_reason))

    def description(self) -> str:
        """Return the judge's description of itself, as JSON."""
        return self.judge if isinstance(self.judge, str) else json.dumps(self.judge or {})


def sample_record(sample: Sample, about: Mapping[str, str], transcript: Transcript | None = None) -> dict[str, Any]:
    """Return the record of a sample in a run that was planned from `about`.

    A transcript of a prompt and one plain answer is named by its prompt alone; any other is written out.
    """
    slot, completion = sample.slot, sample.completion
    policy, setting = RunSettings.of_plan(about).split(slot.policy)
    usage = {
        key: getattr(completion, key) for key in ("prompt_tokens", "completion_tokens") if key not in sample.unknown
    }
    course: dict[str, Any] = {}
    if transcript is not None:
        course = {
            "ending": transcript.ending,
            "prompt": {"id": transcript.prompt, "hash": transcript.prompt_hash},
        }
        if not transcript.is_plain(completion.text):
            course["messages"] = transcript.messages
            usage = asdict(transcript.usage)
    return {
        "problem_id": slot.problem,
        "policy": slot.policy,
        "index": slot.index,
        "code" if sample.is_code else "completion": completion.text,
        **({} if completion.kind == "text" else {"kind": completion.kind}),
        "finish_reason": completion.finish_reason,
        **course,
        **({"usage": usage} if usage else {}),
        **({"seconds": completion.seconds} if "seconds" not in sample.unknown else {}),
        "seed": slot.seed,
        "setting": setting,
        "fingerprint": about[f"policies.{policy}"],
        "created": sample.created,
    }


def verdict_record(
    key: SampleKey, judgement: Judgement, failure: Failure | None, judge: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the record of a verdict, with the judge's description of itself."""
    record: dict[str, Any] = {
        "problem_id": key.problem,
        "policy": key.policy,
        "index": key.index,
        "verdict": judgement.verdict,
        "failure": failure,
        **{name: getattr(judgement, name) for name in _JUDGEMENT_FIELDS},
        "judge": judge,
    }
    if judgement.forgeable:
        record["forgeable"] = True
    if judgement.passed_tests is not None:
        record["passed_tests"] = judgement.passed_tests
    return record


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def first_error(error: Exception) -> str:
    """Return the first thing that is wrong with a record, from the error of reading or of validating it."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "model_type":
        return f"a {type(first['input']).__name__}, not an object"
    if "ctx" in first and first["type"] == "value_error":
        return f"{key} is {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    return f"{key}: {first['msg']}" if key else first["msg"]
