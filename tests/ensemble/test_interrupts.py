"""Ctrl-C at random moments of whole runs: each ends with 130, soon and without an abort, and goes on exactly."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble.store import STORE_NAME, Store, is_at_work

from .conftest import Server

LADDER = Path(__file__).parents[2] / "examples" / "ladder"
SOON_S = 30.0
"""Time within which a process ends on a busy machine; on an idle one it takes a second."""
TRIAL = ("--set", "budget.samples=16", "--set", "sampling.concurrency=4", "--set", "analysis.resamples=100")

Record = dict[int, tuple[str, int, str | None]]
"""Text, seed and verdict by slot."""


def record(folder: Path) -> Record:
    with Store(folder / STORE_NAME, read_only=True) as store:
        table = store.verdicts()
        verdicts = dict(zip(table["slot"], table["verdict"], strict=True))
        return {
            sample.slot.number: (sample.completion.text, sample.slot.seed, verdicts.get(sample.slot.number))
            for sample in store.samples()
        }


def grows(before: Record, after: Record) -> bool:
    """Whether nothing that was stored is lost or changed."""
    return all(
        after[slot][:2] == (text, seed) and verdict in (None, after[slot][2])
        for slot, (text, seed, verdict) in before.items()
    )


def interrupt(fork_server: Any, folder: Path, delay_s: float, *arguments: object) -> int:
    """Begin a run or go on with it, interrupt it some time after it has opened its record, and return the exit code."""
    process = fork_server.start("run", *arguments, "-q", "-o", folder)
    while process.poll() is None and not is_at_work(folder / STORE_NAME):
        time.sleep(0.001)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    return process.wait(SOON_S)


def check_interrupts(fork_server: Any, folder: Path, number: int, *arguments: object) -> None:
    """Interrupt runs until a number of processes have ended by it; compare with one that was left alone."""
    began = time.monotonic()
    undisturbed = fork_server.run("run", *arguments, "-q", "-o", folder / "undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    longest_s, expected = time.monotonic() - began, record(folder / "undisturbed")
    rng, interrupted, life = random.Random(number), 0, 0
    before: Record = {}
    while interrupted < number:
        assert life <= 10 * number, f"{life} runs ended before they were interrupted, {interrupted} were"
        where = folder / f"life-{life}"
        code = interrupt(fork_server, where, rng.random() * longest_s / 2, *arguments)
        after = record(where)
        if code == -signal.SIGINT:  # Python itself was about to end, and left the signal to the system
            assert after == expected
            code = 0
        assert code in (0, 130), fork_server.last_error()
        assert grows(before, after)
        assert grows(after, expected)
        before = after if code else {}
        interrupted += code == 130
        life += not code
    last = folder / f"life-{life}"
    assert fork_server.run("run", *arguments, "-q", "-o", last).returncode == 0
    assert record(last) == expected
    assert {path.name for path in last.iterdir()} == {path.name for path in (folder / "undisturbed").iterdir()}


@pytest.mark.parametrize("number", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_ctrl_c_ends_a_run_at_any_moment(
    number: int, fork_server: Any, trial: Path, server: Server, tmp_path: Path
) -> None:
    good = server.answer

    def slow(model: str, prompt: str, seed: int) -> str | int:
        time.sleep(0.02)
        return good(model, prompt, seed)

    server.answer = slow
    check_interrupts(fork_server, tmp_path / "runs", number, trial, *TRIAL)


@pytest.mark.slow
def test_ctrl_c_ends_a_run_inside_the_embedded_engine(checkpoint_fork_server: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    sets = ['policies.use=["low", "high"]', "problems.limit=6", "sampling.batch_size=24", "analysis.resamples=100"]
    check_interrupts(
        checkpoint_fork_server,
        tmp_path / "runs",
        12,
        LADDER / "quickstart.toml",
        *(argument for one in sets for argument in ("--set", one)),
    )
