"""Programs for the benchmarks of the judge: trivial ones, and a mix like that of a language model's samples.

The mix is 20 problems with 36 samples each: most are right, some are wrong on a small input or only on a large one,
some crash, and some do not compile. Everything is drawn from one seed; no two programs are equal.
"""

import inspect
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks import METHODS, SCRIPTS

from alphamix.grading.types import Problem, Program, Test, Verdict

_SEED = 0
_MIN_SIZE, _MAX_SIZE = 2, 3000
_KINDS = {"right": 17, "wrong early": 5, "wrong late": 5, "crash": 4, "syntax": 2, "exit": 2, "thread": 1}
"""Samples of each kind for each problem."""
_MODULES = ("bisect", "collections", "heapq", "itertools", "sys", "threading")
_ANSWER = """
def answer_of(values):
    answer = {task}(values)
{fault}    return answer
"""
_SCRIPT = """
def main():
    {read}
    print({stars}answer_of(values))

{leave}
"""
_METHOD = """
class Solution:
    def {task}(self, values):
        {leave}
"""
_READ = ("n, values = int(input()), list(map(int, input().split()))", "n, *values = map(int, sys.stdin.read().split())")
_SCRIPT_LEAVES = {
    "exit": "main()\nsys.exit()",
    "thread": "thread = threading.Thread(target=main)\nthread.start()\nthread.join()",
}
_METHOD_LEAVES = {
    "exit": "sys.exit(1)",
    "thread": """answers = []
        thread = threading.Thread(target=lambda: answers.append(answer_of(values)))
        thread.start()
        thread.join()
        return answers[0]""",
}
_VERDICTS = {"wrong early": Verdict.WA, "wrong late": Verdict.WA, "crash": Verdict.RE, "syntax": Verdict.CE}
_Task = Callable[[list[int]], int | list[int]]


@dataclass(frozen=True, slots=True)
class Sample:
    """A program, and the verdict that it is meant to get."""

    problem: Problem
    program: Program
    verdict: Verdict


def trivial(num_tests: int, num_samples: int) -> list[Sample]:
    """Make accepted programs that do almost nothing."""
    tests = tuple(Test(input=f"{n}\n", output=f"{2 * n}\n") for n in range(num_tests))
    problem = Problem(id=f"double-{num_tests}", statement="", tests=tests)
    sources = (f"print(2 * int(input()))  # {serial}\n" for serial in range(num_samples))
    return [Sample(problem, Program(source), Verdict.AC) for source in sources]


def mixed() -> list[Sample]:
    """Make the mix: 720 programs, shuffled."""
    rng = random.Random(_SEED)
    samples = [sample for task in (*SCRIPTS, *METHODS) for sample in _samples(task, task in METHODS, rng)]
    rng.shuffle(samples)
    return samples


def _samples(task: _Task, is_method: bool, rng: random.Random) -> list[Sample]:
    num_tests = rng.randint(10, 30)
    sizes_T = [round(_MIN_SIZE * (_MAX_SIZE / _MIN_SIZE) ** (t / (num_tests - 1))) for t in range(num_tests)]
    problem = _problem(task, is_method, [[rng.randint(1, 2 * size) for _ in range(size)] for size in sizes_T])
    kinds = [kind for kind, count in _KINDS.items() for _ in range(count)]
    write = _method if is_method else _script
    is_list = isinstance(task([1, 2]), list)
    return [
        Sample(
            problem,
            _program(f"# sample {serial}", write(task, kind, _fault(kind, is_list, sizes_T, rng), rng)),
            Verdict.RE if is_method and kind == "exit" else _VERDICTS.get(kind, Verdict.AC),
        )
        for serial, kind in enumerate(kinds)
    ]


def _program(comment: str, body: str) -> Program:
    """Return the imports that the body uses."""
    imports = (f"import {module}" for module in _MODULES if f"{module}." in body)
    return Program("\n".join((comment, *imports, "", body)))


def _problem(task: _Task, is_method: bool, values_T: Sequence[list[int]]) -> Problem:
    tests = tuple(_method_test(task, values) if is_method else _script_test(task, values) for values in values_T)
    entry_point = f"Solution.{task.__name__}" if is_method else None
    return Problem(id=task.__name__, statement=task.__doc__ or "", tests=tests, entry_point=entry_point)


def _script_test(task: _Task, values: list[int]) -> Test:
    answer = task(values)
    words = answer if isinstance(answer, list) else [answer]
    return Test(input=f"{len(values)}\n{' '.join(map(str, values))}\n", output=f"{' '.join(map(str, words))}\n")


def _method_test(task: _Task, values: list[int]) -> Test:
    return Test(input=[values], output=task(values))


def _fault(kind: str, is_list: bool, sizes_T: list[int], rng: random.Random) -> str:
    """Return a line that fails on one of the first three tests, on one of the last three, or on any one."""
    if kind == "syntax":
        return "if answer"
    if kind == "crash":
        return f"if len(values) >= {rng.choice(sizes_T)}: values[len(values)]"
    if kind.startswith("wrong"):
        size = rng.choice(sizes_T[:3] if kind == "wrong early" else sizes_T[-3:])
        return f"if len(values) >= {size}: answer += {[0] if is_list else 1}"
    return ""


def _script(task: _Task, kind: str, fault: str, rng: random.Random) -> str:
    stars = "*" if isinstance(task([1, 2]), list) else ""
    script = _SCRIPT.format(read=rng.choice(_READ), stars=stars, leave=_SCRIPT_LEAVES.get(kind, "main()"))
    return _head(task, fault) + script


def _method(task: _Task, kind: str, fault: str, rng: random.Random) -> str:
    leave = _METHOD_LEAVES.get(kind, "return answer_of(values)")
    return _head(task, fault) + _METHOD.format(task=task.__name__, leave=leave)


def _head(task: _Task, fault: str) -> str:
    answer = _ANSWER.format(task=task.__name__, fault=f"    {fault}\n" if fault else "")
    return f"{inspect.getsource(task)}{answer}"
