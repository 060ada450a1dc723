"""Judging programs on a cluster one by one, as a run produces them; `batch` judges a complete set.

`ClusterJudge` has the methods `submit` and `describe` of `Judge`. Each process of the backend keeps its own Judge. A
program whose process was lost is sent again; after the third loss it gets IE, so that its verdict stays owed.
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
from alphamix.grading.parallel.batch import (
    MAX_LOSSES,
    BackendOptions,
    JudgeOptions,
    lost_judgement,
    own_judge,
    unpickle_problem,
)
from alphamix.grading.types import Judgement, Problem, Program

_MAX_PICKLED = 256


class ClusterJudge:
    """Judges programs on a cluster. It is a context manager, and must be used from one thread only.

    Raises:
        GradingError: Programs cannot be judged safely on the cluster.
        BackendError: The backend is unavailable.
    """

    def __init__(self, options: JudgeOptions, backend: BackendOptions) -> None:
        self._options = options
        self._closing = threading.Event()
        self._pickled: OrderedDict[int, tuple[Problem, bytes]] = OrderedDict()
        with ExitStack() as opening:
            self._resending = opening.enter_context(ThreadPoolExecutor(1))
            self._pool = opening.enter_context(open_pool(backend.name, backend.workers, backend.address))
            self._about: dict[str, Any] = json.loads(self._pool.submit(_describe, options).result())
            self._resources = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problem: Problem, program: Program | None) -> "Future[Judgement]":
        """Judge the program of a completion. None, for a completion without a program, gets the verdict FE."""
        answer: Future[Judgement] = Future()
        self._send(problem, program, answer, 1)
        return answer

    def describe(self) -> dict[str, Any]:
        """Return what verdicts depend on, as the first process that answered describes it."""
        return self._about

    def close(self) -> None:
        """End the processes that were started, or disconnect from the cluster. Safe to call twice.

        Programs that have not been judged by then fail with GradingError.
        """
        self._closing.set()
        self._resources.close()

    def _send(self, problem: Problem, program: Program | None, answer: "Future[Judgement]", attempt: int) -> None:
        def done(call: "Future[bytes]") -> None:
            try:
                answer.set_result(pickle.loads(call.result()))
            except (*self._pool.lost_errors, CancelledError) as error:
                lost(error)
            except Exception as error:  # raised by the remote judge; the caller gets it from the future
                answer.set_exception(error)

        def lost(error: BaseException) -> None:
            if self._closing.is_set():
                answer.set_exception(GradingError("the judge is closed: make a new one"))
                return
            if attempt < MAX_LOSSES:
                # Callbacks run in the cluster client's own thread, which must not block on another submission.
                self._resending.submit(self._send, problem, program, answer, attempt + 1)
                return
            answer.set_result(lost_judgement(len(problem.tests), f"{type(error).__name__}: {error}"))

        try:
            call = self._pool.submit(_judge, self._problem(problem), program, self._options)
        except self._pool.lost_errors as error:
            lost(error)
        else:
            call.add_done_callback(done)

    def _problem(self, problem: Problem) -> bytes:
        """Return a problem as bytes, from a cache. Resending calls this from a second thread, which may evict entries
        at any time, so an entry is looked up only once.
        """
        entry = self._pickled.get(id(problem))
        if entry is None:
            entry = self._pickled[id(problem)] = problem, pickle.dumps(problem)
            if len(self._pickled) > _MAX_PICKLED:
                self._pickled.popitem(last=False)
        return entry[1]


def _describe(options: JudgeOptions) -> str:
    return json.dumps(own_judge(options).describe())


def _judge(problem: bytes, program: Program | None, options: JudgeOptions) -> bytes:
    """Judge one program, in a process of the backend."""
    return pickle.dumps(own_judge(options).submit(unpickle_problem(problem), program).result())
