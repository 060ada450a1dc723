"""Checks of a policy before a budget is spent on it: a few small requests, and what is wrong with the answers.

A *failure* would spoil pass@k: no answers, samples that are all the same, choices that are missing, no usage, unknown
finish reasons. A *warning* says what is lost. Servers are asked for what they say before their engine judges it
(`Inspected`), so that a fault of theirs can be named; other engines are asked like in a run. Nothing is drawn here.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from policies.engines import EngineOptions
from policies.engines.answers import ServerAnswer, is_count
from policies.registry import Registry
from policies.types import Engine, EngineFailure, PolicyError, Prompt, Request, SamplingParameters

Check = Literal["reachable", "choices", "distinct", "seeds", "usage", "finish", "chat", "context", "fingerprint"]
CHECKS: tuple[Check, ...] = get_args(Check)
"""In the order in which they are reported."""

State = Literal["ok", "warning", "failure", "unknown"]

_HIGH_TEMPERATURE = 2.0
"""The highest that servers take: answers that are all the same even here are not drawn at random."""


@runtime_checkable
class Inspected(Protocol):
    """An engine of a server, which shows what the server says before it is judged."""

    def inspect(self, requests: Sequence[Request], n: int = 1) -> Iterator[tuple[int, ServerAnswer | EngineFailure]]:
        """Ask for `n` choices of each request."""
        ...

    def describe(self) -> dict[str, Any] | EngineFailure:
        """What the server says about the model."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What each policy is asked."""

    prompt: str = "Make up twenty random numbers between 1 and 1000, and a word to go with each."
    chat: bool = True
    """Whether it is sent as a message, as runs do, or as plain text to be continued."""
    samples: int = 8
    """How many seeds are asked at temperature 1, two at least."""
    max_tokens: int = 64

    def requests(self, *, chat: bool, temperature: float = 1.0) -> list[Request]:
        """One request for each seed."""
        parameters = SamplingParameters(temperature=temperature, max_tokens=self.max_tokens)
        return [Request(self._prompt(chat), seed, parameters) for seed in range(1, self.samples + 1)]

    def short(self, *, chat: bool) -> Request:
        """Ask for a single token."""
        return Request(self._prompt(chat), 1, SamplingParameters(max_tokens=1))

    def _prompt(self, chat: bool) -> Prompt:
        return [{"role": "user", "content": self.prompt}] if chat else self.prompt


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to."""

    check: Check
    state: State
    message: str
    """What was seen; of a fault, its cause and then its cure."""
    value: int | str | None = None
    """The context's length in tokens, or the fingerprint."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One answer of whichever engine; what a server says may be of any type."""

    text: str
    finish_reason: Any
    prompt_tokens: Any
    completion_tokens: Any
    num_choices: int
    system_fingerprint: Any = None


_Answer = _Seen | EngineFailure


def check_policy(registry: Registry, name: str, question: Question, options: EngineOptions) -> list[Finding]:
    """Open a policy, ask it, and judge what it says: one finding for each of `CHECKS`, in that order.

    Raises:
        PolicyError: the registry knows no such policy.
    """
    registry.alpha(name)  # a wrong name is the caller's fault, and no finding
    try:
        with closing(registry.open(name, options)) as engine:
            findings = check_engine(engine, question)
            if isinstance(engine, Inspected):
                return findings
        known = {"context": _context_of_weights(registry, name), "fingerprint": _fingerprint_of_weights(registry, name)}
        return [known.get(finding.check, finding) for finding in findings]
    except PolicyError as error:
        return _unreachable(str(error))


def check_engine(engine: Engine, question: Question) -> list[Finding]:
    """Ask an engine, and judge what it says: one finding for each of `CHECKS`, in that order.

    Of context and fingerprint it knows what servers tell; for weights see `check_policy`.
    """
    findings = {finding.check: finding for finding in _findings(engine, question)}
    return [findings.get(check) or Finding(check, "unknown", "cannot be told") for check in CHECKS]


def _findings(engine: Engine, question: Question) -> Iterator[Finding]:
    refusal = _refusal_of_messages(engine, question)
    chat = question.chat and refusal is None
    first, *others = question.requests(chat=chat)
    if refusal is None or refusal.cause in ("rejected", "malformed"):
        answers = _ask(engine, [first, *others, first, question.short(chat=chat)])
    else:
        answers = [refusal]
    seen = [answer for answer in answers if isinstance(answer, _Seen)]
    if not seen:
        failure = refusal if refusal and question.chat else next(a for a in answers if isinstance(a, EngineFailure))
        yield from _unreachable(failure.message)
        return
    *samples, again, shortest = answers
    yield _reachable(answers)
    yield _choices(engine, question.short(chat=chat), answers)
    distinct = _distinct(engine, question, chat, samples)
    yield distinct
    if distinct.state == "ok":
        yield _seeds(samples[0], again)
    yield _usage(seen)
    yield _finish(seen, shortest, question.max_tokens)
    yield _chat(refusal, asked=question.chat)
    if isinstance(engine, Inspected):
        yield from _described(engine.describe(), seen)


