"""The judge of a server, before the event loop: programs that clients' tests decide between run here, always confined.

One `Judge`, made when it is first needed; where strict confinement cannot be proven, requests are refused
and nothing runs. Programs wait here, not in the judge, since what waits here can still be cancelled.
"""

import asyncio
import logging
from collections import Counter
from concurrent.futures import Future
from functools import partial

from alphamix.ensemble.serve.lazy import LazyValue
from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Judgement, Problem, Program, Verdict

ANSWER_BYTES = 64 * 2**10
"""What a program may answer to all inputs together, where answers are kept: with a tolerance, all are compared."""
_AT_ONCE_PER_WORKER = 4
"""Programs in the judge at once: those that idle give way to others there."""

log = logging.getLogger("alphamix.serve")


class AsyncJudge:
    """Runs programs for many requests. Belongs to one event loop; `workers` 0 means that there is no judge."""

    def __init__(self, workers: int, verdicts: Counter[str]) -> None:
        self._verdicts = verdicts
        self._workers = workers
        self._judge = LazyValue(self._make)
        self.at_once = max(1, workers) * _AT_ONCE_PER_WORKER
        self._room = asyncio.Semaphore(self.at_once)

    async def check(self) -> None:
        """Make the judge, unless that is done.

        Raises:
            ApiError: 501, this server has none; 503, strict confinement cannot be proven here.
        """
        await self._judge.get()

    async def judge(self, problem: Problem, program: Program | None) -> Judgement:
        """Judge a program by tests, up to the first that it fails."""
        made = await self._judge.get()
        return await self._through(partial(made.submit, problem, program))

    async def run(self, problem: Problem, program: Program | None) -> Judgement:
        """Run a program on the inputs of all tests, and keep what it answers."""
        made = await self._judge.get()
        return await self._through(partial(made.run, problem, program, ANSWER_BYTES))

    def forget(self, problem: Problem) -> None:
        """Drop what is kept of a problem whose request is answered."""
        if (made := self._judge.value) is not None:
            made.forget(problem)

    async def close(self) -> None:
        """Stop at once. Safe to call twice."""
        if (made := await self._judge.take()) is not None:
            await asyncio.to_thread(made.close)

    async def _through(self, submit: "partial[Future[Judgement]]") -> Judgement:
        try:
            judgement = await self._in_room(submit)
        except GradingError as error:  # the judge was closed: nothing is known of the program
            log.warning("a program was not judged: %s", error)
            judgement = Judgement(Verdict.IE, 0, 0, None, 0.0, 0.0, str(error))
        self._verdicts[judgement.verdict.value] += 1
        return judgement

    async def _in_room(self, submit: "partial[Future[Judgement]]") -> Judgement:
        loop = asyncio.get_running_loop()
        await self._room.acquire()
        try:
            future = submit()
        except BaseException:
            self._room.release()
            raise
        # A program that runs cannot be called back: its place stays taken until it has ended, whoever has left.
        future.add_done_callback(lambda _: _tell(loop, self._room))
        return await asyncio.wrap_future(future)

    async def _make(self) -> Judge:
        if self._workers == 0:
            message = "this server judges no programs: it was started with --judge-workers 0"
            raise ApiError(501, message, kind="server_error", code="no_judge")
        try:
            return await asyncio.to_thread(partial(Judge, workers=self._workers, sandbox="strict"))
        except GradingError as error:
            log.error("programs cannot be judged: %s", error)
            message = (
                "programs cannot be judged here, since the sandbox is not proven to hold: "
                "run 'alphamix doctor' on the server, which says what is missing"
            )
            raise ApiError(503, message, kind="server_error", code="no_sandbox") from error


def _tell(loop: asyncio.AbstractEventLoop, room: asyncio.Semaphore) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(room.release)
