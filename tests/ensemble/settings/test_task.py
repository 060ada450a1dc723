"""The tools of a terminal agent, in real workspaces."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from alphamix.ensemble.settings.loop import LimitReachedError, Steps
from alphamix.ensemble.settings.public_tests import public_part
from alphamix.ensemble.settings.task import AgentLimits, Task
from alphamix.ensemble.settings.tool_formats import Call
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallLimits, FileRefusedError, Workspace, WorkspaceError, WorkspacePool

T = TypeVar("T")

PATIENT = AgentLimits(call=CallLimits(cpu_s=30.0, wall_s=600.0))


def problem(*tests: tuple[Any, Any], public: int = 2, **fields: Any) -> Problem:
    shown = [{"input": given, "output": expected} for given, expected in tests]
    fields = {"time_limit_s": 20} | fields
    return public_part(
        Problem.model_validate({"id": "p", "statement": "", "tests": shown, "public_tests": public, **fields})
    )


SUMS = problem(("1 2\n", "3\n"), ("4 5\n", "9\n"))


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        yield pool


@pytest.fixture
def workspace(pool: WorkspacePool) -> Iterator[Workspace]:
    with pool.open() as workspace:
        yield workspace


def done(steps: Steps[T]) -> T:
    """Carry a loop out that only calls."""
    sent: Any = None
    while True:
        try:
            waiting = steps.throw(sent) if isinstance(sent, Exception) else steps.send(sent)
        except StopIteration as stopped:
            return stopped.value
        try:
            sent = waiting.result()  # type: ignore[union-attr]
        except FileRefusedError as refused:
            sent = refused


def test_an_attempt_from_start_to_submission(workspace: Workspace) -> None:
    task = Task(SUMS, "", workspace, PATIENT)
    assert done(task.write("a.py", "print(max(map(int, input().split())))\n")).text == "Wrote a.py."
    seen = done(task.test("a.py"))
    assert seen.text == "Test 1: failed\nexpected:\n3\nwritten:\n2\nTest 2: failed\nexpected:\n9\nwritten:\n5"
    assert not seen.is_good
    assert done(task.edit("a.py", "max", "sum")).text == "Wrote a.py."
    assert done(task.read("a.py")).text == "print(sum(map(int, input().split())))\n"
    assert done(task.test("a.py")) == replace(seen, text="Test 1: passed\nTest 2: passed", is_good=True)
    assert done(task.bash("ls; cd /tmp; false")).text == "a.py\nThe exit code is 1."
    assert done(task.submit("a.py")).submission == b"print(sum(map(int, input().split())))\n"


@pytest.mark.parametrize(
    ("shown", "program", "said"),
    [
        (problem(([[1, 2]], {"s": 3}), ([[]], {"s": 1}), entry_point="Solution.f"),
         "class Solution:\n    def f(self, v: List[int]):\n        print('seen', v)\n        return {'s': sum(v)}\n",
         'Test 1: passed\nTest 2: failed\nexpected:\n{"s": 1}\nwritten:\nseen []\n\n{"s": 0}'),
        (problem(([[1, 2]], [2, 1]), entry_point="Solution.f"),
         "class Solution:\n    def f(self, h: Optional[ListNode]):\n        return [h.next.val, h.val]\n",
         "Test 1: passed"),
        (problem(([4], [2, 4]), entry_point="f", preamble="def g(n): return {n, 2}\n"),
         "from __future__ import annotations\ndef f(n: Missing):\n    return g(n)\n", "Test 1: passed"),
        (problem(("", "0.3"), checker={"floats": {"abs": 1e-6, "rel": 0}}), "print(0.1 + 0.2)", "Test 1: passed"),
        (problem(("", "1"), checker={"program": {"source": ""}}), "print(2)",
         "Test 1: may be wrong\nexpected:\n1\nwritten:\n2"),
        (problem(("x", "x"), preamble="import sys"), "if __name__ == '__main__': print(sys.stdin.read())",
         "Test 1: passed"),
        (problem(("", ""), time_limit_s=0.1), "while True: pass",
         "Test 1: failed\nexpected:\n\nwritten:\nThe limit of CPU time ended the program."),
    ],
)  # fmt: skip
def test_programs_run_as_the_judge_runs_them(workspace: Workspace, shown: Problem, program: str, said: str) -> None:
    task = Task(shown, "", workspace, PATIENT)
    done(task.write("it's.py", program))
    assert done(task.test("it's.py")).text == said


def test_what_only_the_judge_may_know_is_not_in_a_task() -> None:
    shown = problem(("1", "2"), ("hidden", "hidden"), public=1, reference="secret", metadata={"answer": "secret"})
    assert [test.input for test in shown.tests] == ["1"]
    assert "secret" not in repr(shown)
    own = problem((None, None), public=1, epilogue="assert True")
    assert (own.tests, own.epilogue) == ((), None)


@pytest.mark.skipif(not os.access("/usr/bin/g++", os.X_OK), reason="needs g++")
def test_programs_are_compiled(workspace: Workspace) -> None:
    task = Task(SUMS, "", workspace, PATIENT)
    source = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
    done(task.write("a.cpp", source))
    assert done(task.test("a.cpp")).text == "Test 1: passed\nTest 2: passed"
    done(task.write("a.cpp", "int main() { return x; }"))
    assert done(task.test("a.cpp")).text.startswith("The program does not compile.\na.cpp: In function")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("read", {"path": "absent"}, "Error: absent: No such file or directory"),
        ("read", {"path": "bytes"}, "\\xff\\x1b"),
        ("read", {"path": "long"}, "Error: long has more than 1000 bytes: use bash for it"),
        ("write", {"path": "/usr/x", "text": ""}, "Error: /usr/x: Read-only file system"),
        ("edit", {"path": "twice", "old": "a", "new": "b"},
         "Error: twice has the old text 2 times, and should have it once."),
        ("edit", {"path": "twice", "old": "", "new": "b"},
         "Error: twice has the old text 0 times, and should have it once."),
        ("test", {"path": "a"}, "The task shows no tests."),
        ("submit", {"path": "link"}, "Error: link: is a symbolic link"),
        ("bash", {"command": "while :; do :; done"}, "The limit of CPU time ended the program."),
        ("bash", {"command": "true"}, "The program printed nothing."),
    ],
)  # fmt: skip
def test_what_the_model_does_wrong_is_shown_to_it(
    workspace: Workspace, name: str, arguments: dict[str, Any], said: str
) -> None:
    limits = AgentLimits(call=CallLimits(cpu_s=0.3, wall_s=600.0))
    task = Task(problem(("", ""), public=0), "", workspace, limits, max_file_bytes=1000)
    made = "printf '\\377\\33' > bytes; printf aa > twice; seq 1000 > long; ln -s twice link"
    workspace.run(made, PATIENT.call).result()
    seen = done(task.call(Call("0", name, arguments)))
    assert (seen.text, seen.submission) == (said, None)
    assert seen.is_good == (arguments in ({"path": "bytes"}, {"command": "true"}))


def test_once_no_call_is_left_a_program_may_still_be_submitted(workspace: Workspace) -> None:
    task = Task(SUMS, "", workspace, replace(PATIENT, calls=2))
    assert done(task.call(Call("0", "write", {"path": "a.py", "text": "1"}))).is_good
    assert done(task.call(Call("0", "none", error="There is no such tool."))).text == "There is no such tool."
    assert done(task.call(Call("0", "bash", {"command": "ls"}))).text == "No call is left: submit a program."
    with pytest.raises(LimitReachedError):
        done(task.bash("ls"))
    assert done(task.call(Call("0", "submit", {"path": "a.py"}))).submission == b"1"


def test_a_failure_of_the_sandbox_is_raised(workspace: Workspace) -> None:
    task = Task(SUMS, "", workspace)
    workspace.close()
    for name, arguments in {"bash": {"command": "ls"}, "test": {"path": "a"}, "submit": {"path": "a"}}.items():
        with pytest.raises(WorkspaceError, match="closed"):
            done(task.call(Call("0", name, arguments)))
