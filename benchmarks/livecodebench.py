"""The other side of a comparison (see `side`): LiveCodeBench's own evaluator, from a checkout that you provide.

    git clone https://github.com/LiveCodeBench/LiveCodeBench
    pip install numpy tqdm
    export LIVECODEBENCH=$PWD/LiveCodeBench

Its evaluator starts a manager and a process for every program, and stops at the first failure, as the judge does.
"""

import json
import os
import sys
from importlib import import_module
from typing import Any

from side import serve

_TIMEOUT_S = 6
"""The value that LiveCodeBench uses."""


def main() -> None:
    """Judge the workload on standard input."""
    sys.path.insert(0, os.environ["LIVECODEBENCH"])
    evaluator = import_module("lcb_runner.evaluation.compute_code_generation_metrics")

    def accepts(problem: dict[str, Any], source: str) -> bool:
        try:
            results, _ = evaluator.check_correctness(_sample(problem), source, timeout=_TIMEOUT_S, debug=False)
        except (IndexError, EOFError):  # how it takes a program that leaves
            return False
        return all(result is True for result in results)

    serve(accepts)


_samples: dict[str, dict[str, str]] = {}


def _sample(problem: dict[str, Any]) -> dict[str, str]:
    """Write a problem in LiveCodeBench's format, once."""
    if problem["id"] not in _samples:
        _samples[problem["id"]] = {"input_output": json.dumps(_tests(problem))}
    return _samples[problem["id"]]


def _tests(problem: dict[str, Any]) -> dict[str, Any]:
    tests, entry_point = problem["tests"], problem["entry_point"]
    if entry_point is None:
        inputs, outputs = [test["input"] for test in tests], [test["output"] for test in tests]
        return {"inputs": inputs, "outputs": outputs, "fn_name": None}
    inputs = ["\n".join(map(json.dumps, test["input"])) for test in tests]
    return {
        "inputs": inputs,
        "outputs": [json.dumps(test["output"]) for test in tests],
        "fn_name": entry_point.rpartition(".")[2],
    }


if __name__ == "__main__":
    main()
