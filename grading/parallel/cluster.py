"""Judging one program at a time on other processes or machines, as a run needs it; `batch` judges what is all there.

`ClusterJudge` has `submit` and `describe` of `Judge`. Each process of the backend keeps a Judge of its own. A program
whose process was lost is sent again; after the third loss it is IE, so that its verdict stays owed.
"""

import json
import pickle
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self

from alphamix.grading.errors import GradingError
from alphamix.grading.parallel.backends import open_pool
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions, own_judge, unpickle_problem
from alphamix.grading.types import Judgement, Problem, Program, Verdict

_MAX_LOSSES = 3
_MAX_PICKLED = 256


class ClusterJudge:
    """Judges programs where a backend says. A context manager; safe to use from one thread.

    Raises:
        GradingError: programs cannot be judged safely there.
        BackendError: the backend cannot be had.
    """

    def __init__(self, options: JudgeOptions, backend: BackendOptions) -> None:
        self._options = options
        self._closing = threading.Event()
        self._pickled: OrderedDict[int, tuple[Problem, bytes]] = OrderedDict()
        with ExitStack() as opening:
            self._again = opening.enter_context(ThreadPoolExecutor(1))
            self._pool = opening.enter_context(open_pool(backend.name, backend.workers, backend.address))
            self._about: dict[str, Any] = json.loads(self._pool.submit(_describe, options).result())
            self._resources = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problem: Problem, program: Program | None) -> "Future[Judgement]":
        """Judge the program of a completion; None (no program in it) is FE."""
        answer: Future[Judgement] = Future()
        self._send(problem, program, answer, 1)
        return answer

    def describe(self) -> dict[str, Any]:
        """Say how verdicts come about, as the first process that answered does it."""
        return self._about

    def close(self) -> None:
        """End the processes that were started, or leave the cluster. Safe to call twice.

        What is not judged by then fails with GradingError.
        """
        self._closing.set()
        self._resources.close()

    def _send(self, problem: Problem, program: Program | None, answer: "Future[Judgement]", attempt: int) -> None:
        def done(call: "Future[bytes]") -> None:
            try:
                answer.set_result(pickle.loads(call.result()))
            except (*self._pool.lost_errors, CancelledError) as error:
                lost(error)
            except Exception as error:  # of the judge there: whoever waits is told
                answer.set_exception(error)

        def lost(error: BaseException) -> None:
            if self._closing.is_set():
                answer.set_exception(GradingError("the judge is closed: make a new one"))
                return
            if attempt < _MAX_LOSSES:
                self._again.submit(self._send, problem, program, answer, attempt + 1)  # not in the cluster's thread
                return
            reason = f"its process was lost {_MAX_LOSSES} times ({type(error).__name__}: {error})"
            answer.set_result(Judgement(Verdict.IE, 0, len(problem.tests), None, 0.0, 0.0, reason))

        try:
            call = self._pool.submit(_judge, self._problem(problem), program, self._options)
        except self._pool.lost_errors as error:
            lost(error)
        else:
            call.add_done_callback(done)

    def _problem(self, problem: Problem) -> bytes:
        """Pickle a problem once. What is sent again comes here from another thread, and either may drop any."""
        kept = self._pickled.get(id(problem))
        if kept is None:
            kept = self._pickled[id(problem)] = problem, pickle.dumps(problem)
            if len(self._pickled) > _MAX_PICKLED:
                self._pickled.popitem(last=False)
        return kept[1]


def _describe(options: JudgeOptions) -> str:
    return json.dumps(own_judge(options).describe())


def _judge(problem: bytes, program: Program | None, options: JudgeOptions) -> bytes:
    """Judge one program; runs in whatever process the backend has chosen."""
    return pickle.dumps(own_judge(options).submit(unpickle_problem(problem), program).result())
