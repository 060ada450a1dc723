"""Judging many texts in many processes, on this machine or a cluster (see `backends`).

Texts are sent in chunks of one problem; each process keeps one Judge per thread, and a few problems. Every text gets a
judgement, which is IE if the processes that should judge it were killed repeatedly.
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
from alphamix.grading.judge.judge import Judge
from alphamix.grading.parallel.backends import open_backend
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Problem, Verdict

_MAX_CHUNK = 16
_CHUNKS_PER_WORKER = 8
"""Minimum number of chunks per worker, if there is enough work, so that no worker waits long for the last one."""
MAX_LOSSES = 3
"""Number of lost processes after which a piece of work is given up."""


class Submission(NamedTuple):
    """A text to be judged."""

    number: int
    """Number by which the caller identifies the submission."""
    problem: str
    """Id of the problem."""
    text: str
    is_code: bool
    """Whether `text` is the program itself, rather than a completion that contains one."""


class Judged(NamedTuple):
    """The judgement of a submission."""

    number: int
    judgement: Judgement
    judge: dict[str, Any]
    """The judge's description (`Judge.describe`); empty if no judge was reached."""


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Arguments for the Judge of each process."""

    sandbox: Literal["strict", "weak"] = "strict"
    all_tests: bool = False
    """Whether to continue after the first failed test."""
    packages: tuple[str, ...] = ()
    """Installed distributions that programs may import, beside those of each problem."""


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Arguments for `backends.open_backend`."""

    name: str = "loky"
    workers: int | None = None
    address: str | None = None


class _Chunk(NamedTuple):
    problem: bytes
    """The problem, pickled once for all of its chunks."""
    submissions: tuple[Submission, ...]


def judge_all(
    problems: Mapping[str, Problem],
    submissions: Iterable[Submission],
    num_submissions: int,
    options: JudgeOptions,
    backend: BackendOptions,
) -> Generator[list[Judged]]:
    """Judge all submissions, and yield the judgements of each chunk when it is finished.

    Submissions are consumed as needed; those to one problem should be adjacent. `num_submissions` only serves to choose
    the size of chunks. Raises GradingError if programs cannot be judged safely, or if the backend is unavailable.
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
                if fruitless > 2 * MAX_LOSSES:
                    raise GradingError(f"grading processes are lost as soon as they start ({reason}): fix that first")
                for number in [number for number in waiting if losses[number] >= MAX_LOSSES]:
                    yield _give_up(problems, waiting.pop(number), reason)
    finally:
        _close_judges()


def _chunks(problems: Mapping[str, Problem], submissions: Iterable[Submission], size: int) -> Iterator[_Chunk]:
    for problem, group in itertools.groupby(submissions, key=lambda submission: submission.problem):
        pickled = pickle.dumps(problems[problem])
        while chunk := tuple(itertools.islice(group, size)):
            yield _Chunk(pickled, chunk)


def _send(fresh: Iterable[tuple[int, _Chunk]], waiting: dict[int, _Chunk]) -> Iterator[tuple[int, _Chunk]]:
    """Yield the numbered chunks that are waiting for an answer, then new ones, which are added to `waiting`."""
    yield from list(waiting.items())
    for number, chunk in fresh:
        waiting[number] = chunk
        yield number, chunk


@contextmanager
def _results(chunks: Iterable[tuple[int, _Chunk]], options: JudgeOptions) -> Generator[Iterator[tuple[int, bytes]]]:
    """Run the chunks, and provide an iterator over the results. Leaving the context early stops the remaining ones."""
    parallel = Parallel(return_as="generator_unordered", max_nbytes=None)
    tasks = (delayed(_judge_chunk)(number, *chunk, options) for number, chunk in chunks)
    results = cast("Generator[tuple[int, bytes]]", parallel(tasks))
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            # Joblib warns that unfinished tasks are dropped, which is intended here.
            warnings.filterwarnings("ignore", ".*tasks (have been|which were)", UserWarning)
            results.close()


def _give_up(problems: Mapping[str, Problem], chunk: _Chunk, reason: str) -> list[Judged]:
    num_tests = len(problems[chunk.submissions[0].problem].tests)
    judgement = lost_judgement(num_tests, reason)
    return [Judged(submission.number, judgement, {}) for submission in chunk.submissions]


def lost_judgement(num_tests: int, reason: str) -> Judgement:
    """Return IE for a program whose process was lost too often."""
    return Judgement.without_tests(Verdict.IE, num_tests, f"its process was lost {MAX_LOSSES} times ({reason})")


def _judge_chunk(
    number: int, problem: bytes, submissions: tuple[Submission, ...], options: JudgeOptions
) -> tuple[int, bytes]:
    """Judge one chunk, in a process of the backend.

    Return a pickled list of Judged: a backend that cannot unpickle what another version of alphamix sent would wait
    forever.
    """
    judge, unpickled = own_judge(options), unpickle_problem(problem)
    futures = [
        judge.submit(unpickled, program_of(submission.text, unpickled, is_code=submission.is_code))
        for submission in submissions
    ]
    about = judge.describe()
    judged = [
        Judged(submission.number, future.result(), about)
        for submission, future in zip(submissions, futures, strict=True)
    ]
    return number, pickle.dumps(judged)


def _unpickle_answer(pickled: bytes) -> list[Judged]:
    try:
        return pickle.loads(pickled)
    except (AttributeError, ImportError, TypeError) as error:
        raise GradingError(f"a worker's answer cannot be read ({error}): install one alphamix everywhere") from None


@lru_cache(maxsize=8)
def unpickle_problem(problem: bytes) -> Problem:
    """Unpickle a problem. Equal bytes give the same object, which the Judge therefore prepares only once."""
    return pickle.loads(problem)


_judges: dict[tuple[int, JudgeOptions], Judge] = {}
"""Judges of this process by thread, because some backends run many threads in one process."""


def own_judge(options: JudgeOptions) -> Judge:
    """Return the Judge of this thread, made when first needed. Raises GradingError, which names the machine."""
    key = threading.get_ident(), options
    if key not in _judges:
        try:
            _judges[key] = Judge(sandbox=options.sandbox, all_tests=options.all_tests, packages=options.packages)
        except GradingError as error:
            raise GradingError(f"on {socket.gethostname()}: {error}") from None
    return _judges[key]


def _close_judges() -> None:
    """Close the judges of this thread; those of other processes close when these processes end."""
    for key in [key for key in _judges if key[0] == threading.get_ident()]:
        _judges.pop(key).close()
