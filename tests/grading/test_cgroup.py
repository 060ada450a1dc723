"""Memory limits that the kernel enforces: what it kills is MLE, the sandbox survives, and no cgroup is left behind.

Most of it needs a machine where this process may divide its cgroup (v2); as root, every case is made from there.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphamix.grading.judge.judge import Judge
from alphamix.grading.sandbox import cgroup, controller, machine
from alphamix.grading.sandbox.controller import ProcessLimits, PythonProcess
from alphamix.grading.sandbox.launch import Tier
from alphamix.grading.sandbox.zygote_handle import TierUnavailableError, Zygote
from alphamix.grading.types import Problem, Program

MakeProblem = Callable[..., Problem]
REPOSITORY = Path(__file__).resolve().parents[2]
PARENT = cgroup.find_parent()
HOARDER = b"hoard = []\nwhile True: hoard.append(b'1' * (1 << 20))"
OFF_ITS_BOOKS = b"""
import socket, mmap
pairs = [socket.socketpair() for _ in range(25)]
for pair in pairs:
    pair[0].setblocking(False)
    try:
        while True: pair[0].send(b"x" * 4096)
    except OSError: pass
hoard = []
while True: hoard.append(b"1" * (1 << 18))
"""
MUCH_AND_A_LONG_ANSWER = b"""
import os
hoard = b"1" * (296 << 20)
for _ in range(240):
    os.write(1, b"x" * (1 << 16))
"""
LIMITS = ProcessLimits(cpu_s=20.0, memory_bytes=64 << 20)

needs_cgroup = pytest.mark.skipif(PARENT.path is None, reason=f"needs cgroup v2 memory: {PARENT.reason}")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make cgroups for others")


def groups() -> list[Path]:
    return [entry for entry in PARENT.path.iterdir() if entry.is_dir()] if PARENT.path else []


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn off the measurement of a program's memory while it runs."""
    monkeypatch.setattr(controller, "_POLL_S", 1000.0)


@pytest.fixture(params=["namespaces", "landlock", "weak"])
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    tier: Tier = request.param
    try:
        zygote = Zygote(tier)
    except TierUnavailableError as error:
        pytest.skip(str(error))
    yield zygote
    zygote.close()


@needs_cgroup
@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("source", [HOARDER, OFF_ITS_BOOKS])
def test_the_kernel_kills_the_program_and_not_the_zygote(zygote: Zygote, source: bytes) -> None:
    kills = cgroup.count_kills()
    for number in range(3):
        process = PythonProcess(zygote, source, None, LIMITS, 1)
        assert process.compile().verdict is None
        outcome = process.run_test(b"")
        process.end()
        assert (outcome.verdict, outcome.exit_code) == ("MLE", None), outcome
        assert outcome.peak_rss_bytes < LIMITS.memory_bytes + (80 << 20)
        assert cgroup.count_kills() == kills + number + 1
        assert not zygote.host_ran_out_of_memory()


@needs_cgroup
@pytest.mark.usefixtures("blind")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_kernel_kills_compiled_programs_too(make_problem: MakeProblem) -> None:
    hoarder = "#include <vector>\nint main() { std::vector<char> v(700 << 20, 1); return v[5]; }"
    with Judge() as judge:
        before, kills = groups(), cgroup.count_kills()
        judgement = judge.submit(make_problem(("", ""), time_limit_s=20), Program(hoarder, "cpp")).result()
        assert (judgement.verdict, groups()) == ("MLE", before), judgement
        assert cgroup.count_kills() == kills + 1
        assert judge.submit(make_problem(("", "1")), Program("print(1)")).result().verdict == "AC"


@needs_cgroup
def test_a_program_is_the_first_to_be_killed(zygote: Zygote) -> None:
    process = PythonProcess(zygote, b"", None, LIMITS, 1)
    score_of = {
        int(pid): int(Path(f"/proc/{pid}/oom_score_adj").read_text())
        for group in groups()
        for pid in (group / "cgroup.procs").read_text().split()
    }
    process.end()
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert score_of.pop(process.pid) == 1000
    assert set(score_of.values()) == {own}
    assert len(score_of) >= 1


@needs_cgroup
def test_the_limit_is_above_what_is_measured(zygote: Zygote) -> None:
    (group,) = groups()
    most = ProcessLimits(cpu_s=20.0, memory_bytes=300 << 20)
    process = PythonProcess(zygote, MUCH_AND_A_LONG_ANSWER, None, most, 1)
    assert process.compile().verdict is None
    assert process.run_test(b"y" * (40 << 20)).verdict is None  # input does not count as the program's memory
    process.end()
    assert 300 << 20 < int((group / "memory.max").read_text()) < 400 << 20
    PythonProcess(zygote, b"", None, LIMITS, 1).end()
    assert int((group / "memory.max").read_text()) < 160 << 20


