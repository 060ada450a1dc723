"""Rust programs, compiled and run in the sandbox, in either tier."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.judge import judge as judge_module
from alphamix.grading.judge.judge import Judge
from alphamix.grading.programs.extract import extract_program, guess_language
from alphamix.grading.types import Problem, Program

MakeProblem = Callable[..., Problem]

RIGHT = """use std::io::*;
fn main() {
    let mut text = String::new();
    stdin().read_to_string(&mut text).unwrap();
    println!("{}", text.trim().parse::<i64>().unwrap() + 1);
}
"""


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def rust(request: pytest.FixtureRequest) -> Iterator[Judge]:
    if shutil.which("rustc") is None or shutil.which("gcc") is None:
        pytest.skip("needs rustc and gcc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(judge_module._TIERS, "strict", (request.param,))
        try:
            with Judge() as judge:
                yield judge
        except GradingError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize(
    ("source", "verdict", "message"),
    [
        (RIGHT, "AC", ""),
        (RIGHT.replace("+ 1", "+ 2"), "WA", "answered '3"),
        ('fn main() { panic!("no"); }', "RE", "exit code 101"),
        ("fn main() { loop {} }", "TLE", "limit 0.5 s"),
        ("fn main() { let mut v = Vec::new(); loop { v.push(vec![1u8; 1 << 20]); } }", "MLE", "limit 256 MB"),
        ("fn main() { let n: i32 = true; }", "CE", "error"),
        ('fn main() { println!("{}", include_str!("/etc/passwd")); }', "CE", "/etc/passwd"),
        ('fn main() { std::fs::read("/etc/passwd").unwrap(); }', "RE", "exit code 101"),
        ('fn main() { std::process::Command::new("/bin/sh").spawn().unwrap(); }', "RE", "exit code 101"),
        ('fn main() { std::net::TcpListener::bind("127.0.0.1:0").unwrap(); }', "RE", "exit code 101"),
    ],
)
def test_verdicts(rust: Judge, make_problem: MakeProblem, source: str, verdict: str, message: str) -> None:
    problem = make_problem(("1", "2"), time_limit_s=0.5)
    judgement = rust.submit(problem, Program(source, "rust")).result()
    assert judgement.verdict == verdict, judgement
    assert message in judgement.message
    assert "root:" not in judgement.message


def test_without_a_compiler_no_program_is_wrong(make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with Judge() as judge:
        judgement = judge.submit(make_problem(("1", "2")), Program(RIGHT, "rust")).result()
    assert (judgement.verdict, "no rustc: install it" in judgement.message) == ("IE", True)


def test_rust_is_found_in_completions() -> None:
    assert extract_program(f"So:\n```rust\n{RIGHT}```\n") == Program(RIGHT, "rust")
    assert extract_program(f"```rs\n{RIGHT}```") == Program(RIGHT, "rust")
    assert extract_program(f"```\n{RIGHT}```") == Program(RIGHT, "rust")
    assert extract_program(RIGHT) == Program(RIGHT, "rust")
    assert guess_language("# fn main() {\nprint(1)") == "python"
