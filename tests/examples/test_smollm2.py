"""The command that converts MBPP, on a small file, and the problems that it made."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.benchmarks import mbpp
from alphamix.grading.problems import load_problems

EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2"

SOLUTIONS: dict[str, Callable[..., Any]] = {
    "square_nums": lambda numbers: [number**2 for number in numbers],
    "filter_evennumbers": lambda numbers: [number for number in numbers if number % 2 == 0],
    "smallest_num": min,
    "minimum": min,
    "last_Digit": lambda number: number % 10,
    "rectangle_area": lambda width, height: width * height,
    "is_lower": str.lower,
    "big_diff": lambda numbers: max(numbers) - min(numbers),
}


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run the command on three records; return what it wrote."""
    lines = ["assert f([1]) == 1", "assert f((1,)) == 1", "assert f(1) > 1"]
    records = [{"text": "Do it.", "task_id": 7 + i, "test_list": [line]} for i, line in enumerate(lines)]
    source, output = tmp_path / "mbpp.jsonl", tmp_path / "problems.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    def run(*arguments: str) -> Path:
        monkeypatch.setattr("sys.argv", ["convert_mbpp.py", str(source), str(output), *arguments])
        runpy.run_path(str(EXAMPLE / "convert_mbpp.py"), run_name="__main__")
        return output

    return run


def test_all_records_are_converted_and_counted(
    convert: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_problems(convert()) == mbpp.load(tmp_path / "mbpp.jsonl")
    assert capsys.readouterr().err == "converted 3: 1 as call, 1 as expression, 1 as nonce\n"


def test_ids_choose_and_order(convert: Callable[..., Path]) -> None:
    assert [problem.id for problem in load_problems(convert("--ids", "9", "7"))] == ["mbpp/9", "mbpp/7"]


def test_unknown_ids_are_a_usage_error(convert: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        convert("--ids", "7", "1")
    assert "no mbpp/1 in" in capsys.readouterr().err


def test_every_committed_problem_is_read_and_can_be_solved() -> None:
    problems = load_problems(EXAMPLE / "problems.jsonl")
    assert len(problems) == 8
    for problem in problems:
        solve = SOLUTIONS[str(problem.entry_point)]
        assert f"`{problem.entry_point}`" in problem.statement
        assert [solve(*test.input) for test in problem.tests] == [test.output for test in problem.tests]
