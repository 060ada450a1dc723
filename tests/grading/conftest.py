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


def _descendants(pid: int) -> set[int]:
    """Return the process ids of all living descendants of `pid`."""
    parent_of: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(") ")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parent_of[int(entry.name)] = int(parent)
    family = {pid}
    while more := {child for child, parent in parent_of.items() if parent in family} - family:
        family |= more
    return family - {pid}


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
def descendants() -> Callable[..., set[int]]:
    return _descendants


@pytest.fixture(scope="session")
def worker_processes() -> Callable[[], set[int]]:
    """Find the processes of a parallel backend that own a sandbox."""

    def find() -> set[int]:
        family = _descendants(os.getpid())
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
def judge() -> Iterator[Judge]:
    with Judge(workers=2) as judge:
        yield judge
        assert os.getpid() not in _descendants(os.getpid())
