"""The recipe of docs/cluster.md, tried here: three servers of one policy, one of which dies, and a Dask cluster."""

import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, FakeServer, RawReply, completion

LIVES = 3
"""Requests that the mortal server answers."""


class Node:
    """A server on which even seeds solve the problem; it may die after a number of answers."""

    def __init__(self, answers: float) -> None:
        self.answered, self.refused = 0, 0
        self._answers = answers

    async def respond(self, request: FakeRequest) -> AnyReply:
        is_alive = self.answered < self._answers
        self.answered, self.refused = self.answered + is_alive, self.refused + (not is_alive)
        if not is_alive:
            return RawReply(end="reset")
        factor = request.prompt.removeprefix("Multiply by ").split(".")[0]
        return completion(request, [program(factor, request.seed + i) for i in range(request.num_choices)])


def program(factor: str, seed: int) -> str:
    return f"```python\nprint({factor} * int(input()){'' if seed % 2 == 0 else ' + 1'})  # {seed}\n```"


@pytest.fixture
def nodes() -> list[Node]:
    return [Node(float("inf")), Node(float("inf")), Node(LIVES)]


@pytest.fixture
def trial(nodes: list[Node], trial: Path) -> Iterator[Path]:
    """The trial of this folder's tests, with one policy on three servers and 64 samples of each problem."""
    with ExitStack() as stack:
        urls = [stack.enter_context(FakeServer(node.respond)).url for node in nodes]
        (trial.parent / "policies.toml").write_text(f'[policies.even]\nurl = {json.dumps(urls)}\nmodel = "even"\n')
        trial.write_text(trial.read_text().replace("samples = 4", "samples = 64"))
        yield trial


def run(trial: Path, folder: Path) -> None:
    main(["run", str(trial), "-o", str(folder), "--quiet", "--set", "sampling.choices=2"])


def test_servers_share_a_policy_and_a_dead_one_loses_nothing(trial: Path, nodes: list[Node], tmp_path: Path) -> None:
    run(trial, tmp_path / "run")
    with Store(tmp_path / "run" / STORE_NAME, read_only=True) as store:
        samples = list(store.samples())
        progress = store.progress()
    assert len(samples) == 3 * 64
    assert all(f"# {sample.slot.seed}\n" in sample.completion.text for sample in samples)
    assert progress["graded"].sum() == 3 * 64
    assert all(node.answered >= LIVES for node in nodes)
    assert nodes[2].refused > 0
    assert nodes[2].answered == LIVES


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs alphamix[dask]")
@pytest.mark.slow
def test_a_dask_cluster_grades_the_same_run_to_the_same_verdicts(trial: Path, tmp_path: Path) -> None:
    import distributed  # noqa: PLC0415 (optional)

    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run(trial, folder)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        main(["regrade", str(folder), "--verdict-set", "cluster", "--backend", "dask", "--address", address, "--quiet"])
        main(["run", str(trial), "-o", str(elsewhere), "--quiet", *on_the_cluster(address)])
    with Store(folder / STORE_NAME, read_only=True) as store:
        here, there = (store.verdicts(name)[["slot", "verdict"]] for name in ("run", "cluster"))
        (current,) = [one.name for one in store.verdict_sets() if one.is_current]
    assert here.equals(there)
    assert Counter(here["verdict"]) == {"AC": 96, "WA": 96}
    assert current == "cluster"
    with Store(elsewhere / STORE_NAME, read_only=True) as store:
        assert store.verdicts()[["slot", "verdict"]].equals(here)


def on_the_cluster(address: str) -> list[str]:
    keys = {"grading.backend": "dask", "grading.address": address}
    return [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
