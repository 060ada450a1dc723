"""Confined workspaces: files, a shell and a Python session for programs that nobody trusts. It knows no problem.

    with WorkspacePool() as pool, pool.open() as workspace:
        workspace.write("a.py", b"print(2 ** 10)").result()
        print(workspace.run("python3 a.py").result().stdout.text)

Start at `pool.WorkspacePool` and `workspace.Workspace`; `types` has limits, results and errors. The modules in
`confined` run behind the walls, which those of `grading.sandbox.confined` build.
"""

from alphamix.grading.workspace.pool import WorkspacePool
from alphamix.grading.workspace.types import (
    CallLimits,
    CallResult,
    FilePart,
    FileRefusedError,
    ShownText,
    WorkspaceError,
    WorkspaceLimits,
    WorkspaceUnavailableError,
)
from alphamix.grading.workspace.workspace import Workspace

__all__ = [
    "CallLimits",
    "CallResult",
    "FilePart",
    "FileRefusedError",
    "ShownText",
    "Workspace",
    "WorkspaceError",
    "WorkspaceLimits",
    "WorkspacePool",
    "WorkspaceUnavailableError",
]
