"""Judgements of what a policy answered to the questions of `check_policy`: pure functions from answers to findings.

A *failure* would spoil pass@k: no answers, samples that are all the same, choices that are missing, no usage, unknown
finish reasons. A *warning* says what is lost. *Unknown* is what could not be determined.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from alphamix.policies.engines.openai.server_answers import is_count
from alphamix.policies.types import AnswerKind, EngineFailure

Check = Literal[
    "reachable", "choices", "text", "distinct", "seeds", "usage", "finish", "chat", "context", "fingerprint"
]
CHECKS: tuple[Check, ...] = get_args(Check)
"""Names of the checks, in the order in which they are reported."""

State = Literal["ok", "warning", "failure", "unknown"]

_ODD_KINDS: dict[AnswerKind, str] = {
    "reasoning": "are reasoning alone, which is judged in place of the text: raise --max-tokens, or turn the server's "
    "reasoning parser off",
    "refusal": "are refusals: change --prompt",
    "empty": "are empty, though they cost tokens: raise --max-tokens if the policy thinks first, or change --prompt",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    check: Check
    state: State
    message: str
    """What was seen; for a fault, its cause and then its cure."""
    value: int | str | None = None
    """Context length in tokens, or the fingerprint."""


@dataclass(frozen=True, slots=True)
class Observations:
    """One answer of any engine. What a server says is kept as it is, and may be of any type."""

    text: str
    finish_reason: Any
    prompt_tokens: Any
    completion_tokens: Any
    num_choices: int = 1
    kind: AnswerKind = "text"
    """What `text` is."""
    system_fingerprint: Any = None


Answer = Observations | EngineFailure


def unreachable(message: str) -> list[Finding]:
    """Return all findings for a policy that does not answer."""
    rest = [Finding(check, "unknown", "not reachable") for check in CHECKS[1:]]
    return [Finding("reachable", "failure", message), *rest]


def judge_reach(answers: Sequence[Answer]) -> Finding:
    """Judge whether every request was answered; at least one was."""
    failures = [answer for answer in answers if isinstance(answer, EngineFailure)]
    if failures:
        text = f"{len(failures)} of {len(answers)} requests failed, the first so: {failures[0].message}"
        return Finding("reachable", "warning", text)
    return Finding("reachable", "ok", f"{len(answers)} of {len(answers)} requests were answered")


def judge_choices(answer: Answer) -> Finding:
    """Judge whether n = 2 gives two choices."""
    if isinstance(answer, EngineFailure):
        text = f"n = 2 is refused ({answer.message}); runs ask for one at a time, do so yourself."
        return Finding("choices", "warning", text)
    if answer.num_choices != 2:
        text = f"n = 2 gave {answer.num_choices} of 2 choices: n is ignored here, ask for one at a time."
        return Finding("choices", "failure", text)
    return Finding("choices", "ok", "n = 2 gave 2 choices")


def judge_outcomes(num_outcomes: Sequence[int]) -> Finding:
    """Judge whether each request of a batch got one outcome, for engines that have no n."""
    odd = [number for number in num_outcomes if number != 1]
    if odd:
        text = f"a request of a batch of {len(num_outcomes)} got {odd[0]} outcomes: mend the engine, each has just one."
        return Finding("choices", "failure", text)
    return Finding("choices", "ok", f"{len(num_outcomes)} requests of one batch got one outcome each")


def judge_text(seen: Sequence[Observations]) -> Finding:
    """Judge whether answers are text that can be judged."""
    kinds = Counter[AnswerKind](answer.kind for answer in seen if answer.kind != "text")
    if not kinds:
        return Finding("text", "ok", f"{len(seen)} of {len(seen)} answers are text")
    told = "; ".join(f"{number} {_ODD_KINDS[kind]}" for kind, number in kinds.most_common())
    return Finding("text", "failure" if kinds.total() == len(seen) else "warning", f"of {len(seen)} answers, {told}.")


def judge_distinct(samples: Sequence[Answer], hot: Sequence[Answer]) -> Finding:
    """Judge whether samples at temperature 1 differ. If none do, `hot` are others at the highest temperature."""
    texts, hot_texts = texts_of(samples), texts_of(hot)
    if len(texts) < 2:
        return Finding("distinct", "unknown", f"only {len(texts)} of {len(samples)} samples came")
    if len(set(texts)) > 1:
        return Finding("distinct", "ok", f"{len(set(texts))} of {len(texts)} samples differ at temperature 1")
    same = f"all {len(texts)} samples at temperature 1 are the same, with {len(texts)} seeds"
    if len(set(hot_texts)) > 1:
        text = f"{same}, but not at temperature 2: the policy is sure of this answer, give another --prompt."
        return Finding("distinct", "warning", text)
    if not texts[0]:
        text = f"all {len(texts)} samples are empty: raise --max-tokens if the policy thinks first, or change --prompt."
        return Finding("distinct", "warning", text)
    text = f"{same}: the temperature is ignored or answers are cached, mend that where the policy is served."
    return Finding("distinct", "failure", text)


def texts_of(answers: Sequence[Answer]) -> list[str]:
    """Return the texts of the answers that came."""
    return [answer.text for answer in answers if isinstance(answer, Observations)]


def judge_seeds(first: Answer, again: Answer) -> Finding:
    """Judge whether one seed gave one text twice, given that other seeds gave other texts."""
    if not (isinstance(first, Observations) and isinstance(again, Observations)):
        return Finding("seeds", "unknown", "the sample that was to come twice did not")
    if first.text != again.text:
        text = "one seed gave two texts: samples cannot be made again, so keep the store of each run."
        return Finding("seeds", "warning", text)
    return Finding("seeds", "ok", "one seed gave one text twice, and others gave others")


def judge_usage(seen: Sequence[Observations]) -> Finding:
    """Judge whether tokens are counted, and whether the counts are possible."""
    for answer in seen:
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        if not (is_count(prompt) and is_count(completion)):
            text = f"{prompt!r} prompt and {completion!r} completion tokens are reported: serve it with token counts."
            return Finding("usage", "failure", text)
        if not prompt or (answer.text and not completion):
            text = (
                f"{prompt} prompt and {completion} completion tokens are reported for {len(answer.text)} characters: "
                "budgets in tokens would be wrong, set them in samples."
            )
            return Finding("usage", "warning", text)
    text = f"{seen[0].prompt_tokens} prompt and {seen[0].completion_tokens} completion tokens in the first answer"
    return Finding("usage", "ok", text)


def judge_finish(limited: Sequence[tuple[Answer, int]]) -> Finding:
    """Judge whether finish reasons are known and no answer is longer than its `max_tokens`, which is given with
    each."""
    reasons = Counter[str]()
    for answer, limit in limited:
        if isinstance(answer, EngineFailure):
            continue
        if answer.finish_reason not in ("stop", "length"):
            text = f"a finish reason is {answer.finish_reason!r}: mend the server, only 'stop' and 'length' are whole."
            return Finding("finish", "failure", text)
        if is_count(answer.completion_tokens) and answer.completion_tokens > limit:
            text = (
                f"{answer.completion_tokens} tokens came where max_tokens was {limit}: "
                "set budgets in samples, those in tokens would not hold."
            )
            return Finding("finish", "warning", text)
        reasons[answer.finish_reason] += 1
    text = " and ".join(f"{times} × {reason}" for reason, times in sorted(reasons.items()))
    return Finding("finish", "ok", f"{text}; max_tokens is kept")


def judge_chat(refusal: EngineFailure | None, *, asked: bool) -> Finding:
    """Judge whether messages are accepted, which is a failure only if messages are to be sent."""
    if refusal is None:
        return Finding("chat", "ok", "messages are accepted")
    return Finding("chat", "failure" if asked else "warning", f"messages are refused: {refusal.message}")


def judge_twins(findings: dict[str, list[Finding]], twins: Mapping[str, str]) -> dict[str, list[Finding]]:
    """Mark the fingerprints of policies that are the same model as another.

    Args:
        findings: of each policy that was checked.
        twins: policies that are the same model as another, by what is known of them here, with its name.
    """
    reported: dict[int | str, str] = {}
    judged: dict[str, list[Finding]] = {}
    for name, of_policy in findings.items():
        *others, fingerprint = of_policy
        first = name if fingerprint.value is None else reported.setdefault(fingerprint.value, name)
        if (twin := twins.get(name)) is not None:
            text = f"is the same model as {twin!r}: leave one out, since together they solve what one does."
            fingerprint = replace(fingerprint, state="warning", message=text)
        elif first != name:
            text = (
                f"its server reports {fingerprint.value}, as for {first!r}: leave one out if they are the same model."
            )
            fingerprint = replace(fingerprint, state="warning", message=text)
        judged[name] = [*others, fingerprint]
    return judged


def judge_description(about: dict[str, Any] | EngineFailure, system_fingerprint: Any) -> tuple[Finding, Finding]:
    """Return context length and fingerprint, as far as a server gives them in `models`, `version` and its answers."""
    if isinstance(about, EngineFailure):
        context = Finding("context", "unknown", about.message)
        about = {}
    elif is_count(about.get("max_model_len")):
        context = Finding("context", "ok", f"{about['max_model_len']} tokens", about["max_model_len"])
    else:
        context = Finding("context", "unknown", "the server does not report max_model_len")
    parts = (system_fingerprint, about.get("version"), about.get("root"))
    value = " ".join(str(part) for part in parts if part)
    if not value:
        return context, Finding("fingerprint", "unknown", "the server reports nothing that identifies its weights")
    return context, Finding("fingerprint", "ok", f"the server reports {value}", value)
