"""Judging many texts in many processes, on this machine or a cluster (see `backends`).

Texts go out in chunks of one problem; each process keeps one Judge per thread, and the problems that it has seen. Every
text gets an answer: what cannot be judged, because processes were killed again and again, is IE.
"""

import itertools
import pickle
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

from joblib import Parallel, cpu_count, delayed

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.isolation_audit import Audit
from alphamix.grading.judge.judge import Judge
from alphamix.grading.parallel.backends import open_backend
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Problem, Verdict

_MAX_CHUNK = 16
_CHUNKS_PER_WORKER = 8
"""So many at least, where there is work enough, so that none waits long for the last."""
_MAX_LOSSES = 3
"""A chunk that was lost with its process so often is given up."""


class Submission(NamedTuple):
    """A text to be judged."""

    number: int
    """The caller's own name for it."""
    problem: str
    """Id of its problem."""
    text: str
    is_code: bool
    """Whether `text` is the program itself, and not a completion with a program in it."""


class Judged(NamedTuple):
    """The answer to a submission."""

    number: int
    judgement: Judgement
    judge: dict[str, Any]
    """The judge's description of itself; empty where none was reached."""


class JudgedChunk(NamedTuple):
    """What came back for some submissions."""

    judged: list[Judged]
    audit: Audit
    """What came of those that were examined twice."""


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """What each process makes its Judge with."""

    sandbox: Literal["strict", "weak"] = "strict"
    all_tests: bool = False
    """Whether to go on after the first failed test."""


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Where to judge; see `backends.open_backend`."""

    name: str = "loky"
    workers: int | None = None
    address: str | None = None


class _Chunk(NamedTuple):
    problem: bytes
    """Pickled once, not for every chunk."""
    submissions: tuple[Submission, ...]


def judge_all(
    problems: Mapping[str, Problem],
    submissions: Iterable[Submission],
    num_submissions: int,
    options: JudgeOptions,
    backend: BackendOptions,
) -> Generator[JudgedChunk]:
    """Judge all submissions and yield the answers as they come, in no order.

    Submissions are consumed as they are needed; those of one problem should come together. Their number only sets the
    size of chunks. Raises GradingError where programs cannot be judged safely, or the backend cannot be had.
    """
    size = max(1, min(_MAX_CHUNK, num_submissions // (_CHUNKS_PER_WORKER * (backend.workers or cpu_count()))))
    fresh = enumerate(_chunks(problems, submissions, size))
    waiting: dict[int, _Chunk] = {}
    losses: Counter[int] = Counter()
    fruitless = 0
    try:
        with open_backend(backend.name, backend.workers, backend.address) as lost_errors:
            while True:
                try:
                    with _results(_send(fresh, waiting), options) as results:
                        for number, pickled in results:
                            answer = _unpickle_answer(pickled)
                            del waiting[number]
                            fruitless = 0
                            yield answer
                    return
                except lost_errors as error:
                    reason = f"{type(error).__name__}: {error}"
                losses.update(waiting.keys())
                fruitless += 1
                if fruitless > 2 * _MAX_LOSSES:
                    raise GradingError(f"grading processes are lost as soon as they start ({reason}): mend that first")
                for number in [number for number in waiting if losses[number] >= _MAX_LOSSES]:
                    yield _give_up(
                        problems, waiting.pop(number), f"its process was lost {_MAX_LOSSES} times ({reason})"
                    )
    finally:
        _close_judges()


def _chunks(problems: Mapping[str, Problem], submissions: Iterable[Submission], size: int) -> Iterator[_Chunk]:
    for problem, group in itertools.groupby(submissions, key=lambda submission: submission.problem):
        pickled = pickle.dumps(problems[problem])
        while chunk := tuple(itertools.islice(group, size)):
            yield _Chunk(pickled, chunk)


def _send(fresh: Iterable[tuple[int, _Chunk]], waiting: dict[int, _Chunk]) -> Iterator[tuple[int, _Chunk]]:
    """Give the numbered chunks that wait for an answer, then new ones, which wait from then on."""
    yield from list(waiting.items())
    for number, chunk in fresh:
        waiting[number] = chunk
        yield number, chunk


@contextmanager
def _results(chunks: Iterable[tuple[int, _Chunk]], options: JudgeOptions) -> Generator[Iterator[tuple[int, bytes]]]:
    """Run the chunks; leaving the context early ends what still runs."""
    parallel = Parallel(return_as="generator_unordered", max_nbytes=None)
    tasks = (delayed(_judge_chunk)(number, *chunk, options) for number, chunk in chunks)
    results = cast("Generator[tuple[int, bytes]]", parallel(tasks))
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*tasks (have been|which were)", UserWarning)  # we know: we leave early
            results.close()


def _give_up(problems: Mapping[str, Problem], chunk: _Chunk, reason: str) -> JudgedChunk:
    judged = [
        Judged(one.number, Judgement(Verdict.IE, 0, len(problems[one.problem].tests), None, 0.0, 0.0, reason), {})
        for one in chunk.submissions
    ]
    return JudgedChunk(judged, Audit())


def _judge_chunk(
    number: int, problem: bytes, submissions: tuple[Submission, ...], options: JudgeOptions
) -> tuple[int, bytes]:
    """Judge one chunk; runs in whatever process the backend has chosen. Returns a pickled Answer: a backend that cannot
    read what another version of alphamix sends would wait for ever.
    """
    judge, unpickled = own_judge(options), unpickle_problem(problem)
    before = judge.audit
    futures = [
        judge.submit(unpickled, program_of(submission.text, unpickled.prologue, is_code=submission.is_code))
        for submission in submissions
    ]
    about = judge.describe()
    judged = [
        Judged(submission.number, future.result(), about)
        for submission, future in zip(submissions, futures, strict=True)
    ]
    return number, pickle.dumps(JudgedChunk(judged, _news(before, judge.audit)))


def _unpickle_answer(pickled: bytes) -> JudgedChunk:
    try:
        return pickle.loads(pickled)
    except (AttributeError, ImportError, TypeError) as error:
        raise GradingError(f"a worker's answer cannot be read ({error}): install one alphamix everywhere") from None


def _news(before: Audit, now: Audit) -> Audit:
    """Return what an audit found since `before`."""
    examples = now.examples[len(before.examples) :]
    return Audit(now.audited - before.audited, now.disagreed - before.disagreed, examples)


@lru_cache(maxsize=8)
def unpickle_problem(problem: bytes) -> Problem:
    """Give equal problems as one object, which the Judge prepares once."""
    return pickle.loads(problem)


_judges: dict[tuple[int, JudgeOptions], Judge] = {}
"""The judges of this process, by thread: some backends have many threads in one process."""


def own_judge(options: JudgeOptions) -> Judge:
    """The Judge of this thread, made when it is first needed. Raises GradingError, with the name of the machine."""
    key = threading.get_ident(), options
    if key not in _judges:
        try:
            _judges[key] = Judge(sandbox=options.sandbox, all_tests=options.all_tests)
        except GradingError as error:
            raise GradingError(f"on {socket.gethostname()}: {error}") from None
    return _judges[key]


def _close_judges() -> None:
    """Close what this thread has made; those of other processes close when these end."""
    for key in [key for key in _judges if key[0] == threading.get_ident()]:
        _judges.pop(key).close()
