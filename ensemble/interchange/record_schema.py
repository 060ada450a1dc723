"""What stands in one record of a file of samples or verdicts, as the design has it, and back again.

A key whose value nobody knows is left out; null means the same as no key.
"""

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alphamix.ensemble.interchange.record_files import Columns
from alphamix.ensemble.interchange.samples_jsonl import SampleKey
from alphamix.ensemble.interchange.verdicts_jsonl import verdict_line
from alphamix.ensemble.store import Graded, Sample, Slot
from alphamix.grading.types import Failure, Judgement, Verdict, failure_of
from alphamix.policies.types import Completion

SAMPLE_COLUMNS: Columns = {
    "problem_id": "string",
    "policy": "string",
    "index": "int64",
    "completion": "string",
    "code": "string",
    "finish_reason": "string",
    "usage": {"prompt_tokens": "int64", "completion_tokens": "int64"},
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
_Count = Annotated[int, Field(ge=0, lt=2**63, strict=True)]  # what SQLite can hold
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def sample_record(sample: Sample, about: Mapping[str, str]) -> dict[str, Any]:
    """Return the record of a sample in a run that was planned from `about`."""
    slot, completion = sample.slot, sample.completion
    usage = {
        key: getattr(completion, key) for key in ("prompt_tokens", "completion_tokens") if key not in sample.unknown
    }
    return {
        "problem_id": slot.problem,
        "policy": slot.policy,
        "index": slot.index,
        "code" if sample.is_code else "completion": completion.text,
        "finish_reason": completion.finish_reason,
        **({"usage": usage} if usage else {}),
        **({"seconds": completion.seconds} if "seconds" not in sample.unknown else {}),
        "seed": slot.seed,
        "setting": json.loads(about["sampling.setting"]),
        "fingerprint": about[f"policies.{slot.policy}"],
        "created": sample.created,
    }


def verdict_record(graded: Graded, judge: str) -> dict[str, Any]:
    """Return the record of a verdict, as `alphamix grade` writes it."""
    slot = graded.slot
    key = SampleKey(slot.problem, slot.policy, slot.index)
    return verdict_line(key, graded.judgement, graded.failure, json.loads(judge))


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    problem_id: Annotated[str, Field(strict=True)]
    policy: Annotated[str, Field(strict=True)]
    index: _Count


class Usage(BaseModel):
    """Tokens of a sample, where they are known."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None


class SampleRecord(_Record):
    """One sample of a file."""

    completion: Any = None  # checked below: half a surrogate pair is text too
    code: Any = None
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage | None = None
    seconds: _Amount | None = None
    seed: int | None = None
    setting: str | None = None
    fingerprint: str | None = None
    created: _Amount | None = None

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if not isinstance(self.completion if self.code is None else self.code, str):
            raise ValueError("neither code nor completion is text")
        return self

    def misfit(self, slot: Slot, about: Mapping[str, str]) -> str:
        """Say what of it is not as planned; usually nothing."""
        planned = {
            "seed": slot.seed,
            "setting": json.loads(about.get("sampling.setting", "null")),
            "fingerprint": about.get(f"policies.{slot.policy}"),
        }
        for key, value in planned.items():
            own = getattr(self, key)
            if own is not None and value is not None and own != value:
                return f"its {key} is {own!r}, but the plan says {value!r}"
        return ""

    def sample(self, slot: Slot) -> Sample:
        """Return it as the sample of a slot."""
        usage = self.usage or Usage()
        numbers: dict[str, Any] = {**dict(usage), "seconds": self.seconds}
        unknown = frozenset(name for name, number in numbers.items() if number is None)
        completion = Completion(
            text=self.completion if self.code is None else self.code,
            finish_reason=self.finish_reason or "stop",
            **{name: number or 0 for name, number in numbers.items()},
        )
        created = time.time() if self.created is None else self.created
        return Sample(slot, completion, created, self.code is not None, unknown)


class VerdictRecord(_Record):
    """One verdict of a file."""

    verdict: Verdict
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
    def _holds_together(self) -> Self:
        if self.tests_passed > self.num_tests:
            raise ValueError(f"{self.tests_passed} tests passed of {self.num_tests}")
        if self.verdict is Verdict.AC and (self.failure is not None or self.tests_passed < self.num_tests):
            raise ValueError("AC, but not all tests passed")
        self.message.encode()  # half a surrogate pair is a ValueError
        if isinstance(self.judge, str) and not isinstance(json.loads(self.judge), dict):
            raise ValueError(f"judge is {self.judge}, not a JSON object")
        return self

    def graded(self, slot: Slot, finish_reason: str) -> Graded:
        """Return it as the verdict on the sample of a slot."""
        judgement = Judgement(
            self.verdict,
            self.tests_passed,
            self.num_tests,
            self.first_failed_test,
            self.cpu_s,
            self.peak_rss_mb,
            self.message,
            bool(self.forgeable),
            self.passed_tests,
        )
        return Graded(slot, judgement, self.failure or failure_of(self.verdict, finish_reason))

    def description(self) -> str:
        """Return the judge's description of itself, as JSON."""
        return self.judge if isinstance(self.judge, str) else json.dumps(self.judge or {})
