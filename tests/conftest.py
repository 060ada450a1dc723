"""Processes and settings that tests of several rooms share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from .forked_commands import CHECKPOINTS, RUNNING, ForkServer, open_fork_server

settings.register_profile("any machine", deadline=None)  # how long an example takes depends on what else is running
settings.load_profile("any machine")


def pytest_runtest_setup() -> None:
    """Let Ctrl-C reach every test, and all that it starts.

    A shell makes what it starts in the background ignore it, as does a command that was interrupted in this process.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Runs the command `alphamix` in processes of their own that need not import anything."""
    with open_fork_server(tmp_path_factory.mktemp("commands"), *RUNNING) as server:
        yield server


@pytest.fixture(scope="session")
def checkpoint_fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Does the same with torch and transformers."""
    with open_fork_server(tmp_path_factory.mktemp("commands"), *CHECKPOINTS) as server:
        yield server


@pytest.fixture(scope="session")
def descendants() -> Callable[[int], set[int]]:
    return _descendants


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
