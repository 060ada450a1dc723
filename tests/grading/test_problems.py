import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.problems import fingerprint, load_problems
from alphamix.grading.types import FloatChecker, Problem, Test
from alphamix.text_lines import zstd_module

zstd = zstd_module()

ADD = {"id": "add", "statement": "Add one.", "tests": [{"input": "1\n", "output": "2\n"}]}
CALL = {**ADD, "id": "call", "tests": [{"input": [1], "output": 2}], "entry_point": "Solution.add"}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_reads_programs_and_functions(tmp_path: Path) -> None:
    floats = {**ADD, "id": "f", "checker": {"floats": {"abs": 0.1, "rel": 0}}, "time_limit_s": 0.5}
    problems = load_problems(write(tmp_path / "p.jsonl", ADD, "\n", CALL, floats))
    assert [problem.id for problem in problems] == ["add", "call", "f"]
    assert problems[1].entry_point == "Solution.add"
    assert isinstance(problems[2].checker, FloatChecker)


def test_keeps_unknown_keys_as_metadata(tmp_path: Path) -> None:
    lines = {**ADD, "source": "a contest", "metadata": {"year": 2024}}
    (problem,) = load_problems(write(tmp_path / "p.jsonl", lines))
    assert problem.metadata == {"year": 2024, "source": "a contest"}


def test_a_key_is_misspelt_only_if_the_problem_lacks_what_it_resembles(tmp_path: Path) -> None:
    (problem,) = load_problems(write(tmp_path / "p.jsonl", {**ADD, "test": "as published", "uid": 7}))
    assert problem.metadata == {"test": "as published", "uid": 7}


def test_tests_run_from_small_inputs_to_large_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    texts = [{"input": given, "output": ""} for given in ("long public", "ccc", "a", "bb", "d")]
    calls = [{"input": given, "output": 0} for given in ([[1, 2, 3]], [[1]], [[]])]
    of_texts = {**ADD, "tests": texts, "public_tests": 1}
    of_calls = {**CALL, "tests": calls}
    as_given = {**of_texts, "id": "given", "test_order": "given"}
    problems = load_problems(write(tmp_path / "p.jsonl", of_texts, of_calls, as_given))
    given = [[test.input for test in problem.tests] for problem in problems]
    assert given[0] == ["long public", "a", "d", "bb", "ccc"]
    assert given[1] == [[[]], [[1]], [[1, 2, 3]]]
    assert given[2] == ["long public", "ccc", "a", "bb", "d"]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("{", "not JSON"),
        ("[1]\n", "a list, not an object"),
        ({"id": "x", "statement": ""}, "tests is missing: add it"),
        ({**ADD, "id": ""}, "id is '': it should have at least 1 character"),
        ({**ADD, "tests": []}, "tests is []: it should have at least 1 item"),
        ({**ADD, "time_limit_s": 0}, "time_limit_s is 0: it should be above 0"),
        ({**ADD, "checker": "fuzzy"}, "checker is 'fuzzy': it should be \"tokens\""),
        ({**ADD, "entry_point": "a.b.c"}, "entry_point"),
        ({**ADD, "metadata": 3, "source": "x"}, "metadata"),
        ({**ADD, "tests": [{"input": [1], "output": 2}]}, "needs text as input and output"),
        ({**CALL, "tests": [{"input": 1, "output": 2}]}, "must be a list of arguments"),
        ({**ADD, "tests": [{"input": None, "output": None}]}, "needs text as input and output"),
        ({**ADD, "epilogue": "", "tests": [{"input": None, "output": ""}]}, "needs text as input and output"),
        ({**CALL, "epilogue": "", "tests": [{"input": None, "output": None}]}, "must be a list of arguments"),
        ({**ADD, "tests": [{"input": "", "output": "", "hidden": True}]}, "tests.0.hidden"),
        ({**ADD, "time_limit": 5}, "unknown key 'time_limit': did you mean 'time_limit_s'?"),
        ({**ADD, "memory_limt_mb": 5}, "did you mean 'memory_limit_mb'?"),
        ({**ADD}, "line 1 has the same id 'add'"),
        ({**ADD, "epilogue": "x = (\n"}, "the epilogue of 'add' does not compile (line 1: '(' was never closed)"),
        ({**ADD, "epilogue": "return 1"}, "the epilogue of 'add' does not compile (line 1: 'return' outside function)"),
        ({**ADD, "epilogue": "a\0b"}, "the epilogue of 'add' does not compile ("),
        (
            {**ADD, "epilogue": "import numpy as np"},
            "imports numpy, which is not in the standard library: name its package",
        ),
        ({**ADD, "epilogue": "def check():\n    from scipy.stats import norm"}, "of 'add' imports scipy"),
        ({**ADD, "checker": {"program": {"source": "exit(0"}}}, "the checker of 'add' does not compile"),
        (
            '{"id": "n", "statement": "", "entry_point": "f", "tests": [{"input": ['
            + "1" * 100_001
            + '], "output": 1}]}',
            "a number has more than 100,000 digits",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: Any, cause: str) -> None:
    path = write(tmp_path / "p.jsonl", ADD, line)
    with pytest.raises(GradingError, match="line 2") as caught:
        load_problems(path)
    assert str(path) in str(caught.value)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match=r"none\.jsonl: cannot be read"):
        load_problems(tmp_path / "none.jsonl")
    with pytest.raises(GradingError, match=r"empty\.jsonl: has no problems"):
        load_problems(write(tmp_path / "empty.jsonl", "\n\n"))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(GradingError, match="UTF-8"):
        load_problems(tmp_path / "binary.jsonl")


