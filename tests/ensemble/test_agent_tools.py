"""The tools of a terminal agent, in real workspaces."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from alphamix.ensemble.settings.agent_tools import TOOLS, AgentTools, PublicTest
from alphamix.grading.workspace import CallLimits, Workspace, WorkspaceError, WorkspacePool

PATIENT = CallLimits(cpu_s=30.0, wall_s=600.0)
SUMS = (PublicTest("1 2\n", "3\n"), PublicTest("4 5\n", "9\n"))


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        yield pool


@pytest.fixture
def workspace(pool: WorkspacePool) -> Iterator[Workspace]:
    with pool.open() as workspace:
        yield workspace


def call(tools: AgentTools, name: str, *values: str) -> str:
    parameters = next(tool["function"]["parameters"] for tool in TOOLS if tool["function"]["name"] == name)
    return tools.call(name, dict(zip(parameters["required"], values, strict=True))).result().text


def test_an_attempt_from_start_to_submission(workspace: Workspace) -> None:
    tools = AgentTools(workspace, SUMS, limits=PATIENT)
    assert call(tools, "write", "a.py", "print(max(map(int, input().split())))\n") == "Wrote a.py."
    assert call(tools, "test", "a.py") == (
        "Test 1: failed\nexpected:\n3\n\nwritten:\n2\nTest 2: failed\nexpected:\n9\n\nwritten:\n5"
    )
    assert call(tools, "edit", "a.py", "max", "sum") == "Wrote a.py."
    assert call(tools, "read", "a.py") == "print(sum(map(int, input().split())))\n"
    assert call(tools, "test", "a.py") == "Test 1: passed\nTest 2: passed"
    assert call(tools, "bash", "ls; cd /tmp; false") == "a.py\n[exit code 1]"
    observation = tools.call("submit", {"path": "a.py"}).result()
    assert observation.submission == b"print(sum(map(int, input().split())))\n"


def test_functions_are_called(workspace: Workspace) -> None:
    tools = AgentTools(workspace, [PublicTest([[1, 2]], {"s": 3}), PublicTest([[]], {"s": 1})], "Solution.f", PATIENT)
    program = "class Solution:\n    def f(self, v):\n        print('seen', v)\n        return {'s': sum(v)}\n"
    call(tools, "write", "it's.py", program)
    said = call(tools, "test", "it's.py")
    assert said == 'Test 1: passed\nTest 2: failed\nexpected:\n{"s": 1}\nwritten:\nseen []\n\n{"s": 0}'


@pytest.mark.skipif(not os.access("/usr/bin/g++", os.X_OK), reason="needs g++")
def test_programs_are_compiled(workspace: Workspace) -> None:
    tools = AgentTools(workspace, SUMS, limits=PATIENT)
    call(
        tools, "write", "a.cpp", "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
    )
    assert call(tools, "test", "a.cpp") == "Test 1: passed\nTest 2: passed"
    call(tools, "write", "a.cpp", "int main() { return x; }")
    assert call(tools, "test", "a.cpp").startswith("The program does not compile.\na.cpp: In function")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("shell", {}, "There is no tool 'shell', only bash, read, write, edit, test, submit."),
        ("write", {"path": "a"}, "write takes path and text, as text, and nothing else."),
        ("bash", {"command": "ls", "timeout": 5}, "bash takes command, as text, and nothing else."),
        ("bash", {"command": ["ls"]}, "bash takes command, as text, and nothing else."),
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
        ("bash", {"command": "while :; do :; done"}, "[ended, because it used more CPU time than it may]"),
        ("bash", {"command": "true"}, "[no output]"),
    ],
)  # fmt: skip
def test_what_the_model_does_wrong_is_shown_to_it(
    workspace: Workspace, name: str, arguments: dict[str, Any], said: str
) -> None:
    limits = CallLimits(cpu_s=0.3, wall_s=600.0)
    tools = AgentTools(workspace, limits=limits, max_file_bytes=1000)
    workspace.run("printf '\\377\\33' > bytes; printf aa > twice; seq 1000 > long; ln -s twice link", PATIENT).result()
    observation = tools.call(name, arguments).result()
    assert (observation.text, observation.submission) == (said, None)


def test_a_failure_of_the_sandbox_is_raised(workspace: Workspace) -> None:
    tools = AgentTools(workspace, SUMS)
    workspace.close()
    for name, arguments in {"bash": {"command": "ls"}, "test": {"path": "a"}, "submit": {"path": "a"}}.items():
        with pytest.raises(WorkspaceError, match="closed"):
            tools.call(name, arguments).result()
