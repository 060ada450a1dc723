"""The search behind one best-of request: what was drawn, how its programs were judged, and what it cost.

A choice that could not be drawn, or a program that could not be judged, says nothing about a policy: it is counted, and
the best of the others is the answer. The request fails only if nothing is left.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from alphamix.ensemble.serve.best_of.async_judge import AsyncJudge
from alphamix.ensemble.serve.best_of.request import BestOfRequest
from alphamix.ensemble.serve.best_of.selection import (
    VOTES,
    Answers,
    agreement,
    ranked_by_tests,
    ranked_by_votes,
    tied_for,
)
from alphamix.ensemble.serve.best_of.tool_draws import DrawAttempt, ToolDraws
from alphamix.ensemble.serve.protocol.api_errors import ApiError, server_error
from alphamix.ensemble.serve.protocol.raw_request import Fields, Part, RawRequest
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson, sum_usage
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher, single_choices
from alphamix.ensemble.serve.routing.split import group_draws
from alphamix.grading.checkers.agreement import same_by_checker
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Program, Verdict

FIRST_WAVE = 4
"""Number of draws in the first wave, if no more winners are wanted; each later wave doubles the draws so far."""


class _EnoughError(Exception):
    """Enough choices pass every test."""


@dataclass(slots=True)
class Draw:
    """One choice that was drawn."""

    policy: str
    choice: Fields
    body: ResponseJson
    """The answer that the choice came in."""
    attempt: DrawAttempt | None = None
    """How the choice came about in the setting `tool`."""
    program: Program | None = None
    judgement: Judgement | None = None
    answers: Answers | None = None
    """Outputs of the program for the inputs of all tests, if they were needed to break a tie."""

    @property
    def is_judged(self) -> bool:
        """Whether the judge reached a verdict on the program."""
        return self.judgement is not None and self.judgement.verdict is not Verdict.IE

    @property
    def tests_passed(self) -> int:
        """Length of the longest prefix of tests that pass, or of inputs on which the program does not fail."""
        return 0 if self.judgement is None else self.judgement.tests_passed


class BestOfSearch:
    """Draws, judges and ranks the choices of one request. Its owner must call `aclose`.

    Args:
        dispatcher: Asks the policies.
        judging: Judges their programs.
        request: What they are asked, with as many choices as there are draws.
        best_of: How the best is selected.
        num_winners: Number of choices to answer with.
        tools: Makes the draws in the setting `tool`; None if each is one answer.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        judging: AsyncJudge,
        request: RawRequest,
        best_of: BestOfRequest,
        num_winners: int,
        tools: ToolDraws | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._judging = judging
        self._request = request
        self._best_of = best_of
        self._num_tests = len(best_of.problem.tests)
        self._num_winners = num_winners
        self._tools = tools
        self.draws: dict[int, Draw] = {}
        """Choices by their place in the budget."""
        self.bodies: list[tuple[str, ResponseJson]] = []
        """All answers, each with the policy that gave it."""
        self.stopped = "budget"
        """What ended the search: `passed`, `budget` or `deadline`."""
        self._votes: dict[int, int] = {}
        self._lane = asyncio.Semaphore(judging.at_once)
        """Limits the programs of this search that wait for the judge, so that several searches share it fairly."""
        self._num_requested = 0
        self._num_failed = 0
        self._errors: list[ApiError] = []
        self._judgements: dict[tuple[Program | None, bool], asyncio.Task[Judgement]] = {}

    async def run(self, timeout_s: float) -> None:
        """Draw and judge until the best is known or the time is up; then the best so far counts.

        Raises:
            ApiError: no choice was judged, or the request is wrong.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._draw_waves()
                if self._best_of.select == "tests" and self.stopped == "budget":
                    await self._run_tied()
        except TimeoutError:
            self.stopped = "deadline"
        if not any(draw.is_judged for draw in self.draws.values()):
            raise self._failure(timeout_s)
        await self._count_votes()

    async def aclose(self) -> None:
        """Cancel judgements that still wait. Safe to call twice."""
        for judgement in self._judgements.values():
            judgement.cancel()
        await asyncio.gather(*self._judgements.values(), return_exceptions=True)

    def winners(self) -> list[int]:
        """Return the places of the winners, the best first; choices without a verdict come after all others."""
        judged, unknown = self._judged(), [place for place, draw in sorted(self.draws.items()) if not draw.is_judged]
        votes = [self._votes.get(place, 0) for place in judged]
        if self._best_of.select == "tests":
            ranking = ranked_by_tests([self.draws[place].tests_passed for place in judged], votes)
        else:
            ranking = ranked_by_votes([self._answers(place) for place in judged], votes)
        return [*(judged[index] for index in ranking), *unknown][: self._num_winners]

    def states(self) -> dict[str, int]:
        """Return the number of draws of the budget by state."""
        return {
            "drawn": len(self.draws),
            "failed": self._num_failed,
            "cancelled": self._num_requested - len(self.draws) - self._num_failed,
            "spared": self._best_of.budget - self._num_requested,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the `ensemble` object of the answer."""
        return {
            "select": self._best_of.select,
            "setting": "reasoning" if self._tools is None else "tool",
            "budget": self._best_of.budget,
            **self.states(),
            "judged": len(self._judged()),
            "stopped": self.stopped,
            "cost": self._cost(),
            "winners": [self._winner(index, place) for index, place in enumerate(self.winners())],
        }

    def _failure(self, timeout_s: float) -> ApiError:
        """Return the reason why no choice was drawn and judged."""
        if self.stopped == "deadline":
            cure = "ask for a smaller budget, fewer tests or fewer tokens"
            return server_error(504, f"no choice was drawn and judged in {timeout_s:g} s: {cure}", "timeout")
        if not self.draws:
            return self._errors[0]
        message = (
            "the judge failed on every choice that was drawn, which says nothing about the choices: try again later"
        )
        return server_error(503, message, "judge_failed")

    async def _draw_waves(self) -> None:
        policies = self._dispatcher.assign_draws(self._request.model, self._best_of.budget)
        for first, last in self._waves():
            self._num_requested = last
            try:
                async with asyncio.TaskGroup() as group:
                    for part in group_draws(policies[first:last], first):
                        # Attempts of several turns end each in its own time.
                        for each in [part] if self._tools is None else single_choices(part):
                            group.create_task(self._draw_part(each, group))
            except ExceptionGroup as errors:
                if errors.subgroup(_EnoughError) is None:
                    raise errors.exceptions[0] from None
                self.stopped = "passed"
                return

    def _waves(self) -> Iterator[tuple[int, int]]:
        budget = self._best_of.budget
        first, last = 0, max(FIRST_WAVE, self._num_winners) if self._best_of.select == "tests" else budget
        while first < budget:
            yield first, min(last, budget)
            first, last = min(last, budget), 2 * last

    async def _draw_part(self, part: Part, group: asyncio.TaskGroup) -> None:
        attempt, answers = None, list[tuple[Part, ResponseJson]]()
        try:
            if self._tools is None:
                answers = await self._dispatcher.complete_part(self._request, part, set())
            else:
                attempt = await self._tools.draw(part, answers)
        except ApiError as error:
            if not error.is_retryable:  # the request is wrong, so no policy can answer it
                raise
            self._errors.append(error)
            self._num_failed += part.n
            self._count_spent(answers)
            return
        except asyncio.CancelledError:
            self._count_spent(answers)
            raise
        for answered, body in answers:
            self.bodies.append((answered.policy, body))
            for place, choice in body.choices:
                self.draws[place] = Draw(answered.policy, choice, body, attempt)
                group.create_task(self._judge(self.draws[place]))

    def _count_spent(self, answers: Sequence[tuple[Part, ResponseJson]]) -> None:
        """Count what an attempt cost that came to no choice."""
        self.bodies += [(answered.policy, ResponseJson(body.fields, [])) for answered, body in answers]

    async def _judge(self, draw: Draw) -> None:
        draw.program = await asyncio.to_thread(program_of, _text(draw.choice), self._best_of.problem, is_code=False)
        is_vote = self._best_of.select != "tests"
        draw.judgement = await self._judged_once(draw.program, is_run=is_vote)
        passing = [other for other in self.draws.values() if other.judgement and other.judgement.verdict is Verdict.AC]
        if not is_vote and len(passing) >= self._num_winners:
            raise _EnoughError

    async def _judged_once(self, program: Program | None, *, is_run: bool) -> Judgement:
        """Judge a program, or only run it; equal programs share one judgement."""
        if (program, is_run) not in self._judgements:
            self._judgements[program, is_run] = asyncio.create_task(self._submit(program, is_run=is_run))
        return await asyncio.shield(self._judgements[program, is_run])

    async def _submit(self, program: Program | None, *, is_run: bool) -> Judgement:
        submit = self._judging.run if is_run else self._judging.judge
        async with self._lane:
            return await submit(self._best_of.problem, program)

    async def _run_tied(self) -> None:
        """Run the programs that tie on tests, so that votes on their answers can decide."""
        judged = self._judged()
        tied = [
            self.draws[judged[i]] for i in tied_for([self.draws[p].tests_passed for p in judged], self._num_winners)
        ]
        tied = [draw for draw in tied if draw.tests_passed < self._num_tests]
        runs = await asyncio.gather(*(self._judged_once(draw.program, is_run=True) for draw in tied))
        for draw, run in zip(tied, runs, strict=True):
            draw.answers = run.answers

    async def _count_votes(self) -> None:
        select = self._best_of.select
        places = self._judged()
        if select == "tests":
            places = [place for place in places if self.draws[place].answers is not None]
        count = agreement if select == "tests" else VOTES[select]
        answers = [self._answers(place) for place in places]
        votes = await asyncio.to_thread(count, answers, same_by_checker(self._best_of.problem))
        self._votes = dict(zip(places, votes, strict=True))

    def _judged(self) -> list[int]:
        return [place for place, draw in sorted(self.draws.items()) if draw.is_judged]

    def _answers(self, place: int) -> Answers:
        draw = self.draws[place]
        answers = draw.answers or (draw.judgement and draw.judgement.answers)
        return answers or (None,) * self._num_tests

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
        """Return how a winner did: in tests, or in votes out of those that it could have had."""
        draw = self.draws[place]
        verdict = draw.judgement.verdict.value if draw.judgement is not None else None
        policy = self._dispatcher.policies[draw.policy].policy
        result = {"index": index, "draw": place, "policy": policy._asdict()}
        if draw.attempt is not None:
            result["attempt"] = draw.attempt._asdict()
        if self._best_of.select == "tests":
            return {**result, "verdict": verdict, "tests_passed": draw.tests_passed, "num_tests": self._num_tests}
        most = max(0, len(self._votes) - 1) * (self._num_tests if self._best_of.select == "agreement" else 1)
        failed = None if verdict == Verdict.AC else verdict
        return {**result, "failed": failed, "votes": self._votes.get(place, 0), "most_votes": most}


def _text(choice: Fields) -> str:
    """Return the text of a choice; empty if it has none."""
    content: Any = msgspec.json.decode(choice["text"] if "text" in choice else choice["message"])
    if isinstance(content, dict):
        content = content.get("content")
    return content if isinstance(content, str) else ""
