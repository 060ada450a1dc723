"""`alphamix grade` and `alphamix doctor` as their users meet them: files, exit codes, and what a kill leaves."""

import gzip
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble import cli
from alphamix.ensemble.cli.commands import doctor
from alphamix.ensemble.interchange.record_schema import SampleKey
from alphamix.ensemble.interchange.verdict_file import VerdictFile, VerdictsLostError
from alphamix.ensemble.run import grading_loop
from alphamix.grading.errors import GradingError
from alphamix.grading.parallel.batch import Judged
from alphamix.grading.sandbox import machine
from alphamix.grading.types import Judgement, Verdict
from alphamix.grading.workspace import WorkspacePool, WorkspaceUnavailableError
from alphamix.text_lines import zstd_module

from .conftest import DOUBLE, write_humaneval

Run = Callable[..., int]
zstd = zstd_module()
REPOSITORY = Path(__file__).resolve().parents[2]

PROBLEMS = [
    {"id": name, "statement": "", "tests": [{"input": f"{n}\n", "output": f"{factor * n}\n"} for n in range(1, 4)]}
    for name, factor in (("double", 2), ("triple", 3))
]
RIGHT, WRONG_AT_LAST, ENDLESS = "print({f} * int(input()))", "n = int(input())\nprint({f} * n + n // 3)", "while 1: 0"


def sample(problem: str, policy: str, index: int, program: str, **more: Any) -> dict[str, Any]:
    factor = {"double": 2, "triple": 3}.get(problem, 0)
    text = {"completion": f"Here:\n```python\n{program.format(f=factor)}\n```"}
    return {"problem_id": problem, "policy": policy, "index": index, **text, **more}


SAMPLES = [
    sample("double", "low", 0, RIGHT),
    sample("triple", "low", 0, WRONG_AT_LAST, finish_reason="stop", setting="reasoning", unknown=[1]),
    sample("double", "low", 1, "return", finish_reason="length"),
    {"problem_id": "double", "policy": "high", "index": 0, "completion": "I don't know."},
    {"problem_id": "triple", "policy": "high", "index": 0, "completion": "no", "code": "print(3 * int(input()))"},
    sample("triple", "high", 1, WRONG_AT_LAST),
]


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_verdicts(path: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    verdicts = [json.loads(line) for line in path.read_text().splitlines()]
    by_key = {(one["problem_id"], one["policy"], one["index"]): one for one in verdicts}
    assert len(by_key) == len(verdicts)
    return by_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lines(tmp_path / "P.jsonl", PROBLEMS)
    write_lines(tmp_path / "S.jsonl", SAMPLES)
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    files = {"problems": "P.jsonl", "samples": "S.jsonl", "output": "V.jsonl"}
    named = [text for option, name in files.items() for text in (f"--{option}", str(folder / name))]
    return ["grade", *named, "--workers", "1", *more]


@pytest.fixture
def run(folder: Path) -> Run:
    def run(*more: str) -> int:
        try:
            cli.main(arguments(folder, *more))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def test_samples_become_verdicts(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    verdicts = read_verdicts(folder / "V.jsonl")
    assert {key: (one["verdict"], one["failure"], one["tests_passed"]) for key, one in verdicts.items()} == {
        ("double", "low", 0): ("AC", None, 3),
        ("triple", "low", 0): ("WA", "correctness", 2),
        ("double", "low", 1): ("CE", "exhausted", 0),
        ("double", "high", 0): ("FE", "format", 0),
        ("triple", "high", 0): ("AC", None, 3),
        ("triple", "high", 1): ("WA", "correctness", 2),
    }
    one = verdicts["triple", "low", 0]
    assert (one["num_tests"], one["first_failed_test"], one["message"]) == (3, 2, "answered '10\\n'")
    assert one["judge"].keys() >= {"version", "sandbox", "limits"}
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith(("│", "┃"))]
    table = [[cell.strip() for cell in row[1:-1]] for row in rows]
    assert ["low", "3", "1", "1", "1", "0", "0", "1", "0", "1"] in table
    assert ["high", "3", "1", "1", "0", "1", "0", "1", "1", "0"] in table


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_compressed_samples_become_the_same_verdicts(run: Run, folder: Path, pack: Callable[[bytes], bytes]) -> None:
    for name in ("P.jsonl", "S.jsonl"):
        (folder / name).write_bytes(pack(b"\xef\xbb\xbf" + (folder / name).read_bytes()))
    assert run() == 0
    verdicts = read_verdicts(folder / "V.jsonl")
    assert verdicts["triple", "high", 0]["verdict"] == verdicts["double", "low", 0]["verdict"] == "AC"
    assert verdicts["triple", "low", 0]["tests_passed"] == 2


def test_json_counts(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["samples"], summary["graded"], summary["owed"], summary["skipped"]) == (6, 6, 0, 0)
    assert summary["policies"]["high"] == {
        "samples": 3,
        "verdicts": {"FE": 1, "AC": 1, "WA": 1},
        "failures": {"format": 1, "correctness": 1},
    }


def test_all_tests_are_run_where_that_is_asked_for(run: Run, folder: Path) -> None:
    write_lines(folder / "S.jsonl", [sample("double", "low", 0, "n = int(input())\nprint({f} * n + (n == 1))")])
    assert run("--all-tests", "--quiet") == 0
    (verdict,) = read_verdicts(folder / "V.jsonl").values()
    assert verdict["passed_tests"] == [False, True, True]


BODY = "    return [2 * n for n in numbers]"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ({"completion": f"{BODY}\n"}, "AC"),
        ({"completion": f"It is:\n```python\n{DOUBLE.splitlines()[-1]}\n{BODY}\n```"}, "AC"),
        ({"completion": "    return [0, 0]"}, "WA"),
        ({"completion": "I don't know."}, "FE"),
        ({"code": f"{DOUBLE}{BODY}"}, "AC"),
        ({"code": BODY}, "CE"),  # code is judged as it stands
    ],
)
def test_completions_go_on_from_the_prologue(text: dict[str, str], verdict: str, run: Run, folder: Path) -> None:
    write_humaneval(folder / "P.jsonl")
    write_lines(folder / "S.jsonl", [{"problem_id": "compared", "policy": "low", "index": 0, **text}])
    assert run("--quiet") == 0
    (graded,) = read_verdicts(folder / "V.jsonl").values()
    assert graded["verdict"] == verdict, graded["message"]


