"""What the threads of a judge share: jobs, and the slots that limit how many programs compute at a time."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from alphamix.grading.judge.prepared_problem import PreparedProblem
from alphamix.grading.judge.run_tests import RunOptions
from alphamix.grading.types import Judgement, Program


@dataclass(frozen=True, slots=True)
class Job:
    """One program to be judged. Equal programs that are submitted meanwhile share it."""

    key: bytes
    """Hash that is equal for programs with the same judgement."""
    prepared: PreparedProblem
    program: Program
    options: RunOptions
    future: Future[Judgement]
    submitted_with: list[PreparedProblem]
    """The problem of each submission; they are equal, but each may be forgotten by itself."""

    @property
    def is_wanted(self) -> bool:
        """Whether at least one submitter still needs the judgement."""
        return not all(prepared.is_forgotten for prepared in self.submitted_with)


class ComputeSlot:
    """One thread's claim on a semaphore that limits how many programs compute at a time. It is never held twice."""

    def __init__(self, slots: threading.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    def acquire(self) -> None:
        """Wait until a slot is free, and take it."""
        self._slots.acquire()
        self._is_held = True

    def release(self) -> None:
        """Free the slot, if it is held. A program that computes again after it idled does so without a slot."""
        if self._is_held:
            self._is_held = False
            self._slots.release()
