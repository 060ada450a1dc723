"""The judge as its users see it: every verdict, from real processes."""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.judge import judge as judge_module
from alphamix.grading.judge.judge import Judge
from alphamix.grading.judge.run_tests import run_tests
from alphamix.grading.sandbox import probes
from alphamix.grading.sandbox.zygote_handle import ZygoteDiedError
from alphamix.grading.types import FloatChecker, FloatTolerance, Judgement, Problem, Program, Verdict

MakeProblem = Callable[..., Problem]
Descendants = Callable[[int], set[int]]

ADD_ONE = [(f"{n}\n", f"{n + 1}\n") for n in range(4)]
REPOSITORY = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; the bound only keeps a broken test from hanging."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize(
    ("code", "verdict", "passed", "first_failed", "message"),
    [
        ("print(int(input()) + 1)", "AC", 4, None, ""),
        ("print(int(input()))", "WA", 0, 0, "answered '0\\n'"),
        ("n = int(input())\nprint(n + 1 if n < 2 else 0)", "WA", 2, 2, "answered '0\\n'"),
        ("n = int(input())\nif n == 3: n /= 0\nprint(n + 1)", "RE", 3, 3, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", "RE", 0, 0, "exit code 3"),
        ("import os\nos.abort()", "RE", 0, 0, "ended by Aborted"),
        ("n = int(input())\nwhile n == 1: pass\nprint(n + 1)", "TLE", 1, 1, "of CPU, limit 0.3 s"),
        ("import time\ntime.sleep(1000)", "ILE", 0, 0, "limit 2 s"),
        ("x = [0] * (40 << 20)\nwhile True: pass", "MLE", 0, 0, "limit 256 MB"),
        ("x = bytearray(1 << 40)", "MLE", 0, 0, "MemoryError"),
        ("x = b'1' * (300 << 20)\nprint(int(input()) + 1)", "MLE", 0, 0, "limit 256 MB"),
        ("while True: print('1' * 9999)", "OLE", 0, 0, "wrote 16777216 bytes or more"),
        ("def f(:", "CE", 0, None, "SyntaxError"),
        ("print('\udc80')", "CE", 0, None, "Error"),
        (None, "FE", 0, None, "no program in the completion"),
    ],
)
def test_verdicts_of_programs(
    judge: Judge, make_problem: MakeProblem, code: str | None, verdict: str, passed: int, first_failed: int | None,
    message: str,
) -> None:  # fmt: skip
    limit = 0.3 if verdict in ("TLE", "ILE") else 2.0  # on a busy machine, 300 MB may take 0.3 s of CPU to touch
    problem = make_problem(*ADD_ONE, time_limit_s=limit)
    judgement = judge.submit(problem, Program(code) if code is not None else None).result()
    assert judgement.verdict == verdict, judgement
    assert (judgement.tests_passed, judgement.num_tests) == (passed, 4)
    assert judgement.first_failed_test == first_failed
    assert message in judgement.message


@pytest.mark.parametrize(
    ("entry_point", "code", "verdict", "message"),
    [
        ("f", "def f(a, b): return [a, (b, None)]", "AC", ""),
        ("Solution.f", "class Solution:\n  def f(self, a, b): return a, [b, None]", "AC", ""),
        ("f", "def f(a, b):\n  print('chatter')\n  return a, (b, None)", "AC", ""),
        ("f", "def f(a, b): return [a, [b, 0]]", "WA", "answered '[true, [{\"k\": 1.5}, 0]]'"),
        ("f", "def f(a, b): return [1, [b, None]]", "WA", "answered"),
        ("f", "def f(a, b): return {1: 2}", "RE", "key that is not a string"),
        ("f", "def f(a, b): return {a}", "WA", "answered '[true]'"),
        ("f", "def f(a): return a", "RE", "TypeError"),
        ("f", "def f(a, b): raise MemoryError", "MLE", "MemoryError"),
        ("f", "def g(a, b): return a", "FE", "no function 'f' in the program"),
        ("f", "f = 3", "FE", "no function 'f' in the program"),
        ("Solution.f", "def f(a, b): return a", "FE", "no class 'Solution' in the program"),
        ("Solution.f", "class Solution: pass", "FE", "no function 'Solution.f' in the program"),
        ("f", "if __name__ == '__main__': input()\ndef f(a, b): return a, (b, None)", "AC", ""),
        ("f", "def f(a, b): return input()", "RE", "EOFError"),
    ],
)
def test_verdicts_of_functions(
    judge: Judge, make_problem: MakeProblem, entry_point: str, code: str, verdict: str, message: str
) -> None:
    problem = make_problem(([True, {"k": 1.5}], [True, [{"k": 1.5}, None]]), entry_point=entry_point)
    judgement = judge.submit(problem, Program(code)).result()
    assert judgement.verdict == verdict, judgement
    assert message in judgement.message


