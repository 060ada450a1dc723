"""The judge: runs programs against problems and says what became of them.

Each of its threads owns one sandbox. This module shares out the work, runs equal programs once, and restarts
a sandbox that died; how one program is judged stands in `examine`.
"""

import atexit
import hashlib
import os
import platform
import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Self

from grading.examine import PreparedProblem, examine
from grading.sandbox import controller, probes, zygote_handle
from grading.sandbox.confinement import MAX_THREADS
from grading.sandbox.zygote_handle import Tier, TierUnavailableError, Zygote, ZygoteDiedError
from grading.types import GradingError, Judgement, Problem, Verdict

JUDGE_VERSION = "1"
"""Raised whenever a program may get another verdict than before."""
_MAX_REMEMBERED = 1 << 16
_MAX_PREPARED = 256
_TIERS: dict[str, tuple[Tier, ...]] = {"strict": ("namespaces", "landlock"), "weak": ("weak",)}


class Judge:
    """Judges programs on `workers` threads. A context manager; safe to use from any thread of the process
    that made it.

    Equal programs for one problem run once. Raises GradingError at the start where `strict` confinement
    cannot be proven; `weak` only limits resources, and is for programs that are trusted.
    """

    def __init__(self, *, workers: int = 1, sandbox: Literal["strict", "weak"] = "strict") -> None:
        if workers < 1:
            raise GradingError(f"workers is {workers}: give at least 1")
        if sandbox not in _TIERS:
            raise GradingError(f"sandbox is {sandbox!r}: choose strict or weak")
        self._pid = os.getpid()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._running: dict[bytes, Future[Judgement]] = {}
        self._judged: OrderedDict[bytes, Judgement] = OrderedDict()
        self._prepared: OrderedDict[int, PreparedProblem] = OrderedDict()
        boots: list[Future[Tier]] = [Future() for _ in range(workers)]
        # Daemons: an interpreter that ends without close() must not wait for them.
        self._threads = [
            threading.Thread(target=self._work, args=(_TIERS[sandbox], boot), name="judge", daemon=True)
            for boot in boots
        ]
        for thread in self._threads:
            thread.start()
        try:
            self.tier: str = min((boot.result() for boot in boots), key=("weak", "landlock", "namespaces").index)
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problem: Problem, code: str | None) -> Future[Judgement]:
        """Judge `code`, the program of a completion; None (no program in it) is FE at once.

        The future cannot be cancelled, since equal programs share it. It fails with GradingError when the
        judge is closed before the program was judged.
        """
        if os.getpid() != self._pid:
            raise GradingError("this judge was made in another process: make one Judge per process")
        if code is None:
            return _done(Judgement(Verdict.FE, 0, len(problem.tests), None, 0.0, 0.0, "no program in the completion"))
        with self._lock:
            prepared = self._prepare(problem)
            source = code.encode(errors="surrogatepass")
            key = hashlib.sha256(prepared.fingerprint + source).digest()
            if key in self._judged:
                self._judged.move_to_end(key)
                return _done(self._judged[key])
            if key in self._running:
                return self._running[key]
            if self._closing.is_set():
                raise GradingError("the judge is closed: make a new one")
            future: Future[Judgement] = Future()
            future.set_running_or_notify_cancel()
            self._running[key] = future
            self._jobs.put(_Job(key, prepared, source, future))
            return future

    def describe(self) -> dict[str, Any]:
        """Say how verdicts come about, to be stamped into them: version, sandbox and limits."""
        return {
            "version": f"{JUDGE_VERSION} (CPython {platform.python_version()})",
            "sandbox": self.tier,
            "limits": {
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
        self._closing.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._lock:
            owed = list(self._running.values())
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

    def _work(self, tiers: tuple[Tier, ...], boot: Future[Tier]) -> None:
        """Own one zygote, from its boot to its end: the kernel ties it to this thread."""
        zygote: Zygote | None = None
        try:
            zygote, tier = _boot(tiers, self._closing)
            boot.set_result(tier)
        except BaseException as error:
            boot.set_exception(error)
            return
        while (job := self._jobs.get()) is not None and not self._closing.is_set():
            reason = ""
            for _ in range(2):
                try:
                    zygote = zygote or _boot((tier,), self._closing)[0]
                    self._finish(job, examine(zygote, job.prepared, job.source))
                    break
                except Exception as error:  # whatever goes wrong here is ours, and never a failure of the program
                    reason = f"{type(error).__name__}: {error}"
                    if zygote is not None:
                        zygote.close()
                    zygote = None
            else:
                num_tests = len(job.prepared.problem.tests)
                self._finish(job, Judgement(Verdict.IE, 0, num_tests, None, 0.0, 0.0, reason))
        if zygote is not None:
            zygote.close()

    def _finish(self, job: "_Job", judgement: Judgement) -> None:
        if self._closing.is_set() and judgement.verdict is Verdict.IE:
            return  # cut off by close(), which says so to whoever waits
        with self._lock:
            del self._running[job.key]
            if judgement.verdict is not Verdict.IE:  # a failure of ours is owed, not remembered
                self._judged[job.key] = judgement
                if len(self._judged) > _MAX_REMEMBERED:
                    self._judged.popitem(last=False)
        job.future.set_result(judgement)


@dataclass(frozen=True, slots=True)
class _Job:
    key: bytes
    prepared: PreparedProblem
    source: bytes
    future: Future[Judgement]


def _done(judgement: Judgement) -> Future[Judgement]:
    future: Future[Judgement] = Future()
    future.set_result(judgement)
    return future


def _boot(tiers: tuple[Tier, ...], closing: threading.Event) -> tuple[Zygote, Tier]:
    """Start a zygote in the first tier that is proven to hold. Raises GradingError."""
    reasons: list[str] = []
    for tier in tiers:
        try:
            zygote = Zygote(tier, closing)
        except TierUnavailableError as error:
            reasons.append(f"{tier}: {error}")
            continue
        try:
            reasons += [f"{tier}: {gap}" for gap in probes.unproven(zygote, tier)]
        except ZygoteDiedError as error:
            reasons.append(f"{tier}: {error}")
        if not any(reason.startswith(f"{tier}:") for reason in reasons):
            return zygote, tier
        zygote.close()
    raise GradingError(
        f"programs cannot be judged safely on this machine ({'; '.join(reasons)}): "
        "allow user namespaces or Landlock, or pass --sandbox=weak to run trusted programs unconfined"
    )
