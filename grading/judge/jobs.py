"""What the threads of a judge pass to each other: programs to be judged, and the right to have one compute."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from alphamix.grading.judge.prepared_problem import PreparedProblem
from alphamix.grading.judge.run_tests import Manner
from alphamix.grading.types import Judgement, Program


@dataclass(frozen=True, slots=True)
class Job:
    """One program to be judged, for whoever has submitted it."""

    key: bytes
    """Equal for programs that get the same judgement."""
    prepared: PreparedProblem
    program: Program
    manner: Manner
    future: Future[Judgement]
    wanted_for: list[PreparedProblem]
    """Each problem with which it was submitted, equal as they are."""

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still wants to know."""
        return not all(prepared.is_forgotten for prepared in self.wanted_for)


class JobPlace:
    """The right of one thread to have a program compute; never held twice."""

    def __init__(self, places: threading.Semaphore) -> None:
        self._places = places
        self._is_held = False

    def enter(self) -> None:
        """Wait for it."""
        self._places.acquire()
        self._is_held = True

    def leave(self) -> None:
        """Let another thread in. A program that computes again after it idled does so beside that one."""
        if self._is_held:
            self._is_held = False
            self._places.release()
