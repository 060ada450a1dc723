"""Problem packages, which these tests write themselves in both formats of Kattis."""

import os
import shutil
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble.cli import main
from alphamix.grading.benchmarks import kattis, packages
from alphamix.grading.benchmarks.catalog import each_problem_of
from alphamix.grading.benchmarks.kattis_validators import default_validator
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.checkers.compare import accepts
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import load_problems
from alphamix.grading.types import Problem, Program, ProgramChecker, TokensChecker
from alphamix.grading.verification import with_measured_limit

HELLO = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats" / "kattis" / "hello"
SUM = "print(sum(map(int, input().split())))\n"
FILES = {
    "problem.yaml": "name: Sum of Two\nlimits:\n  memory: 512\n  time_limit: 1.5\n",
    "statement/problem.en.md": "Add two numbers.\n",
    "data/sample/1.in": "1 2\n",
    "data/sample/1.ans": "3\n",
    "data/secret/small/1.in": "2 2\n",
    "data/secret/small/1.ans": "4\n",
    "data/secret/large/1.in": "2 2\n",
    "data/secret/large/1.ans": "4\n",
    "data/secret/large/2.in": "1000000 1\n",
    "data/secret/large/2.ans": "1000001\n",
    "submissions/accepted/sum.py": SUM,
    "submissions/wrong_answer/three.py": "print(3)\n",
}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""YAML that names a list of 10⁹ words in a kilobyte."""


def make(folder: Path, changes: dict[str, str | None] | None = None) -> Path:
    for name, text in (FILES | (changes or {})).items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """Zip a folder, with links as links."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder.parent).as_posix()
            if file.is_symlink():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o120777 << 16
                archive.writestr(entry, str(file.readlink()))
            else:
                archive.write(file, name)
    return path


def read(path: Path) -> list[Problem | GradingError]:
    return list(kattis.each(path, Selection()))


def only(path: Path) -> Problem:
    (problem,) = read(path)
    assert isinstance(problem, Problem), problem
    return problem


def error_of(path: Path) -> str:
    (error,) = read(path)
    assert isinstance(error, GradingError)
    return str(error)


def test_a_package_is_read_with_its_groups_as_levels(tmp_path: Path) -> None:
    problem = only(make(tmp_path / "sum"))
    assert [test.input for test in problem.tests] == ["1 2\n", "2 2\n", "1000000 1\n"]
    assert problem.levels == {"sample": 1, "small": 2, "large": 3}
    assert (problem.id, problem.public_tests, problem.reference) == ("sum", 1, SUM)
    assert (problem.time_limit_s, problem.memory_limit_mb, problem.metadata) == (1.5, 512, {"title": "Sum of Two"})
    assert problem.statement == (
        "Sum of Two\n\nAdd two numbers.\n\nSample Input 1:\n```\n1 2\n```\nSample Output 1:\n```\n3\n```\n"
    )


def test_the_legacy_format_is_read_as_well(tmp_path: Path) -> None:
    changes: dict[str, str | None] = {
        "problem.yaml": "license: cc by-sa\nvalidator_flags: float_tolerance 1e-4\n",
        "statement/problem.en.md": None,
        "problem_statement/problem.sv.tex": "\\problemname{Summa}\nAddera.\n",
        ".timelimit": "3\n",
    }
    problem = only(make(tmp_path / "sum", changes))
    assert problem.statement.startswith("Summa\n\nAddera.\n")
    assert (problem.time_limit_s, problem.memory_limit_mb) == (3, 2048)
    assert accepts(problem.checker, "1.0 A", "1.00005 a")  # pyright: ignore[reportArgumentType]
    only_default = only(make(tmp_path / "other", {"problem.yaml": "name: {sv: Summa, en: Sum}"}))
    assert only_default.metadata == {
        "title": "Sum",
        "time_limit": "the package states none: 10 s",
        "time_multiplier": 5,
    }


def test_groups_without_a_chain_become_unions_and_say_so(tmp_path: Path) -> None:
    problem = only(make(tmp_path / "sum", {"data/secret/large/1.in": "5 5\n", "data/secret/large/1.ans": "10\n"}))
    assert problem.levels == {"sample": 1, "large": 3, "small": 4}
    assert problem.metadata["levels"].startswith("unions")


