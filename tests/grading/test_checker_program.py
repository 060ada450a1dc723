"""Checker programs: what they read, what they decide, and what follows when they fail."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import fingerprint
from alphamix.grading.types import Problem, Program

MakeProblem = Callable[..., Problem]

READ = """
import sys
def document():
    size = int(sys.stdin.buffer.readline())
    text = sys.stdin.buffer.read(size).decode()
    assert sys.stdin.buffer.read(1) == b"\\n"
    return text
given, expected, answer = document(), document(), document()
"""
ANY_DIVISOR = READ + "sys.exit(0 if int(given) % int(answer) == 0 and answer.strip() != expected.strip() else 1)"
CPP = """
#include <iostream>
#include <string>
std::string document() {
    size_t size;
    std::cin >> size;
    std::cin.get();
    std::string text(size, ' ');
    std::cin.read(&text[0], size);
    return text;
}
int main() {
    int given = std::stoi(document());
    document();
    return given % std::stoi(document()) != 0;
}
"""


def checker(source: str, language: str = "python") -> dict[str, object]:
    return {"program": {"source": source, "language": language}}


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize(
    ("code", "verdict", "passed"),
    [
        ("print(2)", "AC", 2),
        ("print(int(input()) // 2)", "AC", 2),
        ("print(input())", "WA", 0),  # the only answer that this checker rejects, as the expected output says
        ("n = int(input())\nprint(3 if n == 6 else 7)", "WA", 1),
        ("print(1 / 0)", "RE", 0),
    ],
)
def test_the_checker_decides(judge: Judge, make_problem: MakeProblem, code: str, verdict: str, passed: int) -> None:
    problem = make_problem(("6\n", "6\n"), ("10\n", "10\n"), checker=checker(ANY_DIVISOR))
    judgement = judge.submit(problem, Program(code)).result()
    assert (judgement.verdict, judgement.tests_passed) == (verdict, passed), judgement


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_checker_in_cpp(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem(("6\n", ""), ("10\n", ""), checker=checker(CPP, "cpp"))
    assert judge.submit(problem, Program("print(2)")).result().verdict == "AC"
    assert judge.submit(problem, Program("print(3)")).result().verdict == "WA"


def test_documents_are_exact_bytes(judge: Judge, make_problem: MakeProblem) -> None:
    check = READ + 'sys.exit(0 if [given, expected, answer] == ["é\\n", "", "a\\n\\n 12\\nß"] else 1)'
    problem = make_problem(("é\n", ""), checker=checker(check))
    assert judge.submit(problem, Program("print('a\\n\\n 12\\nß', end='')")).result().verdict == "AC"


def test_results_of_functions_are_json(judge: Judge, make_problem: MakeProblem) -> None:
    check = READ + (
        "import json\n"
        "(numbers,), target, (i, j) = map(json.loads, (given, expected, answer))\n"
        "sys.exit(0 if numbers[i] + numbers[j] == target else 1)"
    )
    problem = make_problem(([[1, 2, 4]], 6), entry_point="pair", checker=checker(check))
    assert judge.submit(problem, Program("def pair(a): return 1, 2")).result().verdict == "AC"
    assert judge.submit(problem, Program("def pair(a): return 2, 1")).result().verdict == "AC"
    assert judge.submit(problem, Program("def pair(a): return 0, 1")).result().verdict == "WA"
    assert judge.submit(problem, Program("def pair(a): return {1: 2}")).result().verdict == "RE"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys\nsys.exit(2)", "exit code 2"),
        ("raise ValueError('what is this?')", "ValueError: what is this?"),
        ("import os\nos.abort()", "ended by Aborted"),
        ("exec('def')", "SyntaxError"),
        ("x = bytearray(1 << 40)", "MemoryError"),
    ],
)
def test_a_checker_that_fails_is_a_failure_of_the_problem(
    judge: Judge, make_problem: MakeProblem, source: str, reason: str
) -> None:
    problem = make_problem(*[("1\n", "secret")] * 2, checker=checker(source))
    judgement = judge.submit(problem, Program("print(1)")).result()
    assert judgement.verdict == "IE"
    assert "the problem's checker ended with" in judgement.message
    assert reason in judgement.message
    assert "secret" not in judgement.message
    assert judge.submit(make_problem(("1\n", "1\n")), Program("print(1)")).result().verdict == "AC"  # still works


def test_the_exit_code_of_a_checker_decides(judge: Judge, make_problem: MakeProblem) -> None:
    for source, verdict in (("import os\nos._exit(0)", "AC"), ("import os\nos._exit(1)", "WA"), ("exit('no')", "WA")):
        problem = make_problem(("", ""), checker=checker(source))
        assert judge.submit(problem, Program("print(1)")).result().verdict == verdict


def test_the_program_cannot_read_what_the_checker_reads(judge: Judge, make_problem: MakeProblem) -> None:
    """A thread that outlives its test looks at every descriptor for as long as the checker runs."""
    spy = """
import os, threading, time
def watch():
    while True:
        for fd in range(64):
            try:
                if b"se" + b"cret" in os.pread(fd, 1 << 16, 0):
                    os.write(1, b"found")
            except OSError:
                pass
input()
threading.Thread(target=watch, daemon=True).start()
import _thread
_thread._count = lambda: 0  # so that the process is used again
print(1)
"""
    slow = READ + "end = __import__('time').process_time() + 0.2\nwhile __import__('time').process_time() < end: pass\n"
    problem = make_problem(
        *[("1\n", "secret")] * 2, checker=checker(slow + "sys.exit('found' in answer)"), time_limit_s=5
    )
    assert judge.submit(problem, Program(spy)).result().verdict == "AC"


def test_the_checker_belongs_to_the_fingerprint(make_problem: MakeProblem) -> None:
    one, other = (make_problem(("", ""), checker=checker(source)) for source in ("1", "2"))
    assert fingerprint([one]) != fingerprint([other])
    assert one == Problem.model_validate_json(one.model_dump_json())
    with pytest.raises(ValueError, match="language"):
        make_problem(("", ""), checker=checker("", "cobol"))
    with pytest.raises(ValueError, match="checker"):
        make_problem(("", ""), checker={"program": {"source": "", "secret": 1}})


def test_without_a_compiler_a_cpp_checker_is_ie(make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with Judge() as judge:
        judgement = judge.submit(make_problem(("", ""), checker=checker(CPP, "cpp")), Program("print(1)")).result()
        assert (judgement.verdict, "no g++" in judgement.message) == ("IE", True)
    assert issubclass(GradingError, ValueError)
