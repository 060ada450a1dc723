"""Judging in many processes: the same answers from every backend, and nothing lost when processes are killed."""

import importlib.util
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.parallel import backends, batch
from alphamix.grading.parallel.backends import BackendError
from alphamix.grading.parallel.batch import BackendOptions, Judged, JudgeOptions, Submission, judge_all
from alphamix.grading.types import Problem, Verdict

MakeProblem = Callable[..., Problem]
Descendants = Callable[[int], set[int]]
WorkerProcesses = Callable[[], set[int]]


def needs(module: str) -> Any:
    absent = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(absent, reason=f"{module} is not installed: pip install 'alphamix[dask,ray]'")


BACKENDS = [
    pytest.param("loky"),
    pytest.param("dask", marks=needs("distributed")),
    pytest.param("ray", marks=needs("ray")),
]


@pytest.fixture
def problems(make_problem: MakeProblem) -> dict[str, Problem]:
    """Three problems, which ask for the sum of the input and 0, 1 or 2."""
    tests = [[(f"{n}\n", f"{n + added}\n") for n in range(4)] for added in range(3)]
    return {f"add-{added}": make_problem(*tests[added], id=f"add-{added}") for added in range(3)}


def make_submissions(count: int, code: str) -> list[Submission]:
    """Return `count` different programs; every fourth fails the last test, every fifth comes in a completion."""
    submissions: list[Submission] = []
    for number in range(count):
        added = number * 3 // count
        slip = " + (n == 3)" if number % 4 == 0 else ""
        program = f"{code}\nn = int(input())\nprint(n + {added}{slip})  # {number}\n"
        text = f"```python\n{program}```" if number % 5 == 0 else program
        submissions.append(Submission(number, f"add-{added}", text, number % 5 != 0))
    return submissions


def expected(number: int) -> tuple[str, int]:
    return ("WA", 3) if number % 4 == 0 else ("AC", 4)


def gist(answers: Iterable[Judged]) -> dict[int, tuple[str, int]]:
    listed = list(answers)
    verdict_of = {judged.number: (judged.judgement.verdict.value, judged.judgement.tests_passed) for judged in listed}
    assert len(verdict_of) == len(listed)
    return verdict_of


def flat(answers: Iterable[list[Judged]]) -> Iterator[Judged]:
    for answer in answers:
        yield from answer


def read_command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.slow
def test_every_backend_gives_the_same_answers(name: str, problems: dict[str, Problem]) -> None:
    submissions = make_submissions(60, "")
    answers = list(flat(judge_all(problems, submissions, 60, JudgeOptions(), BackendOptions(name, workers=2))))
    assert gist(answers) == {number: expected(number) for number in range(60)}
    assert {answer.judge["sandbox"] for answer in answers} <= {"namespaces", "landlock"}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.slow
def test_a_killed_worker_loses_nothing(
    name: str, problems: dict[str, Problem], worker_processes: WorkerProcesses
) -> None:
    submissions = make_submissions(60, "import time; time.sleep(0.03)")
    answers: list[Judged] = []
    killed = 0
    for answer in judge_all(problems, submissions, 60, JudgeOptions(), BackendOptions(name, workers=2)):
        answers += answer
        if not killed:
            victim = min(worker_processes())
            os.kill(victim, signal.SIGKILL)
            killed = victim
    assert killed
    assert gist(answers) == {number: expected(number) for number in range(60)}


@needs("distributed")
def test_a_task_that_dask_gives_up_is_tried_again(
    problems: dict[str, Problem], worker_processes: WorkerProcesses
) -> None:
    """Joblib's own backend would wait forever here."""
    import dask  # noqa: PLC0415 (optional)
    import distributed  # noqa: F401, PLC0415 (its defaults must be there before any key is set and removed again)

    submissions = make_submissions(30, "import time; time.sleep(0.03)")
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        run = judge_all(problems, submissions, 30, JudgeOptions(), BackendOptions("dask", workers=2))
        answers = next(run)
        os.kill(min(worker_processes()), signal.SIGKILL)
        answers += flat(run)
    assert gist(answers) == {number: expected(number) for number in range(30)}


@needs("distributed")
def test_a_dask_cluster_is_reached_by_its_address(problems: dict[str, Problem]) -> None:
    import distributed  # noqa: PLC0415 (optional)

    submissions = make_submissions(30, "")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster:
        backend = BackendOptions("dask", address=cluster.scheduler_address)
        answers = gist(flat(judge_all(problems, submissions, 30, JudgeOptions(), backend)))
    assert answers == {number: expected(number) for number in range(30)}


@needs("distributed")
def test_a_missing_dask_scheduler_is_reported(problems: dict[str, Problem]) -> None:
    import dask  # noqa: PLC0415 (optional)
    import distributed  # noqa: F401, PLC0415 (its defaults must be there before any key is set and removed again)

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(BackendError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:1 .*start one with"),
    ):
        list(
            judge_all(
                problems,
                make_submissions(3, ""),
                3,
                JudgeOptions(),
                BackendOptions("dask", address="tcp://127.0.0.1:1"),
            )
        )


