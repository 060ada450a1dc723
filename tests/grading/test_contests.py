"""CodeContests, CodeContests+, APPS and TACO in the form of their files, which these tests write themselves."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble.cli import main
from alphamix.grading.benchmarks import apps, taco
from alphamix.grading.benchmarks.catalog import BENCHMARKS, each_problem_of, split_name
from alphamix.grading.benchmarks.recognised import each_recognised_problem
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.checkers.compare import accepts
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import FloatChecker, Problem, Program, TokensChecker

Write = Callable[..., Path]


def paired(*pairs: tuple[str, str]) -> dict[str, list[str]]:
    return {"input": [given for given, _ in pairs], "output": [expected for _, expected in pairs]}


def codecontests(**changes: Any) -> dict[str, Any]:
    return {
        "name": "1575_A. Successor",
        "description": "Print n + 1.\n",
        "public_tests": paired(("1\n", "2\n")),
        "private_tests": paired(),
        "generated_tests": paired(("100\n", "101\n"), ("20\n", "21\n")),
        "source": 2,
        "difficulty": 7,
        "solutions": {"language": [2, 3], "solution": ["int main() {}", "print(int(input()) + 1)"]},
        "time_limit": {"seconds": 2, "nanos": 500_000_000},
        "memory_limit_bytes": 256_000_000,
        "input_file": "",
        "output_file": "",
    } | changes


def apps_row(**changes: Any) -> dict[str, Any]:
    return {
        "problem_id": 12,
        "question": "Print n + 1.",
        "solutions": json.dumps(["print(int(input()) + 1)"]),
        "input_output": json.dumps({"inputs": ["10\n", ["1"]], "outputs": [["11"], "2\n"]}),
        "difficulty": "interview",
        "url": "",
        "starter_code": "",
    } | changes


def calls(given: list[Any], expected: list[Any]) -> str:
    return json.dumps({"fn_name": "f", "inputs": given, "outputs": expected})


@pytest.fixture(params=["jsonl", "parquet"])
def write(request: pytest.FixtureRequest) -> Write:
    """Write rows as JSON lines or as Parquet, with this stem."""

    def write(stem: Path, *rows: dict[str, Any]) -> Path:
        stem.parent.mkdir(parents=True, exist_ok=True)
        path = stem.with_suffix(f".{request.param}")
        if request.param == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pyarrow: Any = pytest.importorskip("pyarrow")
            parquet: Any = pytest.importorskip("pyarrow.parquet")
            parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
        return path

    return write


def read(name: str, path: Path, **selected: Any) -> list[Problem | GradingError]:
    return list(each_problem_of(name, path, Selection(**selected), print))


def only(name: str, path: Path, **selected: Any) -> Problem:
    (problem,) = read(name, path, **selected)
    assert isinstance(problem, Problem), problem
    return problem


def test_codecontests_has_public_hidden_and_generated_tests_as_levels(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "data" / "test-00000-of-00001-9c", codecontests())
    if not (tmp_path / "data" / "test-00000-of-00001-9c.parquet").exists():
        (tmp_path / "data" / "test-00000-of-00001-9c.jsonl").rename(tmp_path / "test.jsonl")
    problem = only("codecontests", tmp_path)
    assert [test.input for test in problem.tests] == ["1\n", "20\n", "100\n"]
    assert (problem.levels, problem.public_tests) == ({"public": 1, "generated": 3}, 1)
    assert (problem.id, problem.difficulty) == ("codecontests/codeforces/1575_A. Successor", "A")
    assert (problem.time_limit_s, problem.memory_limit_mb) == (2.5, 256_000_000 / (1 << 20))
    assert problem.reference == "print(int(input()) + 1)"
    assert isinstance(problem.checker, TokensChecker)
    assert accepts(problem.checker, "YES 1.0", "yes 1.000009")
    assert not accepts(problem.checker, "1000000", "1000001")


def test_limits_that_are_not_known_are_those_of_the_grader(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "t", codecontests(time_limit=None, memory_limit_bytes=0, source=99, difficulty=99))
    problem = only("codecontests", path)
    assert (problem.time_limit_s, problem.memory_limit_mb, problem.difficulty) == (10, 1024, "unknown")


def test_codecontests_is_selected_by_split_difficulty_and_platform(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps(codecontests()))
    (tmp_path / "train.jsonl").write_text(
        json.dumps(codecontests(name="other", source=5, difficulty=1)) + "\n" + json.dumps(codecontests())
    )
    assert len(read("codecontests", tmp_path)) == 1
    assert len(read("codecontests", tmp_path, split="train")) == 2
    assert only("codecontests", tmp_path, split="train", platform="atcoder").difficulty == "easy"
    assert only("codecontests", tmp_path, split="train", difficulty="A").metadata == {"platform": "codeforces"}
    with pytest.raises(GradingError, match="codecontests has no split 'tests': did you mean 'test'"):
        read("codecontests", tmp_path, split="tests")
    with pytest.raises(GradingError, match=r"has no file data/valid-\*.parquet or valid\*.parquet"):
        read("codecontests", tmp_path, split="valid")


TESTLIB = """#pragma once
#include <cstdlib>
#include <fstream>
static std::ifstream in, out, answer;
static void open(int count, char **names) {
    in.open(names[1]);
    out.open(names[2]);
    answer.open(names[3]);
    if (count != 4 || !in || !out || !answer) exit(3);
}
"""
CHECKER = """#include "testlib.h"
int main(int argc, char *argv[]) {
    open(argc, argv);
    int n, one = 0, other = 0;
    in >> n;
    out >> one >> other;
    return one == 13 ? 3 : one + other == n ? 0 : 1 + (one > n);
}
"""


def plus_row(**changes: Any) -> dict[str, Any]:
    return {
        "source": "CODEFORCES",
        "id": "1_A",
        "title": "Split",
        "description": "Split n.",
        "time_limit": 2000,
        "memory_limit": 256,
        "test_cases": [{"input": "10\n", "output": "1 9\n"}],
        "checker": CHECKER,
        "correct_submissions": [{"language": "cpp", "code": ""}, {"language": "py3", "code": "print(4, 6)"}],
        "incorrect_submissions": [],
    } | changes


def test_a_checker_of_codecontests_plus_runs_in_the_sandbox(tmp_path: Path, write: Write, judge: Judge) -> None:
    path = write(tmp_path / "ccplus_1x" / "part-00000-of-00020", plus_row(), plus_row(id="2", test_cases=[]))
    with pytest.raises(GradingError, match=r"has no testlib\.h, which the checkers include"):
        read("codecontests-plus", path)
    (tmp_path / "testlib.h").write_text(TESTLIB)
    problem, error = read("codecontests-plus", path)
    assert isinstance(problem, Problem)
    assert "line 2: test_cases: is empty" in str(error) or "row 2: test_cases: is empty" in str(error)
    assert len(read("codecontests-plus", path, without_errata=True)) == 1
    assert (problem.id, problem.time_limit_s, problem.reference) == (
        "codecontests-plus/codeforces/1_A",
        2,
        "print(4, 6)",
    )
    if path.suffix == ".parquet" or judge.tier != "namespaces":
        return
    answers = {"4 6": "AC", "4 5": "WA", "11 0": "WA", "13 0": "IE"}
    futures = {answer: judge.submit(problem, Program(f"print({answer!r})")) for answer in answers}
    assert {answer: future.result().verdict.value for answer, future in futures.items()} == answers


def test_apps_tests_may_be_texts_lines_or_calls(tmp_path: Path, write: Write, judge: Judge) -> None:
    method = "class Solution:\n    def f(self, n: int) -> int:\n"
    write(
        tmp_path / "test",
        apps_row(),
        apps_row(problem_id=13, input_output=calls([[3], [10]], [[4], [11]])),
        apps_row(problem_id=14, input_output=calls([[3]], [[3, 4]]), starter_code=method, solutions=""),
        apps_row(problem_id=15, input_output=calls([[3]], [0.5])),
    )
    program, function, of_class, of_floats = read("apps", tmp_path)
    assert isinstance(program, Problem)
    assert isinstance(function, Problem)
    assert isinstance(of_class, Problem)
    assert isinstance(of_floats, Problem)
    assert [(test.input, test.output) for test in program.tests] == [("1", "2\n"), ("10\n", "11")]
    assert (program.id, program.difficulty, program.time_limit_s) == ("apps/test/12", "interview", 4)
    assert [(test.input, test.output) for test in function.tests] == [([3], 4), ([10], 11)]
    assert (function.entry_point, of_class.entry_point) == ("f", "Solution.f")
    assert [(test.input, test.output) for test in of_class.tests] == [([3], [3, 4])]
    assert isinstance(of_floats.checker, FloatChecker)
    assert judge.submit(program, Program(program.reference or "")).result().verdict == "AC"


def test_apps_folders_of_the_original_release_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "0012"
    folder.mkdir(parents=True)
    row = apps_row()
    for key, name in (("question", "question.txt"), ("input_output", "input_output.json")):
        (folder / name).write_text(row[key])
    (folder / "metadata.json").write_text('{"difficulty": "interview"}')
    problem = only("apps", tmp_path, difficulty="interview")
    assert (problem.id, len(problem.tests), problem.reference) == ("apps/test/0012", 2, None)
    assert read("apps", tmp_path, difficulty="competition") == []
    (folder / "input_output.json").write_text("{")
    assert "0012: input_output: not JSON" in str(read("apps", tmp_path)[0])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"input_output": ""}, "input_output: is empty"),
        ({"input_output": '{"inputs": [], "outputs": []}'}, "input_output: has no tests"),
        ({"input_output": "[]"}, "input_output: a list, not an object"),
        ({"input_output": '{"inputs": ["1"], "outputs": []}'}, "inputs and outputs are no lists of one length"),
        ({"input_output": '{"inputs": [3], "outputs": ["1"]}'}, r"inputs\[0\]: is 3: it should be text"),
        ({"input_output": calls(["a"], [1])}, r"inputs\[0\]: is 'a': it should be a list of arguments"),
        ({"input_output": calls([[{"1": 2}]], [1])}, r"inputs\[0\]: has whole numbers as keys"),
        ({"solutions": "{"}, "solutions: not JSON"),
        ({"question": 3}, "question: Input should be a valid string"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(apps_row(**changes)) + "\n" + json.dumps(apps_row(problem_id=13)) + "\n")
    error, fine = read("apps", path)
    assert isinstance(fine, Problem)
    with pytest.raises(GradingError, match=rf"test\.jsonl, line 1: .*{told}"):
        raise error if isinstance(error, GradingError) else AssertionError(error)


def test_what_cannot_be_judged_is_left_out_by_a_flag_and_what_is_damaged_is_not(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    rows = [
        codecontests(name="a", input_file="in.txt"),
        codecontests(name="b", public_tests=None, generated_tests=None),
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, codecontests()]) + "{\n")
    assert [isinstance(one, GradingError) for one in read("codecontests", path)] == [True, True, False, True]
    problem, error = read("codecontests", path, without_errata=True)
    assert isinstance(problem, Problem)
    assert "line 4: not JSON" in str(error)


def test_a_long_file_is_read_with_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    with path.open("w") as file:
        for number in range(400):
            file.write(json.dumps(apps_row(problem_id=number, question="x" * (1 << 15))) + "\n")
    tracemalloc.start()
    try:
        count = sum(1 for _ in each_problem_of("apps", path, Selection(), print))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (count, path.stat().st_size >> 20) == (400, 12)
    assert peak < 1 << 21


def test_numbers_may_be_long_and_texts_have_line_separators(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    number = 10**5000
    row = apps_row(question="a\u2028b", input_output=f'{{"fn_name": "f", "inputs": [[1]], "outputs": [{number}]}}')
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    problem = only("apps", path)
    assert (problem.tests[0].output, problem.statement) == (number, "a\u2028b")


def taco_row(**changes: Any) -> dict[str, Any]:
    row = apps_row(difficulty="EASY", time_limit="2.0 seconds", memory_limit="256.0 megabytes", source="codechef")
    return {key: value for key, value in row.items() if key != "problem_id"} | changes


def test_taco_rows_are_numbered_and_have_limits(tmp_path: Path, write: Write) -> None:
    rows = [taco_row() for _ in range(24)]
    rows[1] |= {"time_limit": None, "memory_limit": None}
    write(tmp_path / "ALL" / "test-00000-of-00001", *rows)
    found = [problem for problem in read("taco", tmp_path) if isinstance(problem, Problem)]
    assert [problem.id for problem in found] == [f"taco/test/{number}" for number in range(24)]
    assert (found[0].time_limit_s, found[0].memory_limit_mb) == (2, 256)
    assert (found[1].time_limit_s, found[1].memory_limit_mb) == (apps.TIME_LIMIT_S, apps.MEMORY_LIMIT_MB)
    assert found[5].metadata == {"platform": "codechef", "erratum": taco.ERRATA[5]}
    assert found[20].checker == TokensChecker.model_validate({"tokens": {"ignore_case": True}})
    assert isinstance(found[18].checker, FloatChecker)
    train = only("taco", write(tmp_path / "train-00000-of-00009", taco_row()))
    assert (train.id, train.checker) == ("taco/train/0", "tokens")  # the faults are those of the tasks for tests
    kept = read("taco", tmp_path / "ALL", without_errata=True, platform="codechef")
    assert len(kept) == 24 - sum(number < 24 for number in taco.ERRATA)
    assert len(taco.ERRATA) == 139


def test_taco_limits_in_other_words_are_named(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(taco_row(**{key: "soon"})) + "\n" for key in ("time_limit", "memory_limit")))
    assert ["line 1: time_limit: is 'soon'" in str(error) for error in read("taco", path)] == [True, False]
    assert "line 2: memory_limit: is 'soon'" in str(read("taco", path)[1])


def test_files_are_recognised_by_their_first_row(tmp_path: Path, write: Write) -> None:
    for name, row in (("codecontests", codecontests()), ("apps", apps_row()), ("taco", taco_row())):
        path = write(tmp_path / name, row)
        assert list(each_recognised_problem(path)) == read(name, path)


def test_own_files_have_a_name_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine:1.jsonl"
    problem = Problem(id="a", statement="", tests=[{"input": "", "output": "1"}], reference="print(1)")
    broken = problem.model_copy(update={"id": "b", "metadata": {"erratum": "is wrong"}})
    path.write_text("".join(one.model_dump_json(exclude_defaults=True) + "\n" for one in (problem, broken)))
    assert split_name(f"jsonl:{path}") == ("jsonl", path)
    main(["problems", "verify", f"jsonl:{path}", "--without-errata"])
    assert capsys.readouterr().out == "a: fine\n"
    with pytest.raises(SystemExit, match="2"):
        main(["problems", "verify", f"jsonl:{path}", "--difficulty", "hard"])
    assert "no problem of jsonl:" in capsys.readouterr().err


def test_only_known_keys_and_values_select(tmp_path: Path) -> None:
    for name, selected, told in (
        ("kattis", {"difficulty": "hard"}, "kattis cannot be selected by difficulty"),
        ("apps", {"difficulty": "hard"}, "apps has no difficulty 'hard'"),
        ("codecontests-plus", {"release": "6x"}, "codecontests-plus has no release '6x'"),
        ("mbpp", {"split": "all"}, "mbpp has no split 'all'"),
    ):
        with pytest.raises(GradingError, match=told):
            read(name, tmp_path, **selected)


def test_every_benchmark_is_described() -> None:
    for name, benchmark in BENCHMARKS.items():
        assert all(benchmark.facts().values()), name
    assert apps.DIFFICULTIES[0] in BENCHMARKS["apps"].facts()["selected by"]
