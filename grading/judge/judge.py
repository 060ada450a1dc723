"""The judge: runs programs against problems and says what became of them.

Each of its threads owns one sandbox. This module shares out the work, runs equal programs once, lets another program
run while one idles, and restarts a sandbox that died; how one program is judged stands in `examine`.
"""

import atexit
import hashlib
import os
import platform
import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, Self, get_args

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.isolation_audit import Audit, Disagreement, is_chosen
from alphamix.grading.judge.jobs import Job, JobPlace
from alphamix.grading.judge.prepared_problem import PreparedProblem
from alphamix.grading.judge.run_tests import Isolation, Manner, examine
from alphamix.grading.sandbox import cgroup, controller, zygote_handle
from alphamix.grading.sandbox.compiler import Compiler
from alphamix.grading.sandbox.confined.confinement import MAX_THREADS
from alphamix.grading.sandbox.launch import Tier
from alphamix.grading.sandbox.workbench import Bench
from alphamix.grading.types import Judgement, Problem, Program, Verdict

JUDGE_VERSION = "3"
"""Raised whenever a program may get another verdict than before."""
_MAX_REMEMBERED = 1 << 14
_MAX_PREPARED = 256
_MAX_THREADS_PER_WORKER = 8
"""One computes; the others wait for programs that idle."""
_TIERS: dict[str, tuple[Tier, ...]] = {"strict": ("namespaces", "landlock"), "weak": ("weak",)}