@needs_cgroup
def test_a_cgroup_goes_with_its_sandbox(make_problem: MakeProblem) -> None:
    before = groups()
    with Judge(workers=2) as judge:
        assert len(groups()) == len(before) + 2
        assert judge.describe()["limits"]["memory"] == "cgroup v2"
    assert groups() == before


@needs_cgroup
def test_a_later_judge_clears_up_after_one_that_was_killed() -> None:
    script = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nfrom alphamix.grading.judge.judge import Judge\n"
    with subprocess.Popen(
        [sys.executable, "-c", script + "judge = Judge()\nprint(1, flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert any(group.name.startswith(f"{child.pid}-") for group in groups())
    subprocess.run([sys.executable, "-c", script + "Judge().close()"], check=True)
    assert not any(group.name.startswith(f"{child.pid}-") for group in groups())


INSIDE = """
import os, sys
repository, group, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, repository)
open(group + "/cgroup.procs", "w").write("0")
from alphamix.grading.judge.judge import Judge
from alphamix.grading.sandbox import cgroup, controller
from alphamix.grading.types import Problem, Program, Test
if uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    sys.executable = sys.argv[4]
controller._POLL_S = 1000.0
problem = Problem(id="p", statement="", tests=(Test(input="", output="1"),), time_limit_s=20)
with Judge() as judge:
    hoarder = judge.submit(problem, Program("x = [b'1' * (1 << 20) for _ in range(800)]\\nprint(1)")).result()
    good = judge.submit(problem, Program("print(1)")).result()
    held = judge.describe()["limits"]["memory"]
    print(held, cgroup.count_kills(), hoarder.verdict, good.verdict, cgroup.find_parent().reason, sep="|")
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup like those that a service manager makes."""
    assert PARENT.path is not None
    path = PARENT.path.parent / "alphamix-test"
    path.mkdir()
    yield path
    for folder in [*path.glob("*/*/"), *path.glob("*/"), path]:
        folder.rmdir()
    assert not path.exists()


def run_inside(group: Path, uid: int = 0) -> list[str]:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    command = [sys.executable, "-c", INSIDE, str(REPOSITORY), str(group), str(uid), python]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout, result.stderr
    return result.stdout.strip().split("|")


@needs_cgroup
@needs_root
@pytest.mark.parametrize("uid", [0, 12345])
def test_a_delegated_cgroup_is_divided(group: Path, uid: int) -> None:
    os.setxattr(group, "user.delegate", b"1")
    for path in (group, group / "cgroup.procs", group / "cgroup.subtree_control"):
        os.chown(path, uid, uid)
    assert run_inside(group, uid) == ["cgroup v2", "1", "MLE", "AC", ""]


@needs_cgroup
@needs_root
def test_a_cgroup_that_is_not_delegated_is_left_alone(group: Path) -> None:
    held, kills, hoarder, good, reason = run_inside(group)
    assert (held, kills, hoarder, good) == ("measured", "0", "MLE", "AC")
    assert reason == f"{group} has processes that may not be moved"
    assert [entry for entry in group.iterdir() if entry.is_dir()] == []


@needs_cgroup
@needs_root
def test_processes_of_others_are_not_moved(group: Path) -> None:
    os.setxattr(group, "user.delegate", b"1")
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        (group / "cgroup.procs").write_text(str(stranger.pid))
        held, _, _, good, _ = run_inside(group)
        assert (held, good) == ("measured", "AC")
        assert (group / "cgroup.procs").read_text().split() == [str(stranger.pid)]
        stranger.kill()


@pytest.mark.parametrize(
    ("controllers", "reason", "fix"),
    [
        (None, "not mounted", "systemd.unified_cgroup_hierarchy=1"),
        ("cpu pids", "not delegated to", "systemd-run"),
        ("cpu memory", "No such file or directory", "systemd-run"),
    ],
)
def test_the_doctor_says_why_cgroups_are_unavailable(
    controllers: str | None, reason: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last case the files have the right names, but no limit can be set."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    base = tmp_path / next((line[3:] for line in lines if line.startswith("0::")), "/").lstrip("/")
    base.mkdir(parents=True, exist_ok=True)
    if controllers is not None:
        (base / "cgroup.controllers").write_text(controllers)
    monkeypatch.setattr(cgroup, "_MOUNT", tmp_path)
    cgroup.find_parent.cache_clear()
    try:
        finding = next(tool for tool in machine.find_tools() if tool.name == "cgroup v2 memory")
    finally:
        cgroup.find_parent.cache_clear()
    assert not finding.ok
    assert reason in finding.detail
    assert fix in finding.fix
