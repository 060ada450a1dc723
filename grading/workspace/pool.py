"""Workspaces for many attempts at once, all opened by one broker."""

import threading

from alphamix.grading.sandbox.packages import Packages
from alphamix.grading.workspace import probes
from alphamix.grading.workspace.broker import Broker
from alphamix.grading.workspace.connection import Connection
from alphamix.grading.workspace.types import WorkspaceError, WorkspaceLimits
from alphamix.grading.workspace.workspace import Workspace

_DEFAULT = WorkspaceLimits()


class WorkspacePool:
    """Opens workspaces, from any thread. The broker starts with the first call in one, and anew if it was killed.

    Args:
        packages: Installed packages that Python sessions may import; None for the standard library alone.
    """

    def __init__(self, packages: Packages | None = None) -> None:
        self._packages = packages
        self._lock = threading.Lock()
        self._broker: Broker | None = None
        self._is_closed = False

    def check(self) -> None:
        """Start now, and prove that a workspace holds. Raises WorkspaceUnavailableError."""
        self._started_broker()

    def open(self, limits: WorkspaceLimits = _DEFAULT, *, keeps_variables: bool = True) -> Workspace:
        """Return a workspace for one attempt, which takes no resources before its first call. Close it."""
        return Workspace(lambda: self._connect(limits), keeps_variables=keeps_variables)

    def close(self) -> None:
        """End all workspaces, and wait for it. Safe to call twice."""
        with self._lock:
            self._is_closed = True
            if self._broker is not None:
                self._broker.close()

    def __enter__(self) -> "WorkspacePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, limits: WorkspaceLimits) -> Connection:
        return self._started_broker().open(limits)

    def _started_broker(self) -> Broker:
        with self._lock:
            if self._is_closed:
                raise WorkspaceError("the pool of workspaces was closed")
            if self._broker is None or not self._broker.is_alive:
                broker = Broker(self._packages)
                try:
                    probes.prove(broker)
                except BaseException:
                    broker.close()
                    raise
                self._broker = broker
            return self._broker
