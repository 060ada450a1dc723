"""The other side of a comparison (see `side`): a new, unconfined interpreter for every test up to the first failure."""

import json
import subprocess
import sys
from typing import Any

from side import serve


def main() -> None:
    """Judge the workload on standard input."""
    serve(_accepts)


def _accepts(problem: dict[str, Any], source: str) -> bool:
    return all(_passes(problem["entry_point"], source, test) for test in problem["tests"])


def _passes(entry_point: str | None, source: str, test: dict[str, Any]) -> bool:
    given = test["input"] if entry_point is None else json.dumps(test["input"])
    command = [sys.executable, "-I", "-S", "-c", source + _call(entry_point)]
    run = subprocess.run(command, input=given.encode(), capture_output=True, check=False)
    if run.returncode != 0:
        return False
    if entry_point is None:
        return run.stdout.split() == test["output"].encode().split()
    return json.loads(run.stdout) == test["output"]


def _call(entry_point: str | None) -> str:
    if entry_point is None:
        return ""
    function = entry_point.replace(".", "().")
    return f"\nimport json\nprint(json.dumps({function}(*json.loads(input()))))\n"


if __name__ == "__main__":
    main()
