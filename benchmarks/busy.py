"""Check repeatedly whether two families of processes are busy: `python -I busy.py SERVER CLIENT`.

A family is a process and its descendants; the client's family excludes the server's. A family is busy if any of its
threads runs or waits for a core. The script reads /proc and avoids slow imports, because it shares a core with what it
watches.
"""

import os
import sys
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_S = 0.02


def processes() -> dict[int, tuple[int, str, float]]:
    """Return parent, state and CPU seconds (including children that were waited for) of every process."""
    found: dict[int, tuple[int, str, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        found[int(folder.name)] = int(fields[1]), fields[0], sum(map(int, fields[11:15])) / _TICKS
    return found


def tree(root: int, known: dict[int, tuple[int, str, float]], without: set[int]) -> set[int]:
    """Return a process and its descendants, without some processes and their descendants."""
    found = {root}
    while below := {one for one, (parent, *_) in known.items() if parent in found} - found - without:
        found |= below
    return found


def watch(server: int, client: int) -> None:
    """Check until standard input ends; then print the number of checks, and in how many each family was busy."""
    print("looking", flush=True)
    looks, busy = 0, {server: 0, client: 0}
    os.set_blocking(0, False)
    while sys.stdin.buffer.read(1) is None:
        known = processes()
        servers = tree(server, known, set())
        looks += 1
        busy[server] += _any_runs(servers)
        busy[client] += _any_runs(tree(client, known, servers | {os.getpid()}))
        time.sleep(_LOOK_S)
    print(looks, busy[server], busy[client])


def _any_runs(family: set[int]) -> bool:
    for process in family:
        try:
            tasks = list(Path(f"/proc/{process}/task").iterdir())
            if any((task / "stat").read_text().rpartition(")")[2].split()[0] == "R" for task in tasks):
                return True
        except OSError:
            continue
    return False


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