@needs("ray")
def test_a_missing_ray_cluster_is_reported(problems: dict[str, Problem]) -> None:
    with pytest.raises(BackendError, match=r"no Ray cluster at auto .*start one with"):
        list(judge_all(problems, make_submissions(3, ""), 3, JudgeOptions(), BackendOptions("ray", address="auto")))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_stop_when_the_caller_stops(
    workers: int, problems: dict[str, Problem], descendants: Descendants
) -> None:
    before = descendants(os.getpid())
    submissions = make_submissions(200, "import time; time.sleep(0.01)")
    run = judge_all(problems, submissions, 200, JudgeOptions(), BackendOptions("loky", workers))
    next(run)
    run.close()
    left = descendants(os.getpid()) - before
    assert not [pid for pid in left if b"resource_tracker" not in read_command(pid)]  # joblib keeps that process


def test_all_tests_are_run_on_request(problems: dict[str, Problem]) -> None:
    wrong_in_the_middle = Submission(0, "add-0", "n = int(input())\nprint(n + (n == 1))", True)
    (answer,) = flat(
        judge_all(problems, [wrong_in_the_middle], 1, JudgeOptions(all_tests=True), BackendOptions(workers=1))
    )
    assert answer.judgement.tests_passed == 1
    assert answer.judgement.passed_tests == (True, False, True, True)


@contextmanager
def _losing_results(
    chunks: Iterable[tuple[int, Any]], options: JudgeOptions, poison: Callable[[Submission], bool]
) -> Generator[Iterator[tuple[int, bytes]]]:
    """Lose the process at chunks that hold a poisoned submission."""

    def run() -> Iterator[tuple[int, bytes]]:
        ahead = []
        for number, chunk in chunks:
            ahead.append((number, chunk))
            if len(ahead) < 3:
                continue
            number, chunk = ahead.pop()  # the newest chunk finishes first
            if any(poison(submission) for submission in chunk.submissions):
                raise backends_lost("struck by lightning")
            yield batch._judge_chunk(number, *chunk, options)
        for number, chunk in ahead:
            if any(poison(submission) for submission in chunk.submissions):
                raise backends_lost("struck by lightning")
            yield batch._judge_chunk(number, *chunk, options)

    yield run()


def backends_lost(message: str) -> Exception:
    from joblib.externals.loky import BrokenProcessPool  # noqa: PLC0415

    return BrokenProcessPool(message)


def test_a_chunk_that_kills_its_process_is_owed_and_the_others_are_judged(
    problems: dict[str, Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_results", lambda chunks, options: _losing_results(chunks, options, is_poisoned))
    submissions = make_submissions(30, "")

    def is_poisoned(submission: Submission) -> bool:
        return submission.number == 7

    answers = list(flat(judge_all(problems, submissions, 30, JudgeOptions(), BackendOptions(workers=1))))
    verdict_of = gist(answers)
    assert verdict_of.keys() == set(range(30))
    verdicts = Counter(verdict for verdict, _ in verdict_of.values())
    assert verdict_of[7] == ("IE", 0)
    assert verdicts["IE"] <= 9  # the chunk of three, and the two that waited beside it
    lost = next(answer for answer in answers if answer.number == 7)
    assert "its process was lost 3 times (BrokenProcessPool: struck by lightning)" in lost.judgement.message
    assert all(verdict_of[number] == expected(number) for number in verdict_of if verdict_of[number][0] != Verdict.IE)


def test_processes_that_are_always_lost_end_the_batch(
    problems: dict[str, Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_results", lambda chunks, options: _losing_results(chunks, options, lambda _: True))
    with pytest.raises(GradingError, match=r"lost as soon as they start .*struck by lightning"):
        list(judge_all(problems, make_submissions(100, ""), 100, JudgeOptions(), BackendOptions(workers=1)))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.slow
def test_workers_of_another_version_are_named(
    name: str, problems: dict[str, Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(batch, "Judged")  # here, but not in the workers
    with pytest.raises(GradingError, match=r"a worker's answer cannot be read .*Judged.*: install one alphamix"):
        list(judge_all(problems, make_submissions(30, ""), 30, JudgeOptions(), BackendOptions(name, workers=2)))


def test_an_unsafe_machine_is_named(problems: dict[str, Problem], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise GradingError("programs cannot be judged safely on this machine")

    monkeypatch.setattr(batch, "Judge", refuse)
    with pytest.raises(GradingError, match=r"on .+: programs cannot be judged safely"):
        list(judge_all(problems, make_submissions(3, ""), 3, JudgeOptions(), BackendOptions(workers=1)))


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: str) -> None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr(backends.importlib, "import_module", absent)
    with pytest.raises(GradingError, match=r"needs the package ray: pip install 'alphamix\[ray\]'"):
        backends.open_backend("ray", None, None)


@pytest.mark.parametrize(
    ("backend", "cause"),
    [
        (BackendOptions("slurm"), "backend is 'slurm': choose one of loky, dask, ray"),
        (BackendOptions(workers=0), "workers is 0"),
        (BackendOptions(address="tcp://host:1"), "loky runs on this machine only"),
        pytest.param(
            BackendOptions("dask", workers=2, address="tcp://host:1"), "leave out workers", marks=needs("distributed")
        ),
    ],
)
def test_bad_backends_are_named(backend: BackendOptions, cause: str, problems: dict[str, Problem]) -> None:
    with pytest.raises(GradingError, match=cause):
        list(judge_all(problems, make_submissions(3, ""), 3, JudgeOptions(), backend))
