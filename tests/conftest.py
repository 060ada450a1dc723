"""Processes and settings that tests of several rooms share."""

import signal
from collections.abc import Iterator

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
