"""Whole runs, killed at a hundred moments: merging, sampling, grading and writing the report, resumed each time.

Real checkpoints and their merges beside policies behind a URL, the real judge, `kill -9`. See `killed` for how a run
is killed at a given event. What was stored is never lost or changed; at the end every planned slot is there once, and
all is as in a run that was left alone.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.store import STORE_NAME, Store

from . import killed
from .conftest import PROBLEMS, Server

pytest.importorskip("torch")
CHECKPOINTS = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"
KILLS = 100
FEWEST = 8
"""Kills in each phase, at the least."""
LIFE = {"planning": 1, "merging": 4, "sampling": 6, "grading": 5, "asking": 1, "any": 2, "reporting": 4}
"""Kills of one run, by phase; `asking` is when a request has come to the server, `any` whatever goes on."""
MOST_EVENTS = {"planning": 50, "merging": 6, "sampling": 12, "grading": 4, "asking": 4, "any": 1, "reporting": 14}
LONGEST_DELAY_S = {"any": 0.5}
"""After the event; 10 ms in the other phases."""


class Order(NamedTuple):
    """When a run is to be killed: see `killed`."""

    phase: str
    number: int
    delay_s: float


class Runs:
    """Runs that are to be killed, in processes forked from one."""

    def __init__(self, process: "subprocess.Popen[str]", server: Server) -> None:
        self._process = process
        self._server = server
        self.kills: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        """Kills without a delay, so in that very phase."""

    def say(self, order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline() or "{}")

    def go_on(self, folder: Path, order: Order | None) -> bool:
        """Begin a run or go on with it; return whether it was killed as ordered, and not whole before."""
        self.say(
            {
                "folder": str(folder),
                "cache": f"{folder}-cache",
                "phase": "" if order is None or order.phase == "asking" else order.phase,
                "number": 0 if order is None else order.number,
                "delay_s": 0.0 if order is None else order.delay_s,
            }
        )
        pid = self.hear()["pid"]
        if order is not None and order.phase == "asking":
            self._kill_at_request(pid, len(self._server.seeds) + order.number)
        code = self.hear()["code"]
        self._server.fault = lambda number: None
        assert code in (0, -signal.SIGKILL), (folder.parent / "stderr.txt").read_text()
        if code == 0:
            return False
        assert order is not None
        self.kills[order.phase] += 1
        self.at_once[order.phase] += order.delay_s == 0
        return True

    def _kill_at_request(self, pid: int, wanted: int) -> None:
        def fault(number: int) -> None:
            if number == wanted:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        self._server.fault = fault


@contextmanager
def forking(trial: Path, folder: Path, server: Server) -> Iterator[Runs]:
    """Runs forked from a process that has made the whole run in a folder, undisturbed."""
    command = [sys.executable, killed.__file__, str(trial), str(folder), f"{folder}-cache"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.getenv("PYTHONPATH")]))
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        runs = Runs(process, server)
        ready = runs.hear()
        assert ready == {"code": 0, "threads": 1}, (folder.parent / "stderr.txt").read_text()
        yield runs
        assert process.stdin is not None
        process.stdin.close()
        left = runs.hear()
        assert left["orphans"] == []
        print(f"{runs.kills.total()} kills, {left['cpu_s']:.0f} s of CPU: {dict(runs.kills)}")


@pytest.fixture
def whole_trial(server: Server, tmp_path: Path) -> Path:
    """An experiment of two policies behind a URL and two merges, one of which rests on the other: 48 slots."""
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    (tmp_path / "policies.toml").write_text(
        f'[policies.even]\nurl = "{server.url}"\nmodel = "even"\n[policies.odd]\nurl = "{server.url}"\nmodel = "odd"\n'
        f'[policies.low]\ncheckpoint = "{CHECKPOINTS}/low"\n[policies.high]\ncheckpoint = "{CHECKPOINTS}/high"\n'
        '[policies.between]\nmerge = { low = "low", high = "high", alpha = 0.5 }\n'
        '[policies.beyond]\nmerge = { low = "between", high = "high", alpha = 1.5 }\n'
    )
    path = tmp_path / "trial.toml"
    path.write_text(
        'name = "trial"\n[problems]\nfile = "problems.jsonl"\n'
        '[policies]\nfile = "policies.toml"\nuse = ["even", "odd", "between", "beyond"]\n'
        '[sampling]\nprompt = "{statement}"\nmax_tokens = 6\nbatch_size = 4\nchoices = 1\nconcurrency = 2\n'
        "[budget]\nsamples = 4\n[grading]\nworkers = 1\n"
        "[analysis]\npass_at = [1, 4]\nresamples = 100\nrepeats = 1\n"
    )
    return path


Record = dict[tuple[str, str, int], tuple[str, int, str | None]]
"""Of each slot that has a sample: its text, its seed and its verdict."""


def record(folder: Path) -> Record:
    """What a run holds, which must be sound: every slot once at most, every sample whole."""
    if not (folder / STORE_NAME).exists():
        return {}
    with closing(sqlite3.connect(folder / STORE_NAME)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        if db.execute("PRAGMA user_version").fetchone() == (0,):
            return {}
    with Store(folder / STORE_NAME, read_only=True) as store:
        samples = list(store.samples())
        verdicts = {one.slot.number: str(one.judgement.verdict) for one, _ in store.graded()}
    found: Record = {
        (one.slot.policy, one.slot.problem, one.slot.index): (
            one.completion.text,
            one.slot.seed,
            verdicts.get(one.slot.number),
        )
        for one in samples
    }
    assert len(found) == len(samples)
    assert len(verdicts) == sum(verdict is not None for *_, verdict in found.values())
    return found


def check_files(folder: Path) -> None:
    """Every file that has its name is whole."""
    for path in (path for path in folder.rglob("[!.]*") if path.is_file()):
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".html":
                assert path.read_text().rstrip().endswith("</html>")
            case ".png":
                assert path.read_bytes()[-8:-4] == b"IEND"
            case ".csv":
                assert read_outcomes(path).num_samples_MP.sum() == 48
            case _:
                pass


def grows(before: Record, after: Record) -> bool:
    """Whether what was there before is there still, and as it was."""
    return all(
        slot in after and after[slot][:2] == (text, seed) and verdict in (None, after[slot][2])
        for slot, (text, seed, verdict) in before.items()
    )


def numbers(folder: Path) -> dict[str, Any]:
    """All results that do not hang on time, as some claims do."""
    summary = json.loads((folder / "summary.json").read_text())
    summary["claims"] = len(summary["claims"])
    policies = {
        name: {key: value for key, value in one.items() if key != "seconds"}
        for name, one in summary.pop("policies").items()
    }
    outcomes = read_outcomes(folder / "outcomes.csv")
    counts = outcomes.num_samples_MP.tolist(), outcomes.num_correct_MP.tolist()
    return {"summary": summary, "policies": policies, "outcomes": counts}


def orders(rng: random.Random) -> list[Order]:
    """The kills of one run, in the order in which its phases can be reached."""
    made: list[Order] = []
    for phase, kills in LIFE.items():
        for _ in range(kills):
            delay = rng.random() * LONGEST_DELAY_S.get(phase, 0.01) if phase == "any" or rng.random() < 0.3 else 0.0
            made.append(Order(phase, rng.randint(1, MOST_EVENTS[phase]), delay))
    middle = [order for order in made if order.phase not in ("planning", "merging", "reporting")]
    rng.shuffle(middle)
    first = [order for order in made if order.phase in ("planning", "merging")]
    return [*first, *middle, *(order for order in made if order.phase == "reporting")]


@pytest.mark.slow
def test_a_run_killed_at_a_hundred_moments_ends_as_one_that_was_left_alone(
    whole_trial: Path, server: Server, tmp_path: Path
) -> None:
    rng = random.Random(0)
    undisturbed = tmp_path / "undisturbed"
    with forking(whole_trial, undisturbed, server) as runs:
        expected = record(undisturbed)
        assert len(expected) == 48
        assert {verdict for *_, verdict in expected.values()} >= {"AC", "WA"}
        life = 0
        while runs.kills.total() < KILLS:
            folder = tmp_path / f"life-{life}"
            before: Record = {}
            for order in orders(rng):
                if runs.kills.total() == KILLS:
                    break
                runs.go_on(folder, order)
                after = record(folder)
                assert grows(before, after), order
                assert grows(after, expected), order
                check_files(folder)
                before = after
            assert not runs.go_on(folder, None)
            assert record(folder) == expected
            assert numbers(folder) == numbers(undisturbed)
            assert [path for path in tmp_path.rglob(".*") if path.parent != tmp_path] == []  # nothing half made
            life += 1
    for phase in ("merging", "sampling", "grading", "reporting"):
        assert runs.at_once[phase] >= FEWEST, runs.at_once
