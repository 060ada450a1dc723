"""The judge against the naive way: a new interpreter, unconfined, for every test.

Both run the same trivial accepted program, each time in a slightly different source so that nothing is reused. Our
side includes confinement, and its share of starting the sandbox.
"""

import subprocess
import sys
from itertools import count

from measure import Row, compare

from grading.judge import Judge
from grading.types import Problem, Program, Test, Verdict

_SERIAL = count()
_PROGRAMS = 60


def rows() -> list[Row]:
    """Compare for 1, 8 and 21 tests."""
    return [_compare(num_tests) for num_tests in (1, 8, 21)]


def _compare(num_tests: int) -> Row:
    tests = tuple(Test(input=f"{n}\n", output=f"{2 * n}\n") for n in range(num_tests))
    problem = Problem(id=f"double-{num_tests}", statement="", tests=tests)

    def ours() -> None:
        with Judge(workers=1) as judge:
            futures = [judge.submit(problem, Program(_program())) for _ in range(_PROGRAMS)]
            if any(future.result().verdict is not Verdict.AC for future in futures):
                raise SystemExit("the judge rejected a right program: the benchmark means nothing")

    def naive() -> None:
        for _ in range(_PROGRAMS):
            command = [sys.executable, "-I", "-S", "-c", _program()]
            for test in tests:
                subprocess.run(command, input=test.input.encode(), capture_output=True, check=True)

    what = f"judge: trivial accepted program, tests: {num_tests}, against `python -I -S` per test"
    return compare(what, "program", _PROGRAMS, ours, naive)


def _program() -> str:
    return f"print(2 * int(input()))  # {next(_SERIAL)}\n"
