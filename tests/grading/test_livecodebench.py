"""LiveCodeBench in the form of its published files, which these tests write themselves."""

import base64
import http.server
import json
import pickle
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble.cli import main
from alphamix.grading.benchmarks import hub, livecodebench, mbpp
from alphamix.grading.benchmarks.catalog import BENCHMARKS, each_problem_of
from alphamix.grading.benchmarks.recognised import each_recognised_problem
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import load_problems
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import FloatChecker, Problem

EVERYTHING = Selection()


def case(given: str, expected: str) -> dict[str, str]:
    return {"input": given, "output": expected, "testtype": "stdin"}


def packed(content: Any, protocol: int = 4) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(content, protocol))).decode()


def row(**changes: Any) -> dict[str, Any]:
    private = [case("100\n", "101\n"), case("20\n", "21\n")]
    return {
        "question_title": "Successor",
        "question_content": "Read n and print n + 1.\n",
        "platform": "atcoder",
        "question_id": "abc301_a",
        "contest_id": "abc301",
        "contest_date": "2024-08-01T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([case("1\n", "2\n")]),
        "private_test_cases": packed(json.dumps(private)),
        "metadata": "{}",
    } | changes


METHOD = row(
    question_title="Sum of All",
    platform="leetcode",
    question_id=2701,  # older files hold whole numbers
    contest_date="2025-01-31T23:30:00",
    starter_code="class Solution:\n    def total(self, start: int, values: List[int]) -> int:\n        ",
    difficulty="hard",
    public_test_cases=json.dumps([case("1\n[2, 3]", "6")]),
    private_test_cases=json.dumps([case("10\n[]", "10")]),
    metadata='{"func_name": "total"}',
)


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def read(path: Path, **selected: Any) -> list[Problem]:
    problems = list(livecodebench.each(path, Selection(**selected)))
    assert all(isinstance(problem, Problem) for problem in problems), problems
    return [problem for problem in problems if isinstance(problem, Problem)]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder that holds the first two releases."""
    write(tmp_path / "test.jsonl", row(), METHOD)
    write(tmp_path / "test2.jsonl", row(question_id="abc311_c", contest_date="2023-07-15"))
    return tmp_path


def test_public_tests_come_first_and_hidden_ones_by_size(release: Path) -> None:
    program, method, _ = read(release)
    assert [(test.input, test.output) for test in program.tests] == [
        ("1\n", "2\n"),
        ("20\n", "21\n"),
        ("100\n", "101\n"),
    ]
    assert (program.public_tests, program.entry_point, program.prologue) == (1, None, None)
    assert [(test.input, test.output) for test in method.tests] == [([1, [2, 3]], 6), ([10, []], 10)]
    assert (method.id, method.entry_point, method.difficulty) == ("2701", "Solution.total", "hard")
    assert method.metadata == {"title": "Sum of All", "platform": "leetcode", "date": "2025-01-31"}


def test_answers_are_judged_as_models_give_them(release: Path, judge: Judge) -> None:
    program, method, _ = read(release)
    body = "        return start + sum(values)\n"
    whole = f"class Solution:\n    def total(self, start: int, values: List[int]) -> int:\n{body}"
    for problem, answer in (
        (program, "```python\nprint(int(input()) + 1)\n```"),
        (method, f"```python\n{whole}```"),
        (method, body),
    ):
        code = program_of(answer, problem, is_code=False)
        assert code is not None
        assert judge.submit(problem, code).result().verdict == "AC"


def test_the_window_includes_its_last_day(release: Path) -> None:
    def ids(**selected: Any) -> list[str]:
        return [problem.id for problem in read(release, **selected)]

    assert ids() == ["abc301_a", "2701", "abc311_c"]
    assert ids(release="v1") == ids(release="release_v1") == ["abc301_a", "2701"]
    assert ids(release="v2_v2") == ["abc311_c"]
    assert ids(before=date(2025, 1, 31), after=date(2024, 8, 2)) == ["2701"]  # though its contest began at 23:30
    assert ids(difficulty="easy", platform="atcoder") == ["abc301_a", "abc311_c"]
    assert ids(without_errata=True) == ["abc301_a", "2701"]


def test_known_faults_are_named(tmp_path: Path) -> None:
    peaks = METHOD | {"question_title": "Find the Peaks"}
    faulty, peaks_problem, fine = read(
        write(tmp_path / "t.jsonl", row(question_id="abc350_c"), peaks, row(question_title="Find the Peaks"))
    )
    assert faulty.metadata["erratum"] == "has wrong tests"
    assert "several right answers" in peaks_problem.metadata["erratum"]
    assert "erratum" not in fine.metadata  # the same title on another platform is another problem
    assert len(livecodebench.ERRATA) == 17


def test_answers_with_fractions_get_a_tolerance(tmp_path: Path) -> None:
    fractions = row(public_test_cases=json.dumps([case("1\n", "0.5 1e-3\n")]))
    versions = row(question_id="b", public_test_cases=json.dumps([case("1\n", "a1.5b 1.2.3\n")]))
    of_a_method = METHOD | {"private_test_cases": json.dumps([case("1\n[]", "[1, 2.5]")])}
    tiny = of_a_method | {"question_id": "d", "private_test_cases": json.dumps([case("1\n[]", "1e-7")])}
    rows = fractions, versions, of_a_method, tiny
    checkers = [problem.checker for problem in read(write(tmp_path / "t.jsonl", *rows))]
    assert [isinstance(checker, FloatChecker) for checker in checkers] == [True, False, True, True]


def test_parquet_rows_are_the_same_problems(release: Path, tmp_path: Path) -> None:
    pyarrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "release_v1"
    folder.mkdir()
    rows = [row(), METHOD | {"question_id": "2701"}]
    for number, one in enumerate(rows):
        parquet.write_table(pyarrow.Table.from_pylist([one]), folder / f"test-{number:05}.parquet")
    expected = read(release, release="v1")
    for file in release.glob("*.jsonl"):
        file.unlink()
    assert read(tmp_path, release="v1") == read(folder) == expected


class _Bomb:
    def __reduce__(self) -> Any:
        return eval, ("1/0",)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"private_test_cases": packed(_Bomb())},
            r"private_test_cases: a pickle of more than one text \(.*\), which may run code",
        ),
        ({"private_test_cases": packed(["[]", "[]"])}, "private_test_cases: a pickle of more than one text"),
        ({"private_test_cases": packed(b"[]")}, "private_test_cases: a pickle of more than one text"),
        ({"private_test_cases": packed(3)}, "private_test_cases: a pickle of more than one text"),
        ({"private_test_cases": packed("no")}, "private_test_cases: not JSON"),
        ({"private_test_cases": base64.b64encode(zlib.compress(b"\x80\x04")).decode()}, "a damaged pickle"),
        ({"private_test_cases": "?"}, "private_test_cases: neither JSON nor packed"),
        ({"private_test_cases": base64.b64encode(b"plain").decode()}, "neither JSON nor packed"),
        ({"public_test_cases": "{}"}, "public_test_cases: a dict, not a list"),
        ({"public_test_cases": '[{"input": 3}]'}, r"public_test_cases\[0\]: no object with the texts input and output"),
        ({"metadata": "[]"}, "metadata: a list, not an object"),
        ({"contest_date": "soon"}, "contest_date: "),
        ({"platform": "spoj"}, "platform: "),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, r"tests is \[\]: it should have at least 1 item"),
        ({"metadata": '{"func_name": "f g"}'}, "entry_point is 'Solution.f g'"),
    ],
)
def test_a_malformed_row_is_named(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    first, second = livecodebench.each(write(tmp_path / "t.jsonl", row(**changes), row(question_id="b")), EVERYTHING)
    assert isinstance(first, GradingError)
    assert str(first).startswith(f"{tmp_path / 't.jsonl'}, line 1: ")
    with pytest.raises(GradingError, match=told):
        raise first
    assert isinstance(second, Problem)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_one_text_is_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    text = json.dumps([case("é\n", "1\n")], ensure_ascii=False)
    (problem,) = read(write(tmp_path / "t.jsonl", row(private_test_cases=packed(text, protocol))))
    assert problem.tests[1].input == "é\n"


def test_what_unpacks_to_too_much_is_refused_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livecodebench, "MOST_TEST_BYTES", 1 << 16)
    path = write(tmp_path / "t.jsonl", row(private_test_cases=packed("x" * (1 << 24))))
    tracemalloc.start()
    try:
        (error,) = livecodebench.each(path, EVERYTHING)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, GradingError)
    assert "unpacks to more than 65,536 bytes" in str(error)
    assert peak < 1 << 21


def test_a_row_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alphamix.grading.benchmarks.rows.MOST_LINE_BYTES", 100)
    with pytest.raises(GradingError, match="line 1: longer than 100 bytes"):
        read(write(tmp_path / "t.jsonl", row()))


def test_other_problems_are_not_unpacked(tmp_path: Path) -> None:
    poisoned = row(question_id="b", private_test_cases="?", difficulty="hard")
    assert len(read(write(tmp_path / "t.jsonl", row(), poisoned), difficulty="easy")) == 1


def test_two_rows_with_one_id_are_refused(release: Path) -> None:
    write(release / "test2.jsonl", row())
    *_, error = livecodebench.each(release, EVERYTHING)
    assert "has the same id 'abc301_a'" in str(error)


@pytest.mark.parametrize(
    ("selected", "told"),
    [
        ({"release": "v3"}, "lacks test3.jsonl"),
        ({"release": "v7"}, "release 'v7' is unknown: name v1 to v6"),
        ({"release": "v2_v1"}, "is unknown"),
        ({"release": "newest"}, "is unknown"),
    ],
)
def test_a_release_must_be_whole(selected: dict[str, Any], told: str, release: Path) -> None:
    with pytest.raises(GradingError, match=told):
        read(release, **selected)


def test_a_single_file_is_known_by_its_first_line_and_has_no_releases(release: Path) -> None:
    path = release / "test.jsonl"
    assert list(each_recognised_problem(path)) == read(path)
    with pytest.raises(GradingError, match="is one file, which has no releases"):
        read(path, release="v1")
    with pytest.raises(GradingError, match=r"neither test\.jsonl nor Parquet files"):
        read(release.parent)


def test_the_command_converts_what_is_selected(release: Path, tmp_path: Path) -> None:
    output = tmp_path / "problems.jsonl"
    command = ["problems", "convert", "livecodebench", "--path", str(release), "--output", str(output)]
    main([*command, "--difficulty", "hard"])
    assert load_problems(output) == read(release, difficulty="hard")
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--after", "2030-01-01"])
    assert load_problems(output) == read(release, difficulty="hard")  # a failed command changes nothing


class _Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for the files of a dataset."""

    folder: Path
    revision: str

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        if path.startswith("/api/"):
            revision, name = path.rpartition("/")[2], "list"
            files = [
                file.relative_to(self.folder).as_posix() for file in sorted(self.folder.rglob("*")) if file.is_file()
            ]
            tree = [{"type": "file", "path": file, "oid": "0" * 40, "size": 1} for file in files]
            about = {"id": "a/b", "sha": revision, "siblings": [{"rfilename": file} for file in files]}
            content = json.dumps(tree if "/tree/" in path else about).encode()
        else:
            revision, _, name = path.partition("/resolve/")[2].partition("/")
            content = (self.folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{name}"')
        self.send_header("X-Repo-Commit", revision)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def local_hub(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    constants: Any = pytest.importorskip("huggingface_hub.constants")
    api: Any = pytest.importorskip("huggingface_hub.hf_api")
    monkeypatch.setattr(_Hub, "folder", release, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(api.api, "endpoint", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield
        server.shutdown()


def test_a_release_is_fetched_from_the_hub_after_its_size_and_licence_were_told(local_hub: None, release: Path) -> None:
    told: list[str] = []
    problems = list(each_problem_of("livecodebench", None, Selection(release="v2"), told.append))
    assert problems == read(release, release="v2")
    assert len(told) == 1
    assert "test.jsonl, test2.jsonl of livecodebench/code_generation_lite at 0fe84c39: 1,963 MB" in told[0]
    assert BENCHMARKS["livecodebench"].licence in told[0]


@pytest.mark.parametrize(
    ("name", "files", "selected"),
    [
        ("mbpp", mbpp.FILES, {}),
        ("humaneval", ("openai_humaneval/test-00000-of-00001.parquet",), {}),
        (
            "codecontests",
            ("data/train-00000-of-00039-e9.parquet", "data/train-00001-of-00039-e0.parquet"),
            {"split": "train"},
        ),
        ("apps", ("train.jsonl",), {"split": "train"}),
    ],
)
def test_each_benchmark_of_the_hub_is_found_where_it_is_published(
    local_hub: None, release: Path, name: str, files: tuple[str, ...], selected: dict[str, Any]
) -> None:
    rows = {
        "mbpp": {"task_id": 11, "text": "", "test_list": ["assert f(1) == 2"]},
        "humaneval": {"task_id": "H/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(f): assert f()"},
        "codecontests": {"name": "a", "description": "", "private_tests": {"input": ["1"], "output": ["1"]}},
        "apps": {"id": 3, "question": "", "input_output": '{"inputs": ["1"], "outputs": ["1"]}'},
    }
    for number, file in enumerate(files):
        (release / file).parent.mkdir(parents=True, exist_ok=True)
        row = rows[name] | ({"task_id": 11 + number} if name == "mbpp" else {"name": str(number)})
        write(release / file, row)  # JSON lines, whatever the name: what a file is, its first bytes tell
    told: list[str] = []
    problems = list(each_problem_of(name, None, Selection(**selected), told.append))
    assert [isinstance(problem, Problem) for problem in problems] == [True] * len(files), problems
    assert BENCHMARKS[name].licence in told[0]


def test_a_file_that_the_hub_lacks_is_told(local_hub: None, release: Path) -> None:
    files = hub.HubFiles("livecodebench/other", "0" * 40, {"missing.jsonl": 0.5}, lambda _: ["missing.jsonl"])
    with pytest.raises(
        GradingError, match=r"cannot be fetched .*: check network access, or give its files with --path"
    ):
        hub.fetch(files, EVERYTHING, "MIT", lambda _: None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mbpp", "--path", "m.jsonl", "--release", "v2"], "mbpp cannot be selected by release"),
        (["kattis"], "kattis is read from a local copy"),
        (["livecodebench", "--path", "nowhere", "--difficulty", "harsh"], "livecodebench has no difficulty 'harsh'"),
        (["jsonl:a.jsonl", "--path", "b.jsonl"], "both say where the problems are"),
        (["p.jsonl", "--difficulty", "hard"], "--difficulty belongs to a benchmark"),
        (["livecodebench", "--path", "nowhere"], "nowhere: cannot be read"),
        (["livecodebench", "--after", "tomorrow"], "YYYY-MM-DD"),
    ],
)
def test_wrong_arguments_are_told(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["problems", "convert", *arguments, "--output", str(tmp_path / "o.jsonl")])
    assert told in capsys.readouterr().err


def test_benchmarks_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["problems", "list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(BENCHMARKS)
    main(["problems", "show", "livecodebench", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["known faults"] == "17 problems"
    assert "4,478 MB" in facts["fetched"]
