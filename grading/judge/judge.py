"""The judge: it runs programs against problems and returns judgements.

Each thread of a judge owns its sandboxes. This module distributes the work, runs equal programs once, lets another
program run while one idles, and replaces a sandbox that died; `run_tests` judges a single program.
"""

import atexit
import hashlib
import os
import platform
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, Literal, Self

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.prepared_problem import PreparedProblem
from alphamix.grading.judge.run_tests import RunOptions, run_tests
from alphamix.grading.sandbox import cgroup, controller, zygote_handle
from alphamix.grading.sandbox.compiler import Compiler
from alphamix.grading.sandbox.confined.confinement import MAX_THREADS
from alphamix.grading.sandbox.launch import STRICT_TIERS, Tier
from alphamix.grading.sandbox.packages import find_packages, versions
from alphamix.grading.sandbox.thread_sandboxes import ThreadSandboxes
from alphamix.grading.types import Judgement, Problem, Program, Verdict

JUDGE_VERSION = "6"
"""Version of the judging rules, incremented whenever a program may get a different verdict than before."""
_MAX_REMEMBERED = 1 << 14
_MAX_PREPARED = 256
_MAX_THREADS_PER_WORKER = 8
"""One of them computes while the others wait for programs that idle."""
_TIERS: dict[str, tuple[Tier, ...]] = {"strict": STRICT_TIERS, "weak": ("weak",)}


@dataclass(frozen=True, slots=True)
class _Job:
    """One program to be judged. Equal programs that are submitted before it ends share the job."""

    key: bytes
    """Hash that is equal for programs with the same judgement."""
    prepared: PreparedProblem
    program: Program
    options: RunOptions
    future: Future[Judgement]
    submitted_with: list[PreparedProblem]
    """The problem of each submission. They are equal, but `Judge.forget` applies to each separately."""


class _ComputeSlots:
    """Limit on how many programs compute at a time. It may change at any time; slots that are taken stay so."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    def set_limit(self, limit: float) -> None:
        """Let this many programs compute at a time from now on."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def acquire(self) -> None:
        """Wait until a slot is free, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._limit)
            self._taken += 1

    def release(self) -> None:
        """Free a slot."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()


class _ComputeSlot:
    """One thread's claim on one of the slots. It is never held twice."""

    def __init__(self, slots: _ComputeSlots) -> None:
        self._slots = slots
        self._is_held = False

    def acquire(self) -> None:
        """Wait until a slot is free, and take it."""
        self._slots.acquire()
        self._is_held = True

    def release(self) -> None:
        """Free the slot, if it is held. A program that resumes computing after it idled does so without a slot."""
        if self._is_held:
            self._is_held = False
            self._slots.release()