class Judge:
    """Judges programs, `workers` of them at a time; one that idles gives way to another until it ends. A context
    manager; safe to use from any thread of the process that made it.

    Equal programs for one problem run once. Raises GradingError at the start where `strict` confinement
    cannot be proven; `weak` only limits resources, and is for programs that are trusted.

    `isolate` says what gets a process of its own: a program (whose last test, and whose failures after the first test,
    get a fresh one besides), or every test of a program (slower). `all_tests` goes on after the
    first failure, and fills `Judgement.passed_tests`.
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        sandbox: Literal["strict", "weak"] = "strict",
        isolate: Isolation = "program",
        all_tests: bool = False,
    ) -> None:
        if workers < 1:
            raise GradingError(f"workers is {workers}: give at least 1")
        if sandbox not in _TIERS:
            raise GradingError(f"sandbox is {sandbox!r}: choose strict or weak")
        if isolate not in get_args(Isolation):
            raise GradingError(f"isolate is {isolate!r}: choose program or test")
        self._manner = Manner(isolate, all_tests)
        self._audit = Audit()
        self._closing = threading.Event()
        self._compiler = Compiler(self._closing)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._running: dict[bytes, Job] = {}
        self._judged: OrderedDict[bytes, Judgement] = OrderedDict()
        self._prepared: OrderedDict[int, PreparedProblem] = OrderedDict()
        self._places = threading.Semaphore(workers)
        self._max_threads = workers * _MAX_THREADS_PER_WORKER
        self._threads: list[threading.Thread] = []
        self._num_free = 0
        boots = [self._start_thread(_TIERS[sandbox]) for _ in range(workers)]
        try:
            held: list[Tier] = [boot.result() for boot in boots]
        except BaseException:
            self.close()
            raise
        self.tier: Tier = min(held, key=("weak", "landlock", "namespaces").index)
        """The weakest that any of its sandboxes holds."""
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problem: Problem, program: Program | None) -> Future[Judgement]:
        """Judge the program of a completion; None (no program in it) is FE at once.

        The future cannot be cancelled, since equal programs share it. It fails with GradingError when the
        judge is closed before the program was judged.
        """
        return self._submit(problem, program, self._manner)

    def run(self, problem: Problem, program: Program | None, keeps_bytes: int) -> Future[Judgement]:
        """Run all tests, each in a process of its own, and compare nothing: AC means that none failed, `answers` holds
        what came. Where there is no room left in `keeps_bytes` for all answers, a test has failed (OLE).
        """
        return self._submit(problem, program, Manner("test", all_tests=True, keeps_bytes=keeps_bytes))

    def forget(self, problem: Problem) -> None:
        """Drop what is kept of the tests of a problem that will not be judged again. Its programs that nobody else
        has submitted end with the test that they are at, as IE.
        """
        with self._lock:
            if (prepared := self._prepared.pop(id(problem), None)) is not None:
                prepared.is_forgotten = True

    def _submit(self, problem: Problem, program: Program | None, manner: Manner) -> Future[Judgement]:
        if os.getpid() != self._pid:
            raise GradingError("this judge was made in another process: make one Judge per process")
        with self._lock:
            prepared = self._prepare(problem)
            if program is None:
                return _done(prepared.judgement(Verdict.FE, "no program in the completion"))
            source = program.source.encode(errors="surrogatepass")
            kind = program.language.encode() + (b"" if manner.keeps_bytes is None else b" %d" % manner.keeps_bytes)
            key = hashlib.sha256(prepared.fingerprint + kind + b"\0" + source).digest()
            if key in self._judged:
                self._judged.move_to_end(key)
                return _done(self._judged[key])
            if key in self._running:
                self._running[key].wanted_for.append(prepared)
                return self._running[key].future
            if self._closing.is_set():
                raise GradingError("the judge is closed: make a new one")
            future: Future[Judgement] = Future()
            future.set_running_or_notify_cancel()
            self._running[key] = Job(key, prepared, program, manner, future, [prepared])
            self._jobs.put(self._running[key])
            return future

    @property
    def audit(self) -> Audit:
        """What came of the accepted programs that were examined again, with a process for every test."""
        return self._audit

    def describe(self) -> dict[str, Any]:
        """Say how verdicts come about, to be stamped into them: version, sandbox and limits."""
        return {
            "version": f"{JUDGE_VERSION} (CPython {platform.python_version()})",
            "sandbox": self.tier,
            "limits": {
                "isolate": self._manner.isolate,
                "memory": "cgroup v2" if cgroup.find_place().path else "measured",
                "output_bytes": zygote_handle.OUTPUT_BYTES,
                "min_idle_s": controller.MIN_IDLE_S,
                "compile_cpu_s": controller.COMPILE_CPU_S,
                "threads": MAX_THREADS,
            },
        }

    def close(self) -> None:
        """Stop at once, end every child process, and fail what was not judged. Safe to call twice."""
        if os.getpid() != self._pid or self._closing.is_set():
            return
        with self._lock:
            self._closing.set()
        for _ in self._threads:
            self._places.release()
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
        """Encode a problem once, not once per program. Known by identity: hashing its tests each time would
        cost more.
        """
        prepared = self._prepared.get(id(problem)) or PreparedProblem(problem)
        self._prepared[id(problem)] = prepared
        self._prepared.move_to_end(id(problem))
        while len(self._prepared) > _MAX_PREPARED:
            self._prepared.popitem(last=False)
        return prepared

    def _start_thread(self, tiers: tuple[Tier, ...]) -> Future[Tier]:
        """Start a thread that takes jobs, and return the tier of its sandbox, to come."""
        boot: Future[Tier] = Future()
        # A daemon: an interpreter that ends without close() must not wait for it.
        thread = threading.Thread(target=self._work, args=(tiers, boot), name="judge", daemon=True)
        self._threads.append(thread)
        self._num_free += 1
        thread.start()
        return boot

    def _work(self, tiers: tuple[Tier, ...], boot: Future[Tier]) -> None:
        """Own one bench, from its boot to its end: the kernel ties its processes to this thread."""
        place = JobPlace(self._places)

        def on_idle() -> None:
            place.leave()
            self._fill_places()

        bench: Bench | None = None
        try:
            bench = Bench(tiers, self._compiler, self._closing, on_idle)
            tier = bench.tier
            boot.set_result(tier)
        except BaseException as error:
            with self._lock:
                self._num_free -= 1
            boot.set_exception(error)
            return
        while (job := self._take_job(place)) is not None:
            judgement = job.prepared.judgement(Verdict.IE)
            for _ in range(2):
                try:
                    bench = bench or Bench((tier,), self._compiler, self._closing, on_idle)
                    judgement = self._examine(bench, job)
                    break
                except GradingError as error:  # another try would not help
                    judgement = job.prepared.judgement(Verdict.IE, str(error))
                    break
                except Exception as error:  # whatever goes wrong here is ours, and never a failure of the program
                    judgement = job.prepared.judgement(Verdict.IE, f"{type(error).__name__}: {error}")
                    if bench is not None:
                        bench.close()
                    bench = None
            self._finish(job, judgement)
        if bench is not None:
            bench.close()

    def _take_job(self, place: JobPlace) -> Job | None:
        """Wait for a place, then for a job; None when the judge closes."""
        place.leave()
        place.enter()
        job = self._jobs.get()
        with self._lock:
            self._num_free -= 1
            return None if self._closing.is_set() else job

    def _fill_places(self) -> None:
        """Start one more thread if there is a job that nobody is free to take."""
        with self._lock:
            is_wanted = self._num_free == 0 and not self._jobs.empty() and len(self._threads) < self._max_threads
            if is_wanted and not self._closing.is_set():
                self._start_thread((self.tier,))

    def _examine(self, bench: Bench, job: Job) -> Judgement:
        """Examine a program, and once more if it is one of those that are audited."""
        is_wanted = partial(self._is_wanted, job)
        judgement = examine(bench, job.prepared, job.program, job.manner, is_wanted)
        is_audited = job.manner.isolate == "program" and job.manner.keeps_bytes is None
        shares = is_audited and job.prepared.num_tests > 2 and job.program.language == "python"
        if judgement.verdict is Verdict.AC and shares and is_chosen(job.key):
            isolated = examine(bench, job.prepared, job.program, Manner(isolate="test"), is_wanted)
            problem_id = job.prepared.problem.id
            differs = isolated.verdict is not Verdict.AC
            with self._lock:
                disagreement = Disagreement(problem_id, job.program, isolated) if differs else None
                self._audit = self._audit.with_one_more(disagreement)
        return judgement

    def _is_wanted(self, job: Job) -> bool:
        """Whether to go on with a job; where not, whoever submits the same from now on has it run anew."""
        with self._lock:
            if not job.is_wanted and self._running.get(job.key) is job:
                del self._running[job.key]
            return job.is_wanted

    def _finish(self, job: Job, judgement: Judgement) -> None:
        with self._lock:
            if self._running.get(job.key) is job:
                if self._closing.is_set() and judgement.verdict is Verdict.IE:
                    return  # cut off by close(), which says so to whoever waits
                del self._running[job.key]
            # A failure of ours is owed, not remembered; answers may be large.
            if judgement.verdict is not Verdict.IE and judgement.answers is None:
                self._judged[job.key] = judgement
                if len(self._judged) > _MAX_REMEMBERED:
                    self._judged.popitem(last=False)
            self._num_free += 1
        job.future.set_result(judgement)


def _done(judgement: Judgement) -> Future[Judgement]:
    future: Future[Judgement] = Future()
    future.set_result(judgement)
    return future
