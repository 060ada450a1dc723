"""Judging single programs on a cluster: verdicts are the same as on this machine, and lost work is done again."""

import importlib.util
import os
import pickle
import signal
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.parallel import cluster
from alphamix.grading.parallel.backends import BackendError
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.parallel.cluster import ClusterJudge
from alphamix.grading.types import Problem, Program, Verdict

MakeProblem = Callable[..., Problem]
WorkerProcesses = Callable[[], set[int]]


def needs(module: str) -> Any:
    absent = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(absent, reason=f"{module} is not installed: pip install 'alphamix[dask,ray]'")


BACKENDS = [
    pytest.param("dask", marks=needs("distributed")),
    pytest.param("ray", marks=needs("ray")),
]


@pytest.fixture
def problem(make_problem: MakeProblem) -> Problem:
    return make_problem(*[(f"{n}\n", f"{n + 1}\n") for n in range(4)], id="add-1")


def programs(count: int, code: str = "") -> list[Program]:
    """Return `count` programs, of which every fourth fails the last test."""
    slips = (" + (n == 3)" if number % 4 == 0 else "" for number in range(count))
    return [Program(f"{code}\nn = int(input())\nprint(n + 1{slip})  # {i}\n") for i, slip in enumerate(slips)]


def gist(judge: ClusterJudge, problem: Problem, asked: list[Program]) -> list[str]:
    futures = [judge.submit(problem, program) for program in asked]
    return [future.result(60).verdict.value for future in futures]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.slow
def test_verdicts_are_those_of_this_machine_and_lost_work_is_done_again(
    name: str, problem: Problem, worker_processes: WorkerProcesses
) -> None:
    with ClusterJudge(JudgeOptions(), BackendOptions(name, workers=2)) as judge:
        assert judge.describe()["sandbox"] in ("namespaces", "landlock")
        assert gist(judge, problem, programs(12)) == 3 * ["WA", "AC", "AC", "AC"]
        assert judge.submit(problem, None).result(60).verdict is Verdict.FE
        futures = [judge.submit(problem, program) for program in programs(24, "import time; time.sleep(0.03)")]
        futures[0].result(60)
        os.kill(min(worker_processes()), signal.SIGKILL)
        assert [future.result(60).verdict.value for future in futures] == 6 * ["WA", "AC", "AC", "AC"]


@needs("distributed")
def test_a_program_that_loses_its_process_again_and_again_is_owed(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask  # noqa: PLC0415 (optional)
    import distributed  # noqa: F401, PLC0415 (it adds its defaults, and all keys that are missing now are removed later)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        ClusterJudge(JudgeOptions(), BackendOptions("dask", workers=2)) as judge,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(cluster, "_judge", die)
            judgement = judge.submit(problem, programs(1)[0]).result(60)
        assert judgement.verdict is Verdict.IE
        assert "its process was lost 3 times" in judgement.message
        assert gist(judge, problem, programs(2)) == ["WA", "AC"]


@needs("distributed")
def test_what_is_not_judged_when_it_closes_fails(problem: Problem) -> None:
    judge = ClusterJudge(JudgeOptions(), BackendOptions("dask", workers=1))
    futures = [judge.submit(problem, program) for program in programs(40, "import time; time.sleep(0.1)")]
    futures[0].result(60)
    judge.close()
    judge.close()
    failed = [future for future in futures if future.exception(60) is not None]
    assert failed
    assert all(isinstance(future.exception(), GradingError) for future in failed)


def test_a_problem_that_is_dropped_at_once_is_sent_all_the_same(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread, which sends lost work again, may evict any entry."""
    monkeypatch.setattr(cluster, "_MAX_PICKLED", 0)
    judge = object.__new__(ClusterJudge)
    judge._pickled = OrderedDict()
    assert pickle.loads(judge._problem(problem)) == problem


def die(*_: object) -> bytes:
    os._exit(1)


def test_unavailable_clusters_are_reported(problem: Problem) -> None:
    with pytest.raises(BackendError, match="choose the backend dask or ray"):
        ClusterJudge(JudgeOptions(), BackendOptions("loky"))
    with pytest.raises(BackendError, match="choose one of loky, dask, ray"):
        ClusterJudge(JudgeOptions(), BackendOptions("slurm"))
