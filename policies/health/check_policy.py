"""Checks of a policy before a budget is spent on it: a few small requests, each finding in one word and one line.

Servers are asked for what they say before their engine judges it (`Inspected`), so that a fault of theirs can be
named; other engines are asked as in a run. What the answers mean is in `findings`. Nothing is printed here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from alphamix.policies.checkpoints.as_transformers import context_length
from alphamix.policies.engines.openai.server_answers import ServerAnswer
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.health import findings
from alphamix.policies.health.findings import CHECKS, Answer, Finding, Observations
from alphamix.policies.registry import Registry
from alphamix.policies.types import Engine, EngineFailure, PolicyError, Prompt, Reply, Request, SamplingParameters

_HIGH_TEMPERATURE = 2.0
"""Highest temperature that servers accept: samples that are all equal even here are not drawn at random."""


@runtime_checkable
class Inspected(Protocol):
    """Engine of a server, which shows what the server says before it is judged."""

    def inspect(self, requests: Sequence[Request], n: int = 1) -> Iterator[tuple[int, ServerAnswer | EngineFailure]]:
        """Request `n` choices of each request."""
        ...

    def describe(self) -> dict[str, Any] | EngineFailure:
        """Return what the server says about the model."""
        ...


@dataclass(frozen=True, slots=True)
class CheckQuestion:
    """Question that each policy is asked."""

    prompt: str = "Make up twenty random numbers between 1 and 1000, and a word to go with each."
    chat: bool = True
    """Whether the prompt is sent as a message, as runs do, or as plain text to be continued."""
    samples: int = 8
    """Number of seeds, at least two."""
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


def check_policy(registry: Registry, name: str, question: CheckQuestion, options: EngineOptions) -> list[Finding]:
    """Open a policy, ask it, and judge what it says: one finding for each of `CHECKS`, in that order."""
    try:
        with closing(registry.open(name, options)) as engine:
            of_engine = check_engine(engine, question)
        if registry.is_remote(name):
            return of_engine
        value = registry.fingerprint(name)
        of_weights = {"fingerprint": Finding("fingerprint", "ok", f"sha256 {value}", value)}
        if not isinstance(engine, Inspected):
            of_weights["context"] = _context(registry, name)
        return [of_weights.get(finding.check, finding) for finding in of_engine]
    except PolicyError as error:
        return findings.unreachable(str(error))


def check_engine(engine: Engine, question: CheckQuestion) -> list[Finding]:
    """Ask an engine, and judge its answers: one finding for each of `CHECKS`, in that order.

    Context and fingerprint are those that a server reports; `check_policy` knows those of weights.
    """
    finding_of = {finding.check: finding for finding in _findings(engine, question)}
    return [finding_of.get(check) or Finding(check, "unknown", "cannot be determined") for check in CHECKS]


def _findings(engine: Engine, question: CheckQuestion) -> Iterator[Finding]:
    refusal = _refusal_of_messages(engine, question)
    if refusal is not None and refusal.cause not in ("rejected", "malformed"):
        yield from findings.unreachable(refusal.message)
        return
    chat = question.chat and refusal is None
    short = question.short(chat=chat)
    first, *others = question.requests(chat=chat)
    answers, num_outcomes = _ask(engine, [first, *others, first, short])
    seen = [answer for answer in answers if isinstance(answer, Observations)]
    if not seen:
        failures = [refusal if question.chat else None, *answers]
        yield from findings.unreachable(next(f.message for f in failures if isinstance(f, EngineFailure)))
        return
    *samples, again, shortest = answers
    yield findings.judge_reach(answers)
    if isinstance(engine, Inspected):
        ((_, two),) = engine.inspect([short], n=2)
        yield findings.judge_choices(_of_server(two))
        yield from findings.judge_description(engine.describe(), seen[0].system_fingerprint)
    else:
        yield findings.judge_outcomes(num_outcomes)
    hot: list[Answer] = []
    if len(set(findings.texts_of(samples))) == 1:
        hot, _ = _ask(engine, question.requests(chat=chat, temperature=_HIGH_TEMPERATURE))
    distinct = findings.judge_distinct(samples, hot)
    yield distinct
    if distinct.state == "ok":
        yield findings.judge_seeds(samples[0], again)
    yield findings.judge_text(seen)
    yield findings.judge_usage(seen)
    yield findings.judge_finish([*((sample, question.max_tokens) for sample in (*samples, again)), (shortest, 1)])
    yield findings.judge_chat(refusal, asked=question.chat)


def _refusal_of_messages(engine: Engine, question: CheckQuestion) -> EngineFailure | None:
    """Explain why the policy takes no messages, or does not answer at all; None if it takes them."""
    try:
        (answer,), _ = _ask(engine, [question.short(chat=True)])
    except PolicyError as error:
        return EngineFailure("rejected", str(error))
    return answer if isinstance(answer, EngineFailure) else None


def _ask(engine: Engine, requests: Sequence[Request]) -> tuple[list[Answer], list[int]]:
    """Return the answer and the number of outcomes of each request."""
    answers: list[Answer] = [EngineFailure("malformed", "no outcome came: mend the engine.")] * len(requests)
    times = Counter[int]()
    replies = engine.inspect(requests) if isinstance(engine, Inspected) else map(_of_engine, engine.sample(requests))
    for index, answer in replies:
        answers[index] = answer if isinstance(answer, Observations) else _of_server(answer)
        times[index] += 1
    return answers, [times[index] for index in range(len(requests))]


def _of_engine(reply: Reply) -> tuple[int, Answer]:
    outcome = reply.outcome
    if isinstance(outcome, EngineFailure):
        return reply.index, outcome
    seen = Observations(
        outcome.text, outcome.finish_reason, outcome.prompt_tokens, outcome.completion_tokens, kind=outcome.kind
    )
    return reply.index, seen


def _of_server(said: ServerAnswer | EngineFailure) -> Answer:
    if isinstance(said, EngineFailure):
        return said
    text, kind = said.answer(0)
    return Observations(
        text=text,
        kind=kind,
        finish_reason=said.finish_reasons.get(0),
        prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens,
        num_choices=len(said.texts),
        system_fingerprint=said.system_fingerprint,
    )


def _context(registry: Registry, name: str) -> Finding:
    """Return the context length in a checkpoint's config."""
    try:
        length = context_length(registry.materialise(name))
    except (PolicyError, OSError) as error:
        return Finding("context", "unknown", str(error))
    if length is None:
        return Finding("context", "unknown", "the config has no max_position_embeddings")
    return Finding("context", "ok", f"{length} tokens", length)