def test_what_is_there_is_kept_and_a_torn_line_is_owed_again(run: Run, folder: Path) -> None:
    output = folder / "V.jsonl"
    assert run("--quiet") == 0
    lines = output.read_text().splitlines(keepends=True)
    kept = lines[0].replace('"message": "', '"message": "kept ')
    output.write_text(kept + lines[1] + lines[2][: len(lines[2]) // 2])
    assert run("--quiet") == 0
    assert output.read_text().startswith(kept + lines[1])
    assert len(read_verdicts(output)) == 6
    before = output.read_bytes()
    assert run("--quiet") == 0
    assert output.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 1, 5, 16, 17, 40])
def test_a_line_torn_anywhere_is_cut_off(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "V.jsonl"
    with VerdictFile(path) as verdicts:
        verdicts.append(
            [(SampleKey("p", "low", n), Judgement(Verdict.AC, 1, 1, None, 0.1, 1.0), None, {}) for n in (0, 1)]
        )
    whole, torn = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole + torn[:keep])
    with VerdictFile(path) as verdicts:
        assert list(verdicts.marks) == [SampleKey("p", "low", 0)]
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"problem_id": "p"}\n', "line 1: not a verdict"),
        ("not a file of ours", "line 1: not a verdict"),
        (
            '{"problem_id": "p", "policy": "low", "index": 0, "verdict": "OK", "failure": null}\n',
            "line 1: not a verdict",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_left_alone(
    content: str, cause: str, run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "V.jsonl").write_text(content)
    assert run() == 2
    assert cause in capsys.readouterr().err
    assert (folder / "V.jsonl").read_text() == content


def test_one_writer_at_a_time(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VerdictFile(folder / "V.jsonl"):
        assert run() == 2
    assert "another process is writing" in capsys.readouterr().err


def test_failures_of_the_judge_are_owed_and_not_written(
    run: Run, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = grading_loop.judge_all

    def strike(*given: Any) -> Iterator[list[Judged]]:
        for judged in real(*given):
            struck = Judgement(Verdict.IE, 0, 3, None, 0.0, 0.0, "struck by lightning")
            yield [Judged(one.number, struck, {}) if one.number in (1, 3) else one for one in judged]

    monkeypatch.setattr(grading_loop, "judge_all", strike)
    assert run() == 3
    assert "2 verdicts are still owed:\n  2 × struck by lightning" in capsys.readouterr().err
    assert len(read_verdicts(folder / "V.jsonl")) == 4
    monkeypatch.undo()
    assert run() == 0
    assert len(read_verdicts(folder / "V.jsonl")) == 6


BAD_LINES = [
    ("{", "not JSON"),
    ("[1]", "a list, not an object"),
    ('{"policy": "low", "index": 0, "code": ""}', "problem_id: Field required"),
    ('{"problem_id": "double", "policy": 3, "index": 0, "code": ""}', "policy is 3, not text"),
    ('{"problem_id": "double", "policy": "low", "index": true, "code": ""}', "index is true, not a whole number"),
    ('{"problem_id": "double", "policy": "low", "index": 9}', "neither code nor completion is text"),
    (
        '{"problem_id": "double", "policy": "low", "index": 9, "code": "", "finish_reason": 1}',
        "finish_reason is 1, not text",
    ),
    (b"\xff", "not JSON"),
    ("[" * 100_000, "recursion"),
]


@pytest.mark.parametrize(("line", "cause"), BAD_LINES)
def test_malformed_lines_are_named_and_skipped_only_if_asked(
    line: str | bytes, cause: str, run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = folder / "S.jsonl"
    bad = line.encode() if isinstance(line, str) else line
    samples.write_bytes(samples.read_bytes() + b"\n" + bad + b"\n" + samples.read_bytes()[:0])
    assert run() == 2
    error = capsys.readouterr().err
    assert f"{samples}, line 8: " in error
    assert cause in error
    assert "--skip-bad" in error
    assert not (folder / "V.jsonl").exists()
    assert run("--skip-bad", "--quiet") == 0
    assert "line 8" in capsys.readouterr().err
    assert len(read_verdicts(folder / "V.jsonl")) == 6


@pytest.mark.parametrize(
    ("extra", "cause"),
    [
        (sample("quadruple", "low", 0, RIGHT), "line 7: unknown problem 'quadruple'"),
        (sample("double", "low", 0, RIGHT), "line 7: sample 0 of 'low' at 'double' is in line 1 already"),
    ],
)
def test_samples_that_fit_nowhere_are_named(
    extra: dict[str, Any], cause: str, run: Run, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(folder / "S.jsonl", [*SAMPLES, extra])
    assert run("--skip-bad") == 2
    assert cause in capsys.readouterr().err
    assert not (folder / "V.jsonl").exists()


def test_missing_files_are_named(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "S.jsonl").unlink()
    assert run() == 2
    assert "S.jsonl cannot be read (No such file or directory)" in capsys.readouterr().err
    assert run("--output", str(folder / "no" / "V.jsonl"), "--samples", str(folder / "P.jsonl"), "--skip-bad") == 2
    assert "V.jsonl cannot be opened (No such file or directory)" in capsys.readouterr().err


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow above `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing_written(tmp_path: Path) -> None:
    path = tmp_path / "V.jsonl"
    accepted = Judgement(Verdict.AC, 1, 1, None, 0.1, 1.0)
    with VerdictFile(path) as verdicts:
        verdicts.append([(SampleKey("p", "low", 0), accepted, None, {})])
        before = path.read_bytes()
        with (
            room_for(len(before) + 50),
            pytest.raises(VerdictsLostError, match=r"cannot be written \(File too large\): its 1 verdicts are kept"),
        ):
            verdicts.append([(SampleKey("p", "low", n), accepted, None, {}) for n in (1, 2)])
        assert path.read_bytes() == before
        verdicts.append([(SampleKey("p", "low", 3), accepted, None, {})])
        assert [key.index for key in verdicts.marks] == [0, 3]
    assert len(read_verdicts(path)) == 2


def test_a_full_disk_is_one_clear_line(run: Run, folder: Path) -> None:
    write_lines(folder / "S.jsonl", [sample("double", "low", n, f"{RIGHT}  # {n}") for n in range(60)])
    command = [sys.executable, "-m", "alphamix", *arguments(folder, "--quiet")]
    limited = ["bash", "-c", 'ulimit -S -f 12 && exec "$@"', "bash", *command]  # files of 12 KiB at most
    process = subprocess.run(limited, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, check=False)
    kept = len(read_verdicts(folder / "V.jsonl"))
    assert 0 < kept < 60
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert f"cannot be written (File too large): its {kept} verdicts are kept; make room" in line
    assert run("--quiet") == 0
    assert len(read_verdicts(folder / "V.jsonl")) == 60


def test_an_unsafe_machine_ends_with_1(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Iterator[list[Judged]]:
        raise GradingError("programs cannot be judged safely on this machine: pass --sandbox=weak")
        yield

    monkeypatch.setattr(grading_loop, "judge_all", refuse)
    assert run() == 1
    assert "cannot be judged safely" in capsys.readouterr().err


def test_backends_that_cannot_be_had_are_usage_errors(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--address", "tcp://host:1") == 2
    assert "loky runs on this machine only" in capsys.readouterr().err


def test_a_killed_command_goes_on_where_it_stopped(run: Run, folder: Path) -> None:
    slow = "import time\ntime.sleep(0.02)\n" + RIGHT
    write_lines(folder / "S.jsonl", [sample("double", "low", n, f"{slow}  # {n}") for n in range(30)])
    output = folder / "V.jsonl"
    command = [sys.executable, "-m", "alphamix", *arguments(folder, "--quiet")]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        deadline = time.monotonic() + 120
        while not output.exists() or not output.read_bytes():
            assert time.monotonic() < deadline, "no verdict was written"
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    kept = output.read_bytes()
    assert run("--quiet") == 0
    assert output.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert len(read_verdicts(output)) == 30


def test_an_interrupted_command_says_so(folder: Path) -> None:
    write_lines(
        folder / "S.jsonl", [sample("double", "low", n, f"import time; time.sleep(1)  # {n}") for n in range(40)]
    )
    command = [sys.executable, "-m", "alphamix", *arguments(folder, "--quiet", "--workers", "2")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (folder / "V.jsonl").exists():
            assert time.monotonic() < deadline, "grading never began"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted: repeat the command" in error


def test_the_doctor_tells_what_grading_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["tiers"].keys() == {"namespaces", "landlock"}
    assert report["sandbox"] == next((name for name, tier in report["tiers"].items() if tier["ok"]), None)
    assert end.value.code == (0 if report["sandbox"] else 1)
    for tier in report["tiers"].values():
        assert tier["ok"] == (not tier["reason"] and all(tier["probes"].values()))
        assert tier["ok"] or tier["fix"]
    findings = [*report["tools"].values(), *report["extras"].values()]
    assert {one["name"] for one in findings} >= {
        "g++",
        "workspaces",
        "cgroup v2 memory",
        "cores",
        "local",
        "dask",
        "ray",
        "vllm",
    }
    assert all(one["ok"] or one["fix"] for one in findings)


def test_the_doctor_names_what_is_open_and_its_fix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = [
        machine.TierFinding("namespaces", False, "unshare: Operation not permitted", "sudo sysctl -w user.x=1"),
        machine.TierFinding("landlock", False, fix="boot anew", probes={"forking": True, "tracing": False}),
    ]
    monkeypatch.setattr(doctor, "find_tiers", lambda: tiers)
    tool = machine.ToolFinding("g++", False, "absent", "apt-get install g++")

    def no_workspaces(_: WorkspacePool) -> None:
        raise WorkspaceUnavailableError("landlock_create_ruleset: refused", "boot anew")

    monkeypatch.setattr(doctor, "find_tools", lambda: [tool])
    monkeypatch.setattr(WorkspacePool, "check", no_workspaces)
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor"])
    assert end.value.code == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "missing sandbox tier: namespaces (unshare: Operation not permitted)" in lines
    assert "fix: sudo sysctl -w user.x=1" in lines
    assert "ok closed: forking" in lines
    assert "missing open: tracing" in lines
    assert "missing g++ (absent)" in lines
    assert "fix: apt-get install g++" in lines
    at = lines.index("missing workspaces (landlock_create_ruleset: refused)")
    assert lines[at + 1] == "fix: boot anew"
    assert any("--sandbox=weak" in line for line in lines)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"/proc/sys/user/max_user_namespaces": "0"}, "sudo sysctl -w user.max_user_namespaces=10000"),
        ({"/proc/sys/kernel/unprivileged_userns_clone": "0"}, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({}, "use Linux 5.12 or newer, built with CONFIG_USER_NS, on x86-64 or aarch64"),
    ],
)
def test_the_fix_for_namespaces_is_what_denies_them(
    settings: dict[str, str], fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.cgroup, "read_if_present", lambda path: settings.get(str(path), ""))
    monkeypatch.setattr(machine, "_in_container", lambda: False)
    assert machine.fix_namespaces() == fix


def test_a_missing_compiler_comes_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    release = {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}
    monkeypatch.setattr(machine.platform, "freedesktop_os_release", lambda: release)
    finding = next(one for one in machine.find_tools() if one.name == "g++")
    assert (finding.ok, finding.fix) == (False, "sudo apt-get install g++")
