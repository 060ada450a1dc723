"""Verifying problems: what is said of each kind, in Python and on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble.cli import main
from alphamix.grading.benchmarks.recognised import each_recognised_problem
from alphamix.grading.judge.judge import Judge
from alphamix.grading.verification import verify

TESTS = [{"input": [1], "output": 2}, {"input": [20], "output": 21}]
ADD = {"id": "add", "statement": "Add one.", "entry_point": "add", "tests": TESTS}
RIGHT = "def add(n):\n    return n + 1\n"


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def findings_of(judge: Judge, path: Path) -> list[str]:
    return [str(finding) for finding in verify(each_recognised_problem(path), judge)]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"reference": RIGHT}, "add: fine"),
        ({}, "add: no reference"),
        (
            {"reference": "def add(n):\n    return 2\n"},
            "add: reference fails: test 1, input [20], expects 21: WA, answered '2': correct the ref",
        ),
        (
            {"reference": RIGHT.replace("return", "while n > 1: pass\n    return"), "time_limit_s": 0.1},
            "add: reference fails: test 1, input [20], expects 21: TLE, ",
        ),
        (
            {"reference": "def other(n):\n    return 2\n"},
            "add: reference fails: FE, no function 'add' in the program: correct the reference",
        ),
        ({"reference": "def add(n:\n"}, "add: reference fails: CE, SyntaxError: "),
        (
            {"reference": RIGHT, "checker": {"program": {"source": "import sys\nsys.exit(3)"}}},
            "add: broken: the problem's checker ended with RE",
        ),
        (
            {"reference": RIGHT, "epilogue": "x = ("},
            "broken: PATH, line 1: the epilogue of 'add' does not compile (line 1: '(' was never closed): correct it",
        ),
    ],
)
def test_each_problem_gets_one_line(judge: Judge, tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    path = write(tmp_path / "p.jsonl", ADD | changes, ADD | {"id": "other", "reference": RIGHT})
    first, second = findings_of(judge, path)
    assert first.startswith(line.replace("PATH", str(path)))
    assert "\n" not in first
    assert second == "other: fine"


def test_published_files_are_recognised(judge: Judge, tmp_path: Path) -> None:
    mbpp = {"task_id": 1, "text": "Add.", "test_list": ["assert add(1) == 2"], "code": RIGHT}
    assert findings_of(judge, write(tmp_path / "m.jsonl", mbpp)) == ["mbpp/1: fine"]
    human = {
        "task_id": "T/0",
        "prompt": "def add(n):\n",
        "entry_point": "add",
        "canonical_solution": "    return n + 1\n",
    }
    test = "def check(candidate):\n    assert candidate(1) == 2\n"
    assert findings_of(judge, write(tmp_path / "h.jsonl", human | {"test": test})) == ["T/0: fine"]


def test_converted_files_are_files_of_problems(judge: Judge, tmp_path: Path) -> None:
    mbpp = {"task_id": 1, "text": "Add.", "test_list": ["assert add(10**5000) == 10**5000 + 1"], "code": RIGHT}
    long = {"task_id": 2, "text": "Add.", "test_list": [f"assert add({10**5000}) == {10**5000 + 1}"], "code": RIGHT}
    converted = tmp_path / "p.jsonl"
    main(["problems", "convert", str(write(tmp_path / "m.jsonl", mbpp, long)), "--output", str(converted)])
    assert findings_of(judge, converted) == ["mbpp/1: fine", "mbpp/2: fine"]


def test_the_command_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "p.jsonl", ADD | {"reference": RIGHT}, ADD | {"id": "b", "reference": "def add(n): return 0"}
    )
    with pytest.raises(SystemExit) as ended:
        main(["problems", "verify", str(path), "--quiet", "--workers", "1"])
    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert shown.out.startswith("b: reference fails: test 0")
    assert shown.err == "1 fine, 1 reference fails\n"
    main(["problems", "verify", str(write(path, ADD | {"reference": RIGHT})), "--json", "--workers", "1"])
    assert json.loads(capsys.readouterr().out) == {
        "counts": {"fine": 1},
        "problems": [{"status": "fine", "problem_id": "add", "message": ""}],
    }