def _ask(engine: Engine, requests: Sequence[Request], n: int = 1) -> list[_Answer]:
    """What became of each request: n asks for choices, which only servers know."""
    outcomes: list[_Answer] = [EngineFailure("malformed", "the engine gave no outcome")] * len(requests)
    if isinstance(engine, Inspected):
        for index, said in engine.inspect(requests, n):
            outcomes[index] = said if isinstance(said, EngineFailure) else _seen_of_server(said)
        return outcomes
    times = Counter[int]()
    for reply in engine.sample(requests):
        times[reply.index] += 1
        outcome = reply.outcome
        outcomes[reply.index] = (
            outcome
            if isinstance(outcome, EngineFailure)
            else _Seen(
                outcome.text,
                outcome.finish_reason,
                outcome.prompt_tokens,
                outcome.completion_tokens,
                times[reply.index],
            )
        )
    return outcomes


def _seen_of_server(said: ServerAnswer) -> _Seen:
    return _Seen(
        text=said.texts.get(0, ""),
        finish_reason=said.finish_reasons.get(0),
        prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens,
        num_choices=len(said.texts),
        system_fingerprint=said.system_fingerprint,
    )


def _unreachable(message: str) -> list[Finding]:
    rest = [Finding(check, "unknown", "not reachable") for check in CHECKS[1:]]
    return [Finding("reachable", "failure", message), *rest]


def _refusal_of_messages(engine: Engine, question: Question) -> EngineFailure | None:
    """Why the policy takes no messages, or answers nothing at all; None if it takes them."""
    try:
        (answer,) = _ask(engine, [question.short(chat=True)])
    except PolicyError as error:
        return EngineFailure("rejected", str(error))
    return answer if isinstance(answer, EngineFailure) else None


def _reachable(answers: Sequence[_Answer]) -> Finding:
    failures = [answer for answer in answers if isinstance(answer, EngineFailure)]
    if failures:
        told = f"{len(failures)} of {len(answers)} requests failed, the first so: {failures[0].message}"
        return Finding("reachable", "warning", told)
    return Finding("reachable", "ok", f"{len(answers)} of {len(answers)} requests answered")


def _choices(engine: Engine, request: Request, answers: Sequence[_Answer]) -> Finding:
    if not isinstance(engine, Inspected):
        numbers = {answer.num_choices for answer in answers if isinstance(answer, _Seen)}
        if numbers == {1}:
            return Finding("choices", "ok", "one answer to each request of a batch")
        told = f"a request of a batch got {max(numbers)} answers: the engine is broken, every request has one outcome."
        return Finding("choices", "failure", told)
    (answer,) = _ask(engine, [request], n=2)
    if isinstance(answer, EngineFailure):
        told = f"n = 2 is refused ({answer.message}); runs ask for one at a time, your own requests must do so too."
        return Finding("choices", "warning", told)
    if answer.num_choices != 2:
        told = f"n = 2 gave {answer.num_choices} choices: the server ignores n, do not use it with this server."
        return Finding("choices", "failure", told)
    return Finding("choices", "ok", "n = 2 gave 2 choices")


def _distinct(engine: Engine, question: Question, chat: bool, samples: Sequence[_Answer]) -> Finding:
    texts = _texts(samples)
    if len(texts) < 2:
        return Finding("distinct", "unknown", f"only {len(texts)} of {len(samples)} samples came")
    if len(set(texts)) > 1:
        return Finding("distinct", "ok", f"{len(set(texts))} of {len(texts)} samples differ at temperature 1")
    if not texts[0]:
        told = f"all {len(texts)} samples are empty: raise --max-tokens if the policy thinks first, or give a --prompt."
        return Finding("distinct", "warning", told)
    same = f"all {len(texts)} samples at temperature 1 are the same, with {len(texts)} seeds"
    hot = _texts(_ask(engine, question.requests(chat=chat, temperature=_HIGH_TEMPERATURE)))
    if len(set(hot)) > 1:
        told = f"{same}, yet not at {_HIGH_TEMPERATURE:g}: the policy is sure of its answer, give another --prompt."
        return Finding("distinct", "warning", told)
    told = f"{same}: the temperature is ignored or answers are cached, mend that where the policy is served."
    return Finding("distinct", "failure", told)


