"""The demo's way on the real checkpoints, made small: merges, the embedded engine, the judge, the report."""

import json
import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from alphamix.ensemble.store import STORE_NAME, Store, StoreError

pytest.importorskip("torch")
LADDER = Path(__file__).parents[2] / "examples" / "ladder"
SMALL = [
    "--set=problems.limit=4",
    "--set=sampling.samples=8",
    "--set=sampling.batch_size=8",
    "--set=budget.samples=8",
    "--set=analysis.pass_at=[1, 4]",
    "--set=analysis.resamples=200",
]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALPHAMIX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(checkpoint_fork_server):
    return checkpoint_fork_server.run


def samples(folder: Path) -> list[tuple[object, str]]:
    with Store(folder / STORE_NAME, read_only=True) as store:
        return [(sample.slot, sample.completion.text) for sample in store.samples()]


def num_sampled(folder: Path) -> int:
    if not (folder / STORE_NAME).exists():
        return 0
    with suppress(StoreError), Store(folder / STORE_NAME, read_only=True) as store:
        return int(store.progress()["sampled"].sum())
    return 0  # the tables are not there yet


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = run("run", LADDER / "quickstart.toml", "-o", folder, *SMALL)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_whole_family_is_sampled_and_judged(finished):
    summary = json.loads((finished / "summary.json").read_text())
    alphas = [policy["alpha"] for policy in summary["policies"].values()]
    assert alphas == [None, 0.0, 1.0, -0.5, 0.25, 0.5, 0.75, 1.25, 1.5]
    for policy in summary["policies"].values():
        assert policy["n"] == 32
        failed = sum(estimate["value"] for estimate in policy["frontier"].values())
        assert failed + policy["pass_at_k"]["1"]["value"] == pytest.approx(1)
    assert {path.name for path in (finished / "figures").iterdir()} == {
        "arms.png",
        "complementarity.png",
        "coverage.png",
        "frontier.png",
    }


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_samples(checkpoint_fork_server, finished, tmp_path):
    folder = tmp_path / "killed"
    arguments = ("run", LADDER / "quickstart.toml", "-o", folder, "-q", *SMALL)
    for stored in (1, 90):
        process = checkpoint_fork_server.start(*arguments)
        while process.poll() is None and num_sampled(folder) < stored:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = checkpoint_fork_server.run("run", LADDER / "quickstart.toml", "-o", folder, *SMALL)
    assert done.returncode == 0, done.stderr
    assert samples(folder) == samples(finished)


@pytest.mark.slow
def test_the_run_repeats_from_its_own_folder(run, finished, tmp_path):
    again = run("run", finished / "experiment.toml", "-o", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert samples(tmp_path / "again") == samples(finished)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("alphas = [-0.5,", 'alphas = ["much",', r"alphas.0 .* 'much': it should be a number"),
        ("alphas = [-0.5,", "alphas = [nan,", r"alphas.0 .* nan: it should be a finite number"),
        ('high = "high" }', 'high = "hihg" }', r"unknown policy 'hihg' .*did you mean 'high'"),
        ('"checkpoints/high"', '"odd"', r"tensor 'model.layers.0.mlp.down_proj.weight' is F32 .* in low and F32"),
    ],
)
def test_policies_that_do_not_hold_are_named_before_anything_is_written(run, old, new, message, tmp_path):
    transformers = pytest.importorskip("transformers")
    shutil.copytree(LADDER / "checkpoints", tmp_path / "checkpoints")
    shutil.copy(LADDER / "problems.jsonl", tmp_path)
    shutil.copy(LADDER / "quickstart.toml", tmp_path)
    if '"odd"' in new:
        config = transformers.AutoConfig.from_pretrained(LADDER / "checkpoints" / "init", intermediate_size=64)
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "odd")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(LADDER / "checkpoints" / "init" / name, tmp_path / "odd")
    text = (LADDER / "policies.toml").read_text()
    assert old in text
    (tmp_path / "policies.toml").write_text(text.replace(old, new))
    done = run("run", tmp_path / "quickstart.toml", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "out").exists()
