"""One best-of request under way: what was drawn, what became of it in the sandbox, and what it cost.

A choice that could not be drawn and a program that could not be judged say nothing about a policy: they are counted,
and the best of the others answers. Only where nothing is left does the request fail.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import msgspec

from alphamix.ensemble.serve.best_of.async_judge import AsyncJudge
from alphamix.ensemble.serve.best_of.request import BestOfRequest
from alphamix.ensemble.serve.best_of.selection import (
    VOTES,
    Answers,
    Same,
    agreement,
    ranked_by_tests,
    ranked_by_votes,
    tied_for,
)
from alphamix.ensemble.serve.protocol.api_errors import ApiError, judge_failed, search_timeout
from alphamix.ensemble.serve.protocol.parts import Part, group_draws
from alphamix.ensemble.serve.protocol.raw_request import Fields, RawRequest
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson, sum_usage
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher
from alphamix.grading.checkers.compare import ValueUnreadableError, accepts, accepts_value, parse_value
from alphamix.grading.programs.extract import extract_program
from alphamix.grading.types import Judgement, PlainChecker, Problem, Program, Verdict

FIRST_WAVE = 4
"""Draws of the first wave, or as many as are wanted; each wave draws as many as all before it."""


class _EnoughError(Exception):
    """As many choices as are wanted pass all tests."""


@dataclass(slots=True)
class Draw:
    """One choice that came."""

    policy: str
    choice: Fields
    body: ResponseJson
    """The answer that it was part of."""
    program: Program | None = None
    judgement: Judgement | None = None
    answers: Answers | None = None
    """To the inputs of all tests, where they were asked for."""

    @property
    def is_judged(self) -> bool:
        """Whether anything is known of its program."""
        return self.judgement is not None and self.judgement.verdict is not Verdict.IE

    @property
    def tests_passed(self) -> int:
        """The longest prefix of tests that it passes, or of inputs on which it does not fail."""
        return 0 if self.judgement is None else self.judgement.tests_passed


class BestOfSearch:
    """Draws, judges and ranks. To be closed by whoever made it."""

    def __init__(
        self, dispatcher: Dispatcher, judging: AsyncJudge, request: RawRequest, best_of: BestOfRequest, places: int
    ) -> None:
        self._dispatcher = dispatcher
        self._judging = judging
        self._request = request
        self._best_of = best_of
        self._num_tests = len(best_of.problem.tests)
        self._places = places
        self.draws: dict[int, Draw] = {}
        """By their place in the budget."""
        self.bodies: list[tuple[str, ResponseJson]] = []
        """All answers, and who gave them."""
        self.stopped = "budget"
        """What ended the search: `passed`, `budget` or `deadline`."""
        self._votes: dict[int, int] = {}
        self._lane = asyncio.Semaphore(judging.at_once)
        """No more of one search stand in line: so several take turns."""
        self._num_asked = 0
        self._num_failed = 0
        self._errors: list[ApiError] = []
        self._judgements: dict[tuple[Program | None, bool], asyncio.Task[Judgement]] = {}

    async def run(self, timeout_s: float) -> None:
        """Draw and judge until the best is known, or time is out; then the best of what there is counts.

        Raises:
            ApiError: nothing came of it, or the request is wrong.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._draw()
                if self._best_of.select == "tests" and self.stopped == "budget":
                    await self._run_tied()
        except TimeoutError:
            self.stopped = "deadline"
        if not any(draw.is_judged for draw in self.draws.values()):
            if self.stopped == "deadline":
                raise search_timeout(timeout_s)
            raise judge_failed() if self.draws else self._errors[0]
        await self._count_votes()

    async def aclose(self) -> None:
        """Cancel what still waits. Safe to call twice."""
        for examination in self._judgements.values():
            examination.cancel()
        await asyncio.gather(*self._judgements.values(), return_exceptions=True)

    def winners(self) -> list[int]:
        """Places of the best, the best first; those of which nothing is known come behind all others."""
        judged, unknown = self._judged(), [place for place, draw in sorted(self.draws.items()) if not draw.is_judged]
        votes = [self._votes.get(place, 0) for place in judged]
        if self._best_of.select == "tests":
            ranking = ranked_by_tests([self.draws[place].tests_passed for place in judged], votes)
        else:
            ranking = ranked_by_votes([self._answers(place) for place in judged], votes)
        return [*(judged[index] for index in ranking), *unknown][: self._places]

    def states(self) -> dict[str, int]:
        """Count what became of the budget."""
        return {
            "drawn": len(self.draws),
            "failed": self._num_failed,
            "cancelled": self._num_asked - len(self.draws) - self._num_failed,
            "spared": self._best_of.budget - self._num_asked,
        }

    def as_json(self, winners: Sequence[int]) -> dict[str, Any]:
        """Give the `ensemble` object of the answer."""
        return {
            "select": self._best_of.select,
            "budget": self._best_of.budget,
            **self.states(),
            "judged": len(self._judged()),
            "stopped": self.stopped,
            "cost": self._cost(),
            "winners": [self._winner(index, place) for index, place in enumerate(winners)],
        }

    async def _draw(self) -> None:
        policies = self._dispatcher.assign_draws(self._request.model, self._best_of.budget)
        for first, last in self._waves():
            self._num_asked = last
            try:
                async with asyncio.TaskGroup() as group:
                    for part in group_draws(policies[first:last], first):
                        group.create_task(self._ask_for(part, group))
            except ExceptionGroup as errors:
                if errors.subgroup(_EnoughError) is None:
                    raise errors.exceptions[0] from None
                self.stopped = "passed"
                return

    def _waves(self) -> Iterator[tuple[int, int]]:
        budget = self._best_of.budget
        first, last = 0, max(FIRST_WAVE, self._places) if self._best_of.select == "tests" else budget
        while first < budget:
            yield first, min(last, budget)
            first, last = min(last, budget), 2 * last

    async def _ask_for(self, part: Part, group: asyncio.TaskGroup) -> None:
        try:
            answered = await self._dispatcher.complete_part(self._request, part)
        except ApiError as error:
            if not error.is_retryable:  # the request is wrong, whoever is asked
                raise
            self._errors.append(error)
            self._num_failed += part.n
            return
        for by, body in answered:
            self.bodies.append((by.policy, body))
            for place, choice in body.choices:
                self.draws[place] = Draw(by.policy, choice, body)
                group.create_task(self._judge(self.draws[place]))

    async def _judge(self, draw: Draw) -> None:
        draw.program = await asyncio.to_thread(extract_program, _text(draw.choice))
        is_vote = self._best_of.select != "tests"
        draw.judgement = await self._examined(draw.program, is_run=is_vote)
        passing = [other for other in self.draws.values() if other.judgement and other.judgement.verdict is Verdict.AC]
        if not is_vote and len(passing) >= self._places:
            raise _EnoughError

    async def _examined(self, program: Program | None, *, is_run: bool) -> Judgement:
        """Judge a program, or run it; equal ones once."""
        if (program, is_run) not in self._judgements:
            self._judgements[program, is_run] = asyncio.create_task(self._examine(program, is_run=is_run))
        return await asyncio.shield(self._judgements[program, is_run])

    async def _examine(self, program: Program | None, *, is_run: bool) -> Judgement:
        examine = self._judging.run if is_run else self._judging.judge
        async with self._lane:
            return await examine(self._best_of.problem, program)

    async def _run_tied(self) -> None:
        """Run the programs between which tests do not decide, so that their answers can."""
        judged = self._judged()
        tied = [self.draws[judged[i]] for i in tied_for([self.draws[p].tests_passed for p in judged], self._places)]
        tied = [draw for draw in tied if draw.tests_passed < self._num_tests]
        runs = await asyncio.gather(*(self._examined(draw.program, is_run=True) for draw in tied))
        for draw, run in zip(tied, runs, strict=True):
            draw.answers = run.answers

    async def _count_votes(self) -> None:
        select = self._best_of.select
        places = self._judged()
        if select == "tests":
            places = [place for place in places if self.draws[place].answers is not None]
        count = agreement if select == "tests" else VOTES[select]
        answers = [self._answers(place) for place in places]
        votes = await asyncio.to_thread(count, answers, sameness(self._best_of.problem))
        self._votes = dict(zip(places, votes, strict=True))

    def _judged(self) -> list[int]:
        return [place for place, draw in sorted(self.draws.items()) if draw.is_judged]

    def _answers(self, place: int) -> Answers:
        draw = self.draws[place]
        found = draw.answers or (draw.judgement and draw.judgement.answers)
        return found or (None,) * self._num_tests

    def _cost(self) -> dict[str, dict[str, int | None]]:
        cost: dict[str, dict[str, int | None]] = {}
        for policy in dict.fromkeys(name for name, _ in self.bodies):
            bodies = [body for name, body in self.bodies if name == policy]
            usage = sum_usage([body.usage for body in bodies]) or {}
            cost[policy] = {
                "calls": len(bodies),
                "choices": sum(len(body.choices) for body in bodies),
                "prompt_tokens": usage.get("prompt_tokens"),
                "completion_tokens": usage.get("completion_tokens"),
            }
        return cost

    def _winner(self, index: int, place: int) -> dict[str, Any]:
        """Say how a winner did: in tests, or in votes of those that could have agreed."""
        draw = self.draws[place]
        verdict = draw.judgement.verdict.value if draw.judgement is not None else None
        told = {"index": index, "draw": place, "policy": self._dispatcher.policies[draw.policy].origin.as_json()}
        if self._best_of.select == "tests":
            return {**told, "verdict": verdict, "tests_passed": draw.tests_passed, "num_tests": self._num_tests}
        most = max(0, len(self._votes) - 1) * (self._num_tests if self._best_of.select == "agreement" else 1)
        failed = None if verdict == Verdict.AC else verdict
        return {**told, "failed": failed, "votes": self._votes.get(place, 0), "most_votes": most}


def sameness(problem: Problem) -> Same:
    """Make what says whether two answers are the same: each is right if the other is, by the checker of the problem."""
    checker = cast("PlainChecker", problem.checker)

    @cache
    def value_of(answer: bytes) -> tuple[Any] | None:
        try:
            return (parse_value(answer),)
        except ValueUnreadableError:
            return None

    def same_value(one: bytes, other: bytes) -> bool:
        a, b = value_of(one), value_of(other)
        if a is None or b is None:
            return False
        return accepts_value(checker, a[0], b[0]) or accepts_value(checker, b[0], a[0])

    def same_text(one: bytes, other: bytes) -> bool:
        a, b = (answer.decode(errors="surrogateescape") for answer in (one, other))
        return accepts(checker, a, b) or accepts(checker, b, a)

    return same_text if problem.entry_point is None else same_value


def _text(choice: Fields) -> str:
    """What a choice says, where it is text."""
    said: Any = msgspec.json.decode(choice["text"] if "text" in choice else choice["message"])
    content = said.get("content") if isinstance(said, dict) else said
    return content if isinstance(content, str) else ""
