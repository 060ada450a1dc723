"""What `make demo-serve` runs: a server on the ladder's checkpoints, asked by the official client, and stopped."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
DEMO = Path(__file__).parents[2] / "examples" / "ladder" / "serve.py"
POLICIES = ["low", "high", *(f"coverage@{alpha}" for alpha in ("-0.50", "+0.25", "+0.50", "+0.75", "+1.25", "+1.50"))]


@pytest.mark.slow
def test_the_ensemble_is_listed_streamed_and_split(tmp_path: Path) -> None:
    environment = {**os.environ, "ALPHAMIX_CACHE": str(tmp_path), "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, str(DEMO)], capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    models, streamed, choices = done.stdout.split("\n\n", 4)[1:4]
    assert re.findall(r"^ (\S+) ", models, re.MULTILINE)[1:] == ["init", *POLICIES, "frontier"]
    assert re.search(r"```python\n.*\n— \S+, α = [+-]\d\.\d\d", streamed, re.DOTALL)
    shown = re.findall(r"^ \d +(\S+) +([+-]\d\.\d\d)  \S", choices, re.MULTILINE)
    assert sorted(name for name, _ in shown) == sorted(POLICIES)
    assert all(name.removeprefix("coverage@") == alpha for name, alpha in shown if "@" in name)
    assert done.stdout.endswith("The server has stopped, and no request was left unfinished.\n")
