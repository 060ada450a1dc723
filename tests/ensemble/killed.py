"""Runs that kill themselves: a process that has imported everything forks one for each order that it reads.

An order is a line of JSON: where the run is, and the moment at which it sends itself `kill -9`: at an event of a
phase, by its number, or some milliseconds later. Events come from Python's audit hook and SQLite's trace, which report
an action before it is done, so the moment does not depend on how busy the machine is.
"""

import ctypes
import gc
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

STATEMENTS = {
    "INSERT INTO slots": "planning",
    "INSERT INTO cells": "planning",
    "INSERT INTO samples": "sampling",
    "INSERT INTO texts": "sampling",
    "INSERT OR IGNORE INTO judges": "grading",
    "INSERT INTO verdicts": "grading",
}
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}
REPORT = {"outcomes.csv", "summary.json", "claims.json", "report.html", "figures"}
PR_SET_CHILD_SUBREAPER = 36
ORPHANS_END_S = 60.0


def is_of_report(path: Path) -> bool:
    """Whether a path, or what is written beside it before it is there, is one of the report's."""
    return path.name.removeprefix(".new").strip(".").removesuffix(".new") in REPORT


class Killer:
    """Kills this process at the event of an order."""

    def __init__(self, folder: str, phase: str, number: int, delay_s: float) -> None:
        self._folder = Path(folder)
        self._phase = phase
        self._left = number
        self._delay_s = delay_s
        self._writing = ""
        """The phase of the transaction that is open."""

    def watch(self) -> None:
        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            db = connect(*arguments, **options)
            db.set_trace_callback(self._trace)
            return db

        sqlite3.connect = traced
        sys.addaudithook(self._audit)
        self._saw("any")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike):
            return
        path = Path(arguments[0])
        is_write = event != "open" or "w" in str(arguments[1])
        if ".partial" in str(path):
            self._saw("merging")
        elif is_write and self._folder in path.parents and (is_of_report(path) or is_of_report(path.parent)):
            self._saw("reporting")

    def _trace(self, statement: str) -> None:
        if statement.startswith("COMMIT"):
            self._saw(self._writing)
            return
        for beginning, phase in STATEMENTS.items():
            if statement.startswith(beginning):
                self._writing = phase
                self._saw(phase)

    def _saw(self, phase: str) -> None:
        if phase != self._phase:
            return
        self._left -= 1
        if self._left == 0 and self._delay_s:
            threading.Thread(target=self._kill, daemon=True).start()
        elif self._left == 0:
            self._kill()

    def _kill(self) -> None:
        time.sleep(self._delay_s)
        os.kill(os.getpid(), signal.SIGKILL)


def run(experiment: str, folder: str, cache: str) -> int:
    """Begin a run, or go on with it; return the exit code."""
    from alphamix.ensemble.cli import main  # noqa: PLC0415 (the tests import this file as well)

    os.environ["ALPHAMIX_CACHE"] = cache
    try:
        main(["run", experiment, "--quiet", "-o", folder])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def say(content: object) -> None:
    os.write(1, f"{json.dumps(content)}\n".encode())


def wait_for_orphans() -> list[int]:
    """Return what the runs have left behind and what does not end by itself."""
    deadline = time.monotonic() + ORPHANS_END_S
    while time.monotonic() < deadline:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return []
        if not ended:
            time.sleep(0.05)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(child) for child in children.split()]


def main() -> None:
    """Run undisturbed, which imports and compiles everything; then fork for each order."""
    experiment, folder, cache = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    errors = os.open(Path(folder).with_name("stderr.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    answers = os.dup(1)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    code = run(experiment, folder, cache)
    os.dup2(answers, 1)
    gc.collect()
    gc.freeze()  # else a collection in a fork copies the memory of all that was imported
    say({"code": code, "threads": threading.active_count()})
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            os.dup2(errors, 1)
            killer = Killer(order["folder"], order["phase"], order["number"], order["delay_s"])
            killer.watch()
            os._exit(run(experiment, order["folder"], order["cache"]))
        say({"pid": child})
        _, status = os.waitpid(child, 0)
        say({"code": os.waitstatus_to_exitcode(status)})
    orphans = wait_for_orphans()
    times = os.times()
    say({"orphans": orphans, "cpu_s": sum(times[:4])})


if __name__ == "__main__":
    main()