def test_fingerprint_follows_content_not_layout(tmp_path: Path) -> None:
    plain = load_problems(write(tmp_path / "a.jsonl", ADD))
    spelt_out = load_problems(write(tmp_path / "b.jsonl", "\n", {**dict(reversed(ADD.items())), "checker": "tokens"}))
    harder = load_problems(write(tmp_path / "c.jsonl", {**ADD, "time_limit_s": 1.0}))
    assert fingerprint(plain) == fingerprint(spelt_out)
    assert fingerprint(plain) != fingerprint(harder)
    assert fingerprint([*plain, *harder]) != fingerprint([*harder, *plain])


def test_imports_that_may_fail_are_no_fault(tmp_path: Path) -> None:
    epilogue = "try:\n    import numpy\nexcept ImportError:\n    pass\nimport math"
    (problem,) = load_problems(write(tmp_path / "p.jsonl", {**ADD, "epilogue": epilogue}))
    assert problem.epilogue == epilogue


def test_a_reference_changes_no_fingerprint(tmp_path: Path) -> None:
    (plain,) = load_problems(write(tmp_path / "a.jsonl", ADD))
    (solved,) = load_problems(write(tmp_path / "b.jsonl", {**ADD, "reference": "print(int(input()) + 1)"}))
    assert fingerprint([plain]) == fingerprint([solved])
    assert solved.reference is not None


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.jsonl.zst"])  # names do not matter
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_compressed_files_are_read(tmp_path: Path, name: str, pack: Callable[[bytes], bytes], mark: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(pack(mark + json.dumps(ADD).encode() + b"\n" + json.dumps(CALL).encode()))
    assert [problem.id for problem in load_problems(path)] == ["add", "call"]


@pytest.mark.parametrize(("pack", "kind"), [(gzip.compress, "gzip"), (zstd.compress, "Zstandard")])
def test_damaged_files_are_named(tmp_path: Path, pack: Callable[[bytes], bytes], kind: str) -> None:
    packed = pack(json.dumps({**ADD, "statement": repr(list(range(1000)))}).encode())
    for damaged in (packed[:-10], packed[:4], packed[:20] + bytes(40) + packed[60:]):
        path = tmp_path / "p.jsonl"
        path.write_bytes(damaged)
        with pytest.raises(
            GradingError, match=rf"p\.jsonl: cannot be read \(its {kind} content is damaged: "
        ) as caught:
            load_problems(path)
        assert "\n" not in str(caught.value)


def test_fingerprint_tells_infinity_from_null() -> None:
    problems = [
        Problem(id="p", statement="", tests=(Test(input=[], output=output),), entry_point="f")
        for output in (None, float("inf"), float("-inf"))
    ]
    assert len({fingerprint([problem]) for problem in problems}) == 3
    assert all(Problem.model_validate_json(problem.model_dump_json()) == problem for problem in problems)


@pytest.mark.parametrize(
    ("checker", "digest"),
    [
        ("tokens", "4c9b61b6afd2a03d"),
        ({"floats": {"abs": 0.1}}, "492518f2977a99a9"),
        ({"program": {"source": "import sys"}}, "4039e94d2ef2e59b"),
    ],
)
def test_fingerprints_of_older_runs_stay(checker: Any, digest: str) -> None:
    problem = Problem(id="a", statement="s", tests=[{"input": "1", "output": "2"}], checker=checker)
    assert fingerprint([problem]).startswith(digest)


def test_levels_are_nested_and_change_no_fingerprint() -> None:
    tests = [{"input": str(n), "output": ""} for n in range(3)]
    plain = Problem(id="a", statement="", tests=tests, test_order="given")
    with_levels = Problem(id="a", statement="", tests=tests, test_order="given", levels={"small": 1, "all": 3})
    assert fingerprint([plain]) == fingerprint([with_levels])
    for levels, order, told in (
        ({"all": 4}, "given", "they should grow, up to the 3 tests"),
        ({"a": 2, "b": 1}, "given", "they should grow"),
        ({"a": 1, "b": 1}, "given", "they should grow"),
        ({"a": 1}, "size", 'add "test_order": "given"'),
    ):
        with pytest.raises(GradingError, match=told):
            Problem(id="a", statement="", tests=tests, test_order=order, levels=levels)  # pyright: ignore[reportArgumentType]