def test_a_package_is_converted_and_its_solutions_are_judged(tmp_path: Path, judge: Judge) -> None:
    make(tmp_path / "in" / "sum")
    output = tmp_path / "problems.jsonl"
    main(["problems", "convert", f"kattis:{tmp_path / 'in'}", "--output", str(output), "--measure-limits"])
    (problem,) = load_problems(output)
    assert problem == only(tmp_path / "in")  # its limit is stated
    submitted = {
        name: judge.submit(problem, Program(text)) for name, text in FILES.items() if name.startswith("submissions/")
    }
    verdicts = {name.split("/")[1]: future.result().verdict.value for name, future in submitted.items()}
    assert verdicts == {"accepted": "AC", "wrong_answer": "WA"}


@pytest.mark.parametrize(
    ("limits", "multiplier"),
    [
        ("{}", 5),
        ("{time_multiplier: 2}", 2),
        ("{time_multipliers: 1}", 5),
        ("{time_multipliers: {time_limit_to_tle: 1.5}}", 2),
        ("{time_multipliers: {ac_to_time_limit: 3}}", 3),
    ],
)
def test_a_limit_that_is_not_stated_is_measured(tmp_path: Path, judge: Judge, limits: str, multiplier: float) -> None:
    slow = "import time\nwhile time.process_time() < 0.3: pass\n" + SUM
    changes: dict[str, str | None] = {"problem.yaml": f"limits: {limits}\n", "submissions/accepted/sum.py": slow}
    problem = only(make(tmp_path / "sum", changes))
    assert (problem.time_limit_s, problem.metadata["time_multiplier"]) == (10, multiplier)
    if limits != "{}":
        return
    measured = with_measured_limit(problem, judge)
    assert measured.time_limit_s in (2, 3)  # 0.3 s and a little, five times, rounded up
    assert measured.metadata["time_limit"].endswith(" s times 5, rounded up")
    assert with_measured_limit(measured, judge) is measured
    with pytest.raises(GradingError, match=r"sum: the reference fails test 0 \(WA"):
        with_measured_limit(problem.model_copy(update={"reference": "print(7)"}), judge)


CPP_VALIDATOR = """#include "validate.h"
int main(int argc, char **argv) {
    init_io(argc, argv);
    int n, one, other;
    judge_in >> n;
    if (!(std::cin >> one >> other)) wrong_answer("two numbers are needed");
    if (flag == "strict" && one > other) wrong_answer("not in order");
    if (one == 13) exit(0);
    if (one + other == n) exit(42);
    wrong_answer("the sum is wrong");
}
"""
HEADER = """#pragma once
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
static std::ifstream judge_in, judge_ans;
static std::ofstream message;
static std::string flag;
static void wrong_answer(const char *why) { message << why; message.close(); exit(43); }
static void init_io(int argc, char **argv) {
    judge_in.open(argv[1]);
    judge_ans.open(argv[2]);
    message.open(std::string(argv[3]) + "judgemessage.txt");
    if (!judge_in || !judge_ans || !message) exit(1);
    if (argc > 4) flag = argv[4];
}
"""
PYTHON_VALIDATOR = """import sys
n = int(open(sys.argv[1]).read())
open(sys.argv[2]).close()
one, other = map(int, input().split())
with open(sys.argv[3] + "judgemessage.txt", "w") as file:
    file.write("seen")
if one == 13:
    sys.exit(0)
if sys.argv[4:] == ["strict"] and one > other:
    sys.exit(43)
sys.exit(42 if one + other == n else 43)
"""
SPLIT: dict[str, str | None] = {
    "problem.yaml": "name: Split\nvalidation: custom\n",
    "data/testdata.yaml": "output_validator_flags: strict\n",
    "data/secret/large/2.in": None,
    "data/secret/large/2.ans": None,
    **{f"data/{name}.in": "10\n" for name in ("sample/1", "secret/small/1", "secret/large/1")},
    **{f"data/{name}.ans": "1 9\n" for name in ("sample/1", "secret/small/1", "secret/large/1")},
}