def test_the_checker_of_the_problem_decides(judge: Judge, make_problem: MakeProblem) -> None:
    close = FloatChecker(floats=FloatTolerance(abs=0.01, rel=0))
    program, function = "print(0.333)", "def third(): return 0.333"
    assert judge.submit(make_problem(("", "0.3333")), Program(program)).result().verdict == "WA"
    assert judge.submit(make_problem(("", "0.3333"), checker=close), Program(program)).result().verdict == "AC"
    call = make_problem(([], 0.3333), checker=close, entry_point="third")
    assert judge.submit(call, Program(function)).result().verdict == "AC"
    assert judge.submit(make_problem(("", "0.333"), checker="exact"), Program(program)).result().verdict == "WA"


EPILOGUE = "assert add(1, 1) == 2\nprint(input())"


@pytest.mark.parametrize(
    ("code", "verdict", "message"),
    [
        ("def add(a, b): return a + b", "AC", ""),
        ("def add(a, b): return a + b\nprint('an example:', add(2, 3), end=' ')", "AC", ""),
        ("def add(a, b): return a - b", "RE", "AssertionError"),
        ("import sys\ndef add(a, b): return a + b\nsys.exit(0)", "WA", "answered ''"),
        ("def add(a, b):\n  import os\n  os._exit(0)", "WA", "answered ''"),
        ("def add(a, b): return a + b\nprint(input())", "RE", "EOFError"),
        ("def add(a, b: return", "CE", "SyntaxError"),
    ],
)
def test_assertions_answer_with_a_nonce(
    judge: Judge, make_problem: MakeProblem, code: str, verdict: str, message: str
) -> None:
    problem = make_problem((None, None), (None, None), epilogue=EPILOGUE)
    judgement = judge.submit(problem, Program(code)).result()
    assert judgement.verdict == verdict, judgement
    assert message in judgement.message
    assert judgement.forgeable


