"""Agents that users write: a class that an experiment names by its module or its file, as `my_agents:Patient`.

An error in it is told as one of that class, with the place. The attempt then fails, and its slot is owed.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.settings.loop import LimitReachedError, LoopError, Steps
from alphamix.ensemble.settings.task import Agent, Task


class AgentImportError(EnsembleError):
    """The class of an agent cannot be used: the message says why, then what to do."""


class OwnAgent:
    """Makes an agent of a user's class for each attempt.

    Args:
        reference: `module:Class`, or `path/of/file.py:Class`.
        arguments: Arguments of the class.

    Raises:
        AgentImportError: It cannot be imported or made, or its method `run` is no generator.
    """

    def __init__(self, reference: str, arguments: Mapping[str, Any]) -> None:
        where, _, name = reference.rpartition(":")
        self._arguments = arguments
        self._name = short_reference(reference)
        try:
            module = _module_of_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
            self._class = getattr(module, name)
            run = self._class(**arguments).run
        except (Exception, SystemExit) as error:
            raise AgentImportError(
                f"the agent {reference} cannot be made ({type(error).__name__}: {error}): give a class that can be "
                "imported, as module:Class or file.py:Class, as sampling.agent.loop, and what it takes as "
                "sampling.agent.arguments"
            ) from error
        if not inspect.isgeneratorfunction(inspect.unwrap(run)):
            raise AgentImportError(
                f"the method run of the agent {reference} is no generator: let it yield Ask(…), and the methods of its "
                "task by `yield from`"
            )

    def __call__(self) -> Agent:
        """Return the agent of a new attempt."""
        return _Guarded(self._name, self._class, self._arguments)


class _Guarded:
    """An agent of the user's, whose errors become a `LoopError`."""

    def __init__(self, name: str, agent_class: type, arguments: Mapping[str, Any]) -> None:
        self._name = name
        self._class = agent_class
        self._arguments = arguments

    def run(self, task: Task) -> Steps[str | None]:
        try:
            path = yield from self._class(**self._arguments).run(task)
        except LimitReachedError:
            raise
        except (Exception, SystemExit) as error:
            raise LoopError(f"{self._name} raised {error!r} ({_place(error, self._class)})") from error
        if not isinstance(path, str | None):
            raise LoopError(f"{self._name} returned {path!r}, and should return the path of a file as a str, or None")
        return path


def source_hash(reference: str) -> str:
    """Return the SHA-256 of the file that has the class. Raises AgentImportError if there is none."""
    where = reference.rpartition(":")[0]
    try:
        spec = None if where.endswith(".py") else importlib.util.find_spec(where)
        path = Path(where) if where.endswith(".py") else Path((spec and spec.origin) or "")
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ImportError, ValueError) as error:
        raise AgentImportError(f"the source of the agent {reference} cannot be read ({error}): restore it") from error


def short_reference(reference: str) -> str:
    """Return a reference without the folder of its file."""
    where, _, name = reference.rpartition(":")
    return f"{Path(where).name}:{name}"


def _module_of_file(path: Path) -> ModuleType:
    name = f"{path.stem} of {path.parent}"  # which no other module has
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _place(error: BaseException, agent_class: type) -> str:
    """Return where an error was raised: the last line of the class's own file, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    file = inspect.getsourcefile(agent_class)
    frame = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
    return f"{Path(frame.filename).name}, line {frame.lineno}"