@pytest.mark.parametrize(
    "validator",
    [
        {"output_validators/v/validate.cc": CPP_VALIDATOR, "output_validators/v/validate.h": HEADER},
        {"output_validators/check.py": PYTHON_VALIDATOR},
    ],
)
def test_an_output_validator_runs_in_the_sandbox(tmp_path: Path, judge: Judge, validator: dict[str, str]) -> None:
    if judge.tier != "namespaces":
        pytest.skip("validators write files")
    problem = only(make(tmp_path / "split", {**SPLIT, **validator}))
    assert isinstance(problem.checker, ProgramChecker)
    assert (problem.checker.interface, problem.checker.arguments) == ("kattis", ("strict",))
    programs = [Program(f"print({answer!r})") for answer in ("4 6", "6 4", "4 5", "13 14")]
    first, second, third, broken = [judge.submit(problem, program).result() for program in programs]
    assert [first.verdict, second.verdict, third.verdict] == ["AC", "WA", "WA"]
    assert broken.verdict == "IE"  # a validator that ends with 0 says nothing
    assert "exit code 0: let it exit with 42 to accept, or 43 to reject" in broken.message


@pytest.mark.parametrize(
    ("flags", "expected", "answer", "is_right"),
    [
        ("", "Yes 1", "yes  1\n", True),
        ("", "1.0", "1.00", False),
        ("case_sensitive", "Yes", "yes", False),
        ("space_change_sensitive", "a b\n", "a  b\n", False),
        ("space_change_sensitive", "a b\n", "A b\n", True),
        ("float_tolerance 1e-6", "1000000", "1000000.5", True),
        ("float_absolute_tolerance 1e-6", "1000000", "1000000.5", False),
        ("float_relative_tolerance 1e-6", "1000000", "1000000.5", True),
        ("float_relative_tolerance 1e-6", "0", "1e-9", False),
        ("float_tolerance 1e-6", "x 1", "x 2", False),
    ],
)
def test_the_default_validator_has_its_flags(flags: str, expected: str, answer: str, is_right: bool) -> None:
    assert accepts(default_validator(flags.split()), expected, answer) is is_right


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"problem.yaml": "validation: custom interactive score\n"}, "is interactive, which cannot be judged"),
        ({"problem.yaml": "type: [pass-fail, multi-pass]\n"}, "is multi-pass"),
        ({"problem.yaml": "type: submit-answer\n"}, "is submit-answer"),
        ({"problem.yaml": "- a\n"}, "problem.yaml: a list: it should be a table"),
        ({"problem.yaml": "a: [\n"}, "problem.yaml: not YAML"),
        ({"problem.yaml": "a: !!python/object/apply:os.system [ls]\n"}, "problem.yaml: not YAML"),
        ({"problem.yaml": "limits: {memory: much}\n"}, "problem.yaml: limits.memory: is 'much'"),
        ({"problem.yaml": "limits: {time_limit: .inf}\n"}, "problem.yaml: limits.time_limit: is inf"),
        ({"problem.yaml": "limits: 3\n"}, "problem.yaml: limits: is 3"),
        ({"problem.yaml": f"{BOMB}type: *i\n"}, "problem.yaml: type: is a list"),
        ({"problem.yaml": f"{BOMB}limits: *i\n"}, "problem.yaml: limits: is a list"),
        ({"problem.yaml": f"{BOMB}limits: {{memory: *i}}\n"}, "problem.yaml: limits.memory: is a list"),
        ({"problem.yaml": "validator_flags: float_tolerance\n"}, "validator flag float_tolerance: has no number"),
        ({"problem.yaml": "validator_flags: loose\n"}, "validator flag 'loose'"),
        ({"problem.yaml": "validation: custom\n"}, "output_validators: has 0 files of Python, C\\+\\+ or Rust"),
        ({"data/secret/small/1.ans": None}, r"data/secret/small/1.in: has no 1.ans beside it"),
        ({"data/secret/small/1.yaml": "args: [a]\n"}, "data/secret/small/1.yaml: args: programs get no arguments"),
        ({"data/secret/small/test_group.yaml": "output_validator_args: [x]\n"}, "different flags"),
        ({"statement/problem.en.md": None}, "has no statement"),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    package = make(tmp_path / "sum", changes)
    (error,) = read(package)
    with pytest.raises(GradingError, match=f"^{package}: .*{told}"):
        raise error if isinstance(error, GradingError) else AssertionError(error)


