"""A file of policies on vLLM, from `[engine]` to answers: what `run`, `serve` and `policies check` go through."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.registry import Registry
from tests.vllm.conftest import HIGH, LOW, complete, family_of, requests

SMALL = '["--enforce-eager", "--max-num-batched-tokens", "4096"]'
LINE = f"""
[engine]
name = "vllm"
serve = "SERVE"
arguments = {SMALL}

[policies.low]
checkpoint = "{LOW}"

[policies.high]
checkpoint = "{HIGH}"
"""
SWEEP = """
[sweeps.coverage]
merge = { low = "low", high = "high" }
alphas = [0.5, 1.5]
"""
PAIR = """
[policies.sharper]
logits = { low = "low", high = "high", alpha = 1.5 }

[policies.plain]
logits = { low = "low", high = "high", alpha = 0.0 }
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))


def test_check_finds_no_fault_in_the_ladder_on_one_switched_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(LINE.replace("SERVE", "switch") + SWEEP)
    processes = family_of(os.getpid())
    prompt = "Given n, print the number of integers from 1 to n divisible by 3."
    with pytest.raises(SystemExit, match="0"):
        main(["policies", "check", str(file), "--prompt", prompt, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert list(report["policies"]) == ["low", "high", "coverage@+0.50", "coverage@+1.50"]
    fingerprints = {checks["fingerprint"]["value"] for checks in report["policies"].values()}
    assert len(fingerprints) == 4
    states = Counter(check["state"] for checks in report["policies"].values() for check in checks.values())
    assert set(states) == {"ok"}, report
    assert family_of(os.getpid()) <= processes, "a server outlived the command"
    assert not (tmp_path / "cache" / "merges").exists(), "a switched server needs no merge on disk"


def test_pairs_share_a_server_and_answer_at_their_own_alpha(tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(LINE.replace("SERVE", "servers") + PAIR)
    with Registry.load(file).select(["plain", "sharper"]) as registry:
        plain, sharper = (registry.open(name, EngineOptions()) for name in ("plain", "sharper"))
        assert plain.server is sharper.server  # pyright: ignore[reportAttributeAccessIssue]
        asked = requests(4, temperature=0.0)
        at_low, beyond = ([one.text for one in complete(engine, asked)] for engine in (plain, sharper))
    assert at_low != beyond
    with Registry.load(file).select(["low"]) as registry:
        assert [one.text for one in complete(registry.open("low", EngineOptions()), asked)] == at_low
