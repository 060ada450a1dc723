"""Asynchronous access to the judge: programs of best-of requests run here, always in the strict sandbox.

The `Judge` is created when it is first needed. If strict confinement cannot be proven on this machine, requests are
refused and nothing runs. Programs wait here and not in the judge, since what waits here can still be cancelled.
"""

import asyncio
import logging
from collections import Counter
from concurrent.futures import Future
from functools import partial

from alphamix.ensemble.serve.lazy import LazyValue
from alphamix.ensemble.serve.protocol.api_errors import server_error
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Judgement, Problem, Program, Verdict

ANSWER_BYTES = 64 * 2**10
"""Maximum bytes of a program's outputs for all inputs, which bounds the cost of comparing them."""
_AT_ONCE_PER_WORKER = 4
"""Number of programs in the judge per worker: programs that idle make room for others there."""

log = logging.getLogger("alphamix.serve")


class AsyncJudge:
    """Judges programs of many requests. Belongs to one event loop; with 0 workers there is no judge."""

    def __init__(self, workers: int, verdicts: Counter[str]) -> None:
        self._verdicts = verdicts
        self._workers = workers
        self._judge = LazyValue(self._create)
        self.at_once = max(1, workers) * _AT_ONCE_PER_WORKER
        self._room = asyncio.Semaphore(self.at_once)

    async def check(self) -> None:
        """Create the judge if it does not exist yet.

        Raises:
            ApiError: 501, this server has no judge; 503, strict confinement cannot be proven here.
        """
        await self._judge.get()

    async def judge(self, problem: Problem, program: Program | None) -> Judgement:
        """Judge a program by tests, up to the first failure."""
        judge = await self._judge.get()
        return await self._through(partial(judge.submit, problem, program))

    async def run(self, problem: Problem, program: Program | None) -> Judgement:
        """Run a program on the inputs of all tests, and keep its outputs."""
        judge = await self._judge.get()
        return await self._through(partial(judge.run, problem, program, ANSWER_BYTES))

    def forget(self, problem: Problem) -> None:
        """Release what the judge keeps of a problem whose request is answered."""
        if (judge := self._judge.value) is not None:
            judge.forget(problem)

    async def close(self) -> None:
        """Stop the judge at once. Safe to call twice."""
        if (judge := await self._judge.take()) is not None:
            await asyncio.to_thread(judge.close)

    async def _through(self, submit: "partial[Future[Judgement]]") -> Judgement:
        try:
            judgement = await self._in_room(submit)
        except GradingError as error:  # the judge was closed: nothing is known about the program
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
        # A running program cannot be cancelled, so it keeps its place until it ends, even if the client has left.
        future.add_done_callback(lambda _: _release(loop, self._room))
        return await asyncio.wrap_future(future)

    async def _create(self) -> Judge:
        if self._workers == 0:
            message = "this server does not judge programs, since it was started with --judge-workers 0"
            raise server_error(501, message, "no_judge")
        try:
            return await asyncio.to_thread(partial(Judge, workers=self._workers, sandbox="strict"))
        except GradingError as error:
            log.error("programs cannot be judged: %s", error)
            message = (
                "programs cannot be judged here, since strict confinement cannot be proven: "
                "run 'alphamix doctor' on the server to see what is missing"
            )
            raise server_error(503, message, "no_sandbox") from error


def _release(loop: asyncio.AbstractEventLoop, room: asyncio.Semaphore) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(room.release)
