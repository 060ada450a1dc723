"""A run whose engine is faster than its judge: cheap samples from a fast server, all of them different programs.

`python fast_engine.py [SAMPLES]` prints how long sampling and grading took, and what share of the machine was used
meanwhile. Grading should use what sampling leaves idle: the server and sampling take one core at first, later none.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alphamix.ensemble.store import STORE_NAME, Store

_PROBLEMS = 100
_TEXT = "```python\nprint(1)  # {seed}\n```"
_EXPERIMENT = """
name = "fast"
problems.file = "problems.jsonl"
policies.file = "policies.toml"
sampling.prompt = "{{statement}}"
budget.samples = {samples}
analysis = {{ resamples = 100 }}
allocation.arms = ["singles"]
"""


def main(samples: int) -> None:
    """Run an experiment of one policy in a process of its own, and print what it took."""
    with tempfile.TemporaryDirectory() as made, _server() as server:
        folder, url = Path(made), server.stdout.readline().strip()  # pyright: ignore[reportOptionalMemberAccess]
        _write(folder, url, samples // _PROBLEMS)
        began, before_s = time.time(), _children_s()
        command = [sys.executable, "-m", "alphamix", "run", "fast.toml", "-q", "-o", "run"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        took_s, cpu_s = time.time() - began, _children_s() - before_s
        with Store(folder / "run" / STORE_NAME, read_only=True) as store:
            sampled_s = float(store.times()["created"].max()) - began
            graded = int(store.progress()["graded"].sum())
        server.terminate()
    share = cpu_s / took_s / (os.cpu_count() or 1)
    print(
        f"{graded:,} samples: all arrived after {sampled_s:.0f} s, all were graded and reported after {took_s:.0f} s; "
        f"{1000 * cpu_s / graded:.2f} CPU ms a sample, {share:.0%} of the machine beside the server"
    )


def _server() -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "alphamix.policies.engines.openai.fake_server", "--text", _TEXT]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _write(folder: Path, url: str, samples: int) -> None:
    problems = [
        {"id": f"p{number}", "statement": f"Print 1 ({number}).", "tests": [{"input": "", "output": "1\n"}]}
        for number in range(_PROBLEMS)
    ]
    (folder / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    (folder / "policies.toml").write_text(f'[policies.fast]\nurl = "{url}"\nmodel = "fast"\n')
    (folder / "fast.toml").write_text(_EXPERIMENT.format(samples=samples))


def _children_s() -> float:
    """Return the CPU seconds of the processes that have ended, with their descendants."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 250_000)