def test_links_within_a_package_are_followed_and_others_refused(tmp_path: Path) -> None:
    package = make(tmp_path / "sum", {"data/secret/large/1.in": None, "data/secret/large/1.ans": None})
    for suffix in ("in", "ans"):
        (package / f"data/secret/large/1.{suffix}").symlink_to(f"../small/1.{suffix}")
    assert only(package) == only(make(tmp_path / "again" / "sum"))
    (package / "data/secret/small/2.in").symlink_to("/etc/hostname")
    assert "data/secret/small/2.in: is a link that leads out of the package" in error_of(package)
    (package / "data/secret/small/2.in").unlink()
    (package / "data/secret/small/again").symlink_to("..")
    assert "is a link to a folder that it is in" in error_of(package)
    (package / "data/secret/small/again").unlink()
    (package / "data/secret/small/2.in").symlink_to("none")
    assert "is a link to nothing" in error_of(package)


def test_zip_files_are_read_with_links_or_with_the_text_of_links(tmp_path: Path) -> None:
    package = make(tmp_path / "sum")
    expected = only(package)
    for suffix in ("in", "ans"):
        (package / f"data/secret/large/1.{suffix}").unlink()
        (package / f"data/secret/large/1.{suffix}").symlink_to(f"../small/1.{suffix}")
    assert only(zipped(package, tmp_path / "sum.zip")) == expected
    for suffix in ("in", "ans"):
        (package / f"data/secret/large/1.{suffix}").unlink()
        (package / f"data/secret/large/1.{suffix}").write_text(f"../small/1.{suffix}")
    assert only(zipped(package, tmp_path / "sum.kpp")) == expected
    assert sorted(tmp_path.glob("alphamix-*")) == []


def test_a_zip_file_cannot_write_outside_nor_through_a_link(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad/../../escaped", "x")
    assert "leads out of the package" in error_of(path)
    link = zipfile.ZipInfo("bad/data")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, str(tmp_path))
        archive.writestr("bad/data/escaped", "x")
    assert "is no zip file that can be read" in error_of(path)
    assert not (tmp_path / "escaped").exists()
    path.write_bytes(b"PK no")
    assert "is no zip file" in error_of(path)


def test_a_zip_bomb_and_a_huge_test_are_refused_with_flat_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MOST_FILE_BYTES", 1 << 23)
    package = make(tmp_path / "sum")
    (package / "data/secret/large/3.ans").write_text("1\n")
    with (package / "data/secret/large/3.in").open("wb") as file:
        os.truncate(file.fileno(), 1 << 30)  # a gigabyte that takes no space
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb/data/1.in", "w") as entry:
        for _ in range(9):
            entry.write(bytes(1 << 20))
    assert bomb.stat().st_size < 1 << 14
    tracemalloc.start()
    try:
        assert "data/secret/large/3.in: has 1,073,741,824 bytes, more than 8,388,608" in error_of(package)
        assert "bomb/data/1.in: has 9,437,184 bytes" in error_of(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22


def test_a_folder_of_packages_is_read_without_those_of_tools(tmp_path: Path) -> None:
    make(tmp_path / "final" / "sum")
    make(tmp_path / "testdata_tools" / "examples" / "sum")
    zipped(make(tmp_path / "apart" / "split"), tmp_path / "split.zip")
    make(tmp_path / "final" / "talk", {"problem.yaml": "type: interactive\n"})
    problems = each_problem_of("kattis", tmp_path, Selection(without_errata=True), print)
    assert [problem.id for problem in problems if isinstance(problem, Problem)] == ["split", "apart/split", "final/sum"]
    shutil.rmtree(tmp_path / "final" / "talk")
    ids = [problem.id if isinstance(problem, Problem) else str(problem) for problem in read(tmp_path)]
    assert ids == ["split", "apart/split", "final/sum"]
    with pytest.raises(GradingError, match="has no package"):
        read(tmp_path / "final" / "sum" / "data")


@pytest.mark.skipif(not HELLO.is_dir(), reason="needs the sample packages beside the repository")
def test_a_real_package_is_read_and_judged(judge: Judge) -> None:
    problem = only(HELLO)
    assert isinstance(problem.checker, TokensChecker)
    assert judge.submit(problem, Program(problem.reference or "")).result().verdict == "AC"
    assert judge.submit(problem, Program("print('Hello!')")).result().verdict == "WA"