def test_a_nonce_is_made_for_every_run(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem((None, None), epilogue="")
    nonces = [judge.submit(problem, Program(f"print(input()[:-1])  # {n}")).result().message for n in range(3)]
    assert len(set(nonces)) == 3
    forger = judge.submit(problem, Program("print(input())")).result()
    assert (forger.verdict, forger.forgeable) == ("AC", True)


def test_only_nonces_are_forgeable(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem(*ADD_ONE, epilogue="print(add(int(input())))")
    judgement = judge.submit(problem, Program("def add(n): return n + 1")).result()
    assert (judgement.verdict, judgement.forgeable) == ("AC", False)
    call = make_problem(([None], None), entry_point="f", epilogue="def f(x): return g(x)")
    judgement = judge.submit(call, Program("def g(x): return x")).result()
    assert (judgement.verdict, judgement.forgeable) == ("AC", False)


def test_time_is_cpu_time_read_from_outside(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem(("", "1"), time_limit_s=0.2)
    spinner = judge.submit(problem, Program("while True: pass")).result()
    assert spinner.verdict == "TLE"
    assert 0.2 < spinner.cpu_s < 0.4
    sleeper = judge.submit(problem, Program("import time\ntime.sleep(0.5)\nprint(1)")).result()
    assert sleeper.verdict == "AC"
    assert sleeper.cpu_s < 0.2
    threads = "import threading\nfor _ in range(3): threading.Thread(target=lambda: exec('while 1: 0')).start()"
    assert judge.submit(problem, Program(threads)).result().verdict == "TLE"


def test_memory_is_what_the_program_added(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem(("", "1"), memory_limit_mb=64)
    light = judge.submit(problem, Program("print(1)")).result()
    heavy = judge.submit(problem, Program("x = b'1' * (40 << 20)\nprint(1)")).result()
    assert (light.verdict, heavy.verdict) == ("AC", "AC")
    assert light.peak_rss_mb < 10
    assert 40 <= heavy.peak_rss_mb < 64
    assert judge.submit(problem, Program("x = b'1' * (70 << 20)\nprint(1)")).result().verdict == "MLE"
    assert judge.submit(problem, Program("x = bytes(500 << 20)\nprint(1)")).result().verdict == "AC"  # never touched


ANSWERED_TWO_NUMBERS = re.compile(r"answered '([\d.]+) ([\d.]+)")


def test_the_state_that_earlier_tests_left_does_not_harm_a_program(judge: Judge, make_problem: MakeProblem) -> None:
    code = "import sys\nassert not hasattr(sys, 'seen')\nsys.seen = True\nprint(int(input()) + 1)"
    assert judge.submit(make_problem(*ADD_ONE), Program(code)).result().verdict == "AC"
    hoarder = "import sys\nsys.hoard = getattr(sys, 'hoard', b'') + b'1' * (40 << 20)\nprint(int(input()) + 1)"
    assert judge.submit(make_problem(*ADD_ONE, memory_limit_mb=64), Program(hoarder)).result().verdict == "AC"


COUNTER = """
import sys
sys.count = getattr(sys, "count", 0) + 1
n = int(input())
print(n + 1 if {} else 0)
"""


def test_the_state_that_earlier_tests_left_does_not_help_a_program(judge: Judge, make_problem: MakeProblem) -> None:
    needs_two_tests_before = COUNTER.format("n < 3 or sys.count > 1")
    judgement = judge.submit(make_problem(*ADD_ONE), Program(needs_two_tests_before)).result()
    assert (judgement.verdict, judgement.tests_passed, judgement.first_failed_test) == ("WA", 3, 3)
    assert judgement.cpu_s > 0


def test_programs_that_idle_give_way_to_others(make_problem: MakeProblem) -> None:
    problem = make_problem(("", ""), time_limit_s=30)
    sleeper = "import time\nstart = time.time()\ntime.sleep(3)\nprint(start, time.time())  # {}"
    with Judge(workers=1) as judge:
        futures = [judge.submit(problem, Program(sleeper.format(n))) for n in range(4)]
        answers = [ANSWERED_TWO_NUMBERS.search(future.result().message) for future in futures]
    starts, ends = zip(*(map(float, answer.groups()) for answer in answers if answer), strict=True)
    assert len(starts) == 4
    assert max(starts) < min(ends)


def test_programs_that_compute_do_not_give_way(make_problem: MakeProblem) -> None:
    threads = threading.active_count()
    with Judge(workers=1) as judge:
        futures = [judge.submit(make_problem(("", "")), Program(f"while True: pass  # {n}")) for n in range(3)]
        assert {future.result().verdict for future in futures} == {Verdict.TLE}
        assert threading.active_count() == threads + 1


def test_a_judge_grows_and_shrinks_while_it_works(make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, at_once = threading.Lock(), 0
    most: list[int] = [0]
    inner = judge_module.run_tests

    def counted(*arguments: Any) -> Judgement:
        nonlocal at_once
        with lock:
            at_once += 1
            most[0] = max(most[0], at_once)
        try:
            time.sleep(0.05)
            return inner(*arguments)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(judge_module, "run_tests", counted)
    problem = make_problem(*ADD_ONE[:1])
    with Judge() as judge:
        serial = itertools.count()

        def judge_some() -> None:
            futures = [judge.submit(problem, Program(f"print(int(input()) + 1)  # {next(serial)}")) for _ in range(6)]
            assert {future.result().verdict for future in futures} == {Verdict.AC}

        judge_some()
        assert most[0] == 1
        judge.resize(3)
        while most[0] < 3:  # the new threads first start their sandboxes
            judge_some()
        judge.resize(1)
        judge_some()  # threads that wait for a job take a last one
        most[0] = 0
        judge_some()
        assert most[0] == 1
    judge.resize(2)  # of a closed judge: nothing happens


@pytest.mark.parametrize(
    ("code", "verdict", "passed", "passed_tests"),
    [
        ("print(int(input()) + 1)", "AC", 4, (True, True, True, True)),
        ("n = int(input())\nprint(n + 1 if n != 1 else 0)", "WA", 1, (True, False, True, True)),
        ("n = int(input())\nprint(n + 1 if n % 2 else 1 // 0)", "RE", 0, (False, True, False, True)),
        ("n = int(input())\nwhile n == 0: pass\nprint(n + 1 if n != 2 else 0)", "TLE", 0, (False, True, False, True)),
        ("def", "CE", 0, (False, False, False, False)),
    ],
)
def test_all_tests_are_run_on_request(
    make_problem: MakeProblem, code: str, verdict: str, passed: int, passed_tests: tuple[bool, ...]
) -> None:
    with Judge(all_tests=True) as judge:
        judgement = judge.submit(make_problem(*ADD_ONE, time_limit_s=0.3), Program(code)).result()
    assert (judgement.verdict, judgement.tests_passed) == (verdict, passed)
    assert judgement.passed_tests == passed_tests


def test_tests_after_the_first_failure_are_not_run_unless_asked(judge: Judge, make_problem: MakeProblem) -> None:
    assert judge.submit(make_problem(*ADD_ONE), Program("print(0)")).result().passed_tests is None


def test_equal_programs_run_once(make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Program] = []

    def count(sandboxes: Any, prepared: Any, program: Program, *how: Any) -> Judgement:
        runs.append(program)
        return run_tests(sandboxes, prepared, program, *how)

    monkeypatch.setattr(judge_module, "run_tests", count)
    problem = make_problem(*ADD_ONE)
    same_problem = make_problem(*ADD_ONE)
    other_problem = make_problem(*ADD_ONE, time_limit_s=2.0)
    with Judge(workers=2) as judge:
        together = [judge.submit(problem, Program("print(int(input()) + 1)")) for _ in range(20)]
        verdicts = {future.result().verdict for future in together}
        later = judge.submit(same_problem, Program("print(int(input()) + 1)")).result()
        judge.submit(other_problem, Program("print(int(input()) + 1)")).result()
        judge.submit(problem, Program("print(int(input())  + 1)")).result()
    assert verdicts == {Verdict.AC}
    assert later.verdict == "AC"
    assert len(runs) == 3


def test_a_failure_of_the_judge_is_ie_and_not_remembered(
    make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Program] = []

    def fail(sandboxes: Any, prepared: Any, program: Program, *how: Any) -> Judgement:
        calls.append(program)
        if len(calls) <= 2:
            raise ZygoteDiedError("struck by lightning")
        return run_tests(sandboxes, prepared, program, *how)

    monkeypatch.setattr(judge_module, "run_tests", fail)
    with Judge() as judge:
        first = judge.submit(make_problem(*ADD_ONE), Program("print(int(input()) + 1)")).result()
        again = judge.submit(make_problem(*ADD_ONE), Program("print(int(input()) + 1)")).result()
    assert first.verdict == "IE"
    assert "struck by lightning" in first.message
    assert again.verdict == "AC"


def test_a_killed_sandbox_is_replaced_and_the_program_judged_again(
    make_problem: MakeProblem, descendants: Descendants
) -> None:
    before = descendants(os.getpid())
    with Judge() as judge:
        sandbox = descendants(os.getpid()) - before
        future = judge.submit(make_problem(("", "1")), Program("import time\ntime.sleep(1)\nprint(1)"))
        wait_until(lambda: len(descendants(os.getpid()) - before) > len(sandbox))
        for pid in sandbox:
            os.kill(pid, signal.SIGKILL)
        assert future.result().verdict == "AC"
        wait_until(lambda: not descendants(os.getpid()) & sandbox)


def test_close_ends_every_process_and_fails_what_is_owed(make_problem: MakeProblem, descendants: Descendants) -> None:
    before, threads = descendants(os.getpid()), threading.active_count()
    judge = Judge(workers=2)
    problem = make_problem(("", "1"), time_limit_s=1000)
    futures = [judge.submit(problem, Program(f"while True: pass  # {n}")) for n in range(5)]
    judge.close()
    judge.close()
    for future in futures:
        with pytest.raises(GradingError, match="closed before this program was judged"):
            future.result(timeout=0)
    with pytest.raises(GradingError, match="the judge is closed"):
        judge.submit(problem, Program("print(1)"))
    assert threading.active_count() == threads
    wait_until(lambda: descendants(os.getpid()) <= before)


def test_no_descriptor_is_left_open(make_problem: MakeProblem) -> None:
    before = open_descriptors()
    with Judge() as judge:
        for code in ("print(int(input()) + 1)", "1/0", "import os; os._exit(0)", "def", "while 1: print(1)"):
            judge.submit(make_problem(*ADD_ONE, time_limit_s=0.2), Program(code)).result()
        during = open_descriptors()
        for n in range(20):
            judge.submit(make_problem(*ADD_ONE), Program(f"print(int(input()) + 1)  # {n}")).result()
        assert open_descriptors() == during
    assert open_descriptors() == before


CHILD = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Problem, Program, Test
judge = Judge(workers=2)
problem = Problem(id="p", statement="", tests=(Test(input="", output="1"),), time_limit_s=1000)
futures = [judge.submit(problem, Program(code)) for code in ("while True: pass", "import time; time.sleep(1000)")]
time.sleep(0.3)
print("judging", flush=True)
if sys.argv[2] == "interrupt":
    os.kill(os.getpid(), signal.SIGINT)
futures[0].result()
"""


def start_child(mode: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", CHILD, str(REPOSITORY), mode]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "judging\n"
    return child


def test_no_process_outlives_a_killed_parent(descendants: Descendants) -> None:
    with start_child("wait") as child:
        family = descendants(child.pid)
        assert len(family) >= 4  # two zygotes, and a program in each
        child.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def test_an_interrupted_parent_ends(descendants: Descendants) -> None:
    with start_child("interrupt") as child:
        family = descendants(child.pid)
        try:
            _, errors = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == -signal.SIGINT
    assert errors.strip().endswith("KeyboardInterrupt")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def test_a_judge_is_not_shared_with_a_forked_child(judge: Judge, make_problem: MakeProblem) -> None:
    actual = judge._pid
    try:
        judge._pid = actual + 1
        with pytest.raises(GradingError, match="make one Judge per process"):
            judge.submit(make_problem(*ADD_ONE), Program("print(1)"))
    finally:
        judge._pid = actual


def test_describe_is_stamped_with_the_tier(judge: Judge) -> None:
    description = judge.describe()
    assert set(description) == {"version", "sandbox", "limits"}
    assert description["sandbox"] == judge.tier
    assert judge.tier in ("namespaces", "landlock")


def test_weak_runs_everything_and_says_so(make_problem: MakeProblem) -> None:
    with Judge(sandbox="weak") as judge:
        assert judge.describe()["sandbox"] == "weak"
        assert judge.submit(make_problem(*ADD_ONE), Program("print(int(input()) + 1)")).result().verdict == "AC"
        spinner = judge.submit(make_problem(*ADD_ONE, time_limit_s=0.1), Program("while True: pass")).result()
        assert spinner.verdict == "TLE"


def test_strict_fails_closed(monkeypatch: pytest.MonkeyPatch, descendants: Descendants) -> None:
    before = descendants(os.getpid())
    monkeypatch.setattr(probes, "unproven", lambda zygote, tier: ["forking is possible"])
    with pytest.raises(GradingError, match=r"namespaces: .*landlock: .*--sandbox=weak"):
        Judge(workers=2)
    wait_until(lambda: descendants(os.getpid()) <= before)


@pytest.mark.parametrize(("arguments", "cause"), [({"workers": 0}, "workers is 0"), ({"sandbox": "no"}, "'no'")])
def test_bad_arguments_are_named(arguments: dict[str, Any], cause: str) -> None:
    with pytest.raises(GradingError, match=cause):
        Judge(**arguments)