class Judge:
    """Judges programs, `workers` of them at a time. It is a context manager, and safe to use from any thread of the
    process that made it.

    A program that idles does not block a worker: another one runs meanwhile. Equal programs for one problem run once.

    Args:
        workers: Number of programs that compute at a time.
        sandbox: `strict` confines hostile programs; `weak` only limits resources, and is for trusted programs.
        all_tests: Whether to continue after the first failure, which fills `Judgement.passed_tests`.
        packages: Installed distributions that Python programs may import, beside those of each problem.

    Raises:
        GradingError: An argument is invalid, or strict confinement cannot be proven on this machine.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        sandbox: Literal["strict", "weak"] = "strict",
        all_tests: bool = False,
        packages: Sequence[str] = (),
    ) -> None:
        if workers < 1:
            raise GradingError(f"workers is {workers}: give at least 1")
        if sandbox not in _TIERS:
            raise GradingError(f"sandbox is {sandbox!r}: choose strict or weak")
        self._options = RunOptions(all_tests, packages=tuple(packages))
        self._versions = versions(self._options.packages)
        self._closing = threading.Event()
        self._compiler = Compiler(self._closing)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._running: dict[bytes, _Job] = {}
        self._judged: OrderedDict[bytes, Judgement] = OrderedDict()
        self._prepared: OrderedDict[int, PreparedProblem] = OrderedDict()
        self._compute_slots = _ComputeSlots(workers)
        self._max_threads = workers * _MAX_THREADS_PER_WORKER
        self._threads: list[threading.Thread] = []
        self._num_free = 0
        boots = [self._start_thread(_TIERS[sandbox]) for _ in range(workers)]
        try:
            proven: list[Tier] = [boot.result() for boot in boots]
        except BaseException:
            self.close()
            raise
        self.tier: Tier = min(proven, key=("weak", "landlock", "namespaces").index)
        """The weakest tier among its sandboxes."""
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problem: Problem, program: Program | None) -> Future[Judgement]:
        """Judge the program of a completion. None, for a completion without a program, gets the verdict FE at once.

        The future cannot be cancelled, because equal programs share it. It fails with GradingError if the judge is
        closed before the program has been judged.
        """
        return self._submit(problem, program, self._options)

    def run(self, problem: Problem, program: Program | None, keeps_bytes: int) -> Future[Judgement]:
        """Run all tests, and return the answers without comparing them.

        AC means that no test failed. A test fails with OLE if its answer exceeds what is left of `keeps_bytes`.
        """
        return self._submit(problem, program, replace(self._options, all_tests=True, keeps_bytes=keeps_bytes))

    def resize(self, workers: int) -> None:
        """Judge `workers` programs at a time from now on.

        Threads are added as needed. If there are too many, each still ends its program, or takes a last one.
        """
        with self._lock:
            if self._closing.is_set():
                return
            self._max_threads = workers * _MAX_THREADS_PER_WORKER
            self._compute_slots.set_limit(workers)
            for _ in range(workers - len(self._threads)):
                self._start_thread((self.tier,))

    def forget(self, problem: Problem) -> None:
        """Drop the cached tests of a problem that will not be judged again.

        Its pending programs stop after their current test and get IE, unless an equal problem also needs them.
        """
        with self._lock:
            if (prepared := self._prepared.pop(id(problem), None)) is not None:
                prepared.is_forgotten = True

    def _submit(self, problem: Problem, program: Program | None, options: RunOptions) -> Future[Judgement]:
        if os.getpid() != self._pid:
            raise GradingError("this judge was made in another process: make one Judge per process")
        with self._lock:
            prepared = self._prepare(problem)
            if program is None:
                return _done(prepared.judgement(Verdict.FE, "no program in the completion"))
            source = program.source.encode(errors="surrogatepass")
            kind = program.language.encode() + (b"" if options.keeps_bytes is None else b" %d" % options.keeps_bytes)
            key = hashlib.sha256(prepared.fingerprint + kind + b"\0" + source).digest()
            if key in self._judged:
                self._judged.move_to_end(key)
                return _done(self._judged[key])
            if key in self._running:
                self._running[key].submitted_with.append(prepared)
                return self._running[key].future
            if self._closing.is_set():
                raise GradingError("the judge is closed: make a new one")
            future: Future[Judgement] = Future()
            future.set_running_or_notify_cancel()
            self._running[key] = _Job(key, prepared, program, options, future, [prepared])
            self._jobs.put(self._running[key])
            return future

    def describe(self) -> dict[str, Any]:
        """Return what verdicts depend on (version, sandbox and limits), for storage beside them."""
        return {
            "version": f"{JUDGE_VERSION} (CPython {platform.python_version()})",
            "sandbox": self.tier,
            "limits": {
                "memory": "cgroup v2" if cgroup.find_parent().path else "measured",
                "output_bytes": zygote_handle.OUTPUT_BYTES,
                "min_idle_s": controller.MIN_IDLE_S,
                "compile_cpu_s": controller.COMPILE_CPU_S,
                "threads": MAX_THREADS,
                **({"packages": self._versions} if self._versions else {}),
            },
        }

    def close(self) -> None:
        """Stop at once, end every child process, and fail what has not been judged. Safe to call twice."""
        if os.getpid() != self._pid or self._closing.is_set():
            return
        with self._lock:
            self._closing.set()
        self._compute_slots.set_limit(inf)
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._lock:
            owed = [job.future for job in self._running.values()]
            self._running.clear()
        for future in owed:
            future.set_exception(GradingError("the judge was closed before this program was judged: submit it again"))
        atexit.unregister(self.close)

    def _prepare(self, problem: Problem) -> PreparedProblem:
        """Return the cached form of a problem, looked up by identity: hashing its tests each time would cost more."""
        prepared = self._prepared.get(id(problem)) or PreparedProblem(problem)
        self._prepared[id(problem)] = prepared
        self._prepared.move_to_end(id(problem))
        while len(self._prepared) > _MAX_PREPARED:
            self._prepared.popitem(last=False)
        return prepared

    def _start_thread(self, tiers: tuple[Tier, ...]) -> Future[Tier]:
        """Start a thread that takes jobs, and return a future of its sandbox's tier."""
        boot: Future[Tier] = Future()
        # A daemon thread, because an interpreter that ends without close() must not wait for it.
        thread = threading.Thread(target=self._work, args=(tiers, boot), name="judge", daemon=True)
        self._threads.append(thread)
        self._num_free += 1
        thread.start()
        return boot

    def _work(self, tiers: tuple[Tier, ...], boot: Future[Tier]) -> None:
        """Run jobs in sandboxes that this thread starts and closes itself: the kernel kills them when it ends."""
        slot = _ComputeSlot(self._compute_slots)

        def on_idle() -> None:
            slot.release()
            self._add_thread_if_needed()

        sandboxes: ThreadSandboxes | None = None
        try:
            sandboxes = ThreadSandboxes(tiers, self._compiler, self._closing, on_idle)
            tier = sandboxes.tier
            boot.set_result(tier)
        except BaseException as error:
            with self._lock:
                self._num_free -= 1
            boot.set_exception(error)
            return
        while (job := self._take_job(slot)) is not None:
            judgement = job.prepared.judgement(Verdict.IE)
            for _ in range(2):
                try:
                    sandboxes = sandboxes or ThreadSandboxes((tier,), self._compiler, self._closing, on_idle)
                    is_wanted = partial(self._is_wanted, job)
                    judgement = run_tests(sandboxes, job.prepared, job.program, job.options, is_wanted)
                    break
                except GradingError as error:  # another attempt would not help
                    judgement = job.prepared.judgement(Verdict.IE, str(error))
                    break
                except Exception as error:  # any other error is the judge's own, and never a failure of the program
                    judgement = job.prepared.judgement(Verdict.IE, f"{type(error).__name__}: {error}")
                    if sandboxes is not None:
                        sandboxes.close()
                    sandboxes = None
            self._finish(job, judgement)
        if sandboxes is not None:
            sandboxes.close()

    def _take_job(self, slot: _ComputeSlot) -> _Job | None:
        """Wait for a compute slot, then for a job. Return None when the judge closes."""
        slot.release()
        slot.acquire()
        job = self._jobs.get()
        with self._lock:
            self._num_free -= 1
            return None if self._closing.is_set() else job

    def _add_thread_if_needed(self) -> None:
        """Start one more thread if there is a job and no thread is free to take it."""
        with self._lock:
            is_needed = self._num_free == 0 and not self._jobs.empty() and len(self._threads) < self._max_threads
            if is_needed and not self._closing.is_set():
                self._start_thread((self.tier,))

    def _is_wanted(self, job: _Job) -> bool:
        """Check whether any submitter still needs a job. If not, drop it, so that an equal submission starts anew."""
        if not job.prepared.is_forgotten:
            return True  # mostly so; without the lock, because this is asked before every test
        with self._lock:
            is_wanted = not all(prepared.is_forgotten for prepared in job.submitted_with)
            if not is_wanted and self._running.get(job.key) is job:
                del self._running[job.key]
            return is_wanted

    def _finish(self, job: _Job, judgement: Judgement) -> None:
        with self._lock:
            if self._running.get(job.key) is job:
                if self._closing.is_set() and judgement.verdict is Verdict.IE:
                    return  # interrupted by close(), which fails the future itself
                del self._running[job.key]
            # An internal error stays owed, so it is not remembered; nor are answers, which may be large.
            if judgement.verdict is not Verdict.IE and judgement.answers is None:
                self._judged[job.key] = judgement
                if len(self._judged) > _MAX_REMEMBERED:
                    self._judged.popitem(last=False)
            self._num_free += 1
        job.future.set_result(judgement)


def check_packages(problems: Iterable[Problem], packages: Sequence[str]) -> None:
    """Check that `packages` and those of problems are installed. Raises GradingError, which names the problem."""
    find_packages(packages)
    for problem in problems:
        try:
            find_packages(problem.packages)
        except GradingError as error:
            raise GradingError(f"problem {problem.id!r}: {error}") from None


def _done(judgement: Judgement) -> Future[Judgement]:
    future: Future[Judgement] = Future()
    future.set_result(judgement)
    return future
