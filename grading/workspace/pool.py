"""Workspaces for many attempts at once, all opened by one broker."""

import threading
from collections import OrderedDict

from alphamix.grading.sandbox.packages import Packages
from alphamix.grading.workspace import probes
from alphamix.grading.workspace.broker import Broker
from alphamix.grading.workspace.types import WorkspaceError, WorkspaceLimits
from alphamix.grading.workspace.workspace import Workspace

_DEFAULT = WorkspaceLimits()


class WorkspacePool:
    """Opens workspaces, from any thread. The broker starts with the first call in one, and anew if it was killed.

    Args:
        packages: Installed packages that Python sessions may import; None for the standard library alone.
        max_awake: Number of workspaces that keep their first process between two calls, which saves the next call
            about 5 ms of CPU and takes 2 MB; of others, only the files take memory. Kept variables need theirs as well.
    """

    def __init__(self, packages: Packages | None = None, max_awake: int = 64) -> None:
        self._packages = packages
        self._max_awake = max_awake
        self._awake: OrderedDict[Workspace, None] = OrderedDict()
        self._awake_lock = threading.Lock()
        self._lock = threading.Lock()
        self._broker: Broker | None = None
        self._is_closed = False

    def check(self) -> None:
        """Start now, and prove that a workspace holds. Raises WorkspaceUnavailableError."""
        self._started_broker()

    def open(self, limits: WorkspaceLimits = _DEFAULT, *, keeps_variables: bool = True) -> Workspace:
        """Return a workspace for one attempt, which takes no resources before its first call. Close it."""
        return Workspace(
            lambda cwd, mounts: self._started_broker().open(limits, cwd, mounts),
            self._on_idle,
            keeps_variables=keeps_variables,
        )

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

    def _on_idle(self, workspace: Workspace) -> None:
        """Remember that a workspace may rest, and let the one rest that has been idle longest if there are too many."""
        with self._awake_lock:
            self._awake[workspace] = None
            self._awake.move_to_end(workspace)
            longest = self._awake.popitem(last=False)[0] if len(self._awake) > self._max_awake else None
        if longest is not None:
            longest.rest()

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
