"""Builders and fixtures that the tests of grading share."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Problem, Test


def _make_problem(*tests: tuple[Any, Any], **settings: Any) -> Problem:
    settings = {"id": "p", "statement": "", "time_limit_s": 1.0} | settings
    return Problem(tests=tuple(Test(input=given, output=wanted) for given, wanted in tests), **settings)


@pytest.fixture(autouse=True)
def _one_ray_cluster_at_a_time(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Let tests of Ray wait for each other in all workers: the address "auto" finds clusters of other processes."""
    if "ray" not in request.node.name:
        yield
        return
    with (tmp_path_factory.getbasetemp().parent / "ray.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    return _make_problem


@pytest.fixture(scope="session")
def worker_processes(descendants: Callable[[int], set[int]]) -> Callable[[], set[int]]:
    """Find the processes of a parallel backend that own a sandbox."""

    def find() -> set[int]:
        family = descendants(os.getpid())
        sandboxes = {pid for pid in family if b"\0-I\0-S\0" in _read(pid, "cmdline")}
        stats = [_read(pid, "stat") for pid in sandboxes]
        parents = {int(stat.rpartition(b") ")[2].split()[1]) for stat in stats if stat}
        return (parents & family) - sandboxes

    return find


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def judge(descendants: Callable[[int], set[int]]) -> Iterator[Judge]:
    with Judge(workers=2) as judge:
        yield judge
        assert os.getpid() not in descendants(os.getpid())