def _texts(answers: Sequence[_Answer]) -> list[str]:
    return [answer.text for answer in answers if isinstance(answer, _Seen)]


def _seeds(first: _Answer, again: _Answer) -> Finding:
    if not (isinstance(first, _Seen) and isinstance(again, _Seen)):
        return Finding("seeds", "unknown", "the sample that was to come twice did not")
    if first.text != again.text:
        told = "one seed gave two texts: samples cannot be made again, so keep the sample store of each run."
        return Finding("seeds", "warning", told)
    return Finding("seeds", "ok", "one seed gave one text twice, others gave others")


def _usage(seen: Sequence[_Seen]) -> Finding:
    counts = [(answer.prompt_tokens, answer.completion_tokens) for answer in seen]
    missing = next((pair for pair in counts if not all(map(is_count, pair))), None)
    if missing is not None:
        told = f"{missing[0]!r} prompt and {missing[1]!r} completion tokens are reported: serve it with token counts."
        return Finding("usage", "failure", told)
    odd = [answer for answer in seen if not answer.prompt_tokens or (answer.text and not answer.completion_tokens)]
    if odd:
        told = (
            f"{odd[0].prompt_tokens} prompt and {odd[0].completion_tokens} completion tokens are reported for "
            f"an answer of {len(odd[0].text)} characters: budgets in tokens are wrong with this policy, count samples."
        )
        return Finding("usage", "warning", told)
    return Finding(
        "usage", "ok", f"{seen[0].prompt_tokens} prompt tokens, {seen[0].completion_tokens} completion tokens"
    )


def _finish(seen: Sequence[_Seen], shortest: _Answer, max_tokens: int) -> Finding:
    unknown = [answer.finish_reason for answer in seen if answer.finish_reason not in ("stop", "length")]
    if unknown:
        told = f"the finish reason is {unknown[0]!r}: only 'stop' and 'length' are whole answers, mend the server."
        return Finding("finish", "failure", told)
    limits = [(answer.completion_tokens, max_tokens) for answer in seen]
    if isinstance(shortest, _Seen):
        limits.append((shortest.completion_tokens, 1))
    for tokens, limit in limits:
        if is_count(tokens) and tokens > limit:
            told = f"{tokens} tokens came where max_tokens was {limit}: it is ignored, budgets in tokens will not hold."
            return Finding("finish", "warning", told)
    reasons = Counter(answer.finish_reason for answer in seen)
    told = ", ".join(f"{times} × {reason}" for reason, times in sorted(reasons.items()))
    return Finding("finish", "ok", f"{told}; max_tokens is kept")


def _chat(refusal: EngineFailure | None, *, asked: bool) -> Finding:
    if refusal is None:
        return Finding("chat", "ok", "messages are accepted")
    return Finding("chat", "failure" if asked else "warning", f"messages are refused: {refusal.message}")


def _described(about: dict[str, Any] | EngineFailure, seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Context length and fingerprint, as far as a server tells them."""
    if isinstance(about, EngineFailure):
        yield Finding("context", "unknown", about.message)
        about = {}
    elif is_count(about.get("max_model_len")):
        yield Finding("context", "ok", f"{about['max_model_len']} tokens", about["max_model_len"])
    else:
        yield Finding("context", "unknown", "the server tells no max_model_len")
    parts = {key: about.get(key) for key in ("root", "version")} | {"system": seen[0].system_fingerprint}
    value = " ".join(f"{key}={part}" for key, part in parts.items() if part)
    if value:
        yield Finding("fingerprint", "ok", f"the server reports {value}", value)
    else:
        yield Finding("fingerprint", "unknown", "the server tells nothing by which its weights could be known again")


def _context_of_weights(registry: Registry, name: str) -> Finding:
    try:
        config = json.loads((registry.materialise(name) / "config.json").read_text())
    except (PolicyError, OSError, ValueError) as error:
        return Finding("context", "unknown", str(error))
    text_config = config | config.get("text_config", {})
    length = text_config.get("max_position_embeddings", text_config.get("n_positions"))
    if not is_count(length):
        return Finding("context", "unknown", "the config tells no max_position_embeddings")
    return Finding("context", "ok", f"{length} tokens", length)


def _fingerprint_of_weights(registry: Registry, name: str) -> Finding:
    value = registry.fingerprint(name)
    return Finding("fingerprint", "ok", f"sha256 {value}", value)
