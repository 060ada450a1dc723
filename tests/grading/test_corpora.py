"""Two corpora of program files: no hostile one may gain anything, no benign one may lose anything.

Each file is named after the property that it attacks, or the idiom that it uses. Both run in either tier.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest

from grading import judge as judge_module
from grading.judge import Judge
from grading.types import GradingError, Judgement, Problem

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
BENIGN = {path.stem: path.read_bytes().decode() for path in sorted((PROGRAMS / "benign").glob("*.py"))}
HOSTILE = {path.stem: path.read_bytes().decode() for path in sorted((PROGRAMS / "hostile").glob("*.py"))}
SUM = (("3\n1 2 3\n", "6\n"), ("1\n5\n", "5\n"), ("5\n1 1 1 1 1\n", "5\n"))
CANARY = "alphamix-canary"
"""Stands in every expected output of the hostile runs; no program can know it."""
PLACES = ("/", "/tmp", "/var/tmp", "/dev/shm", "/run", "~", ".", sysconfig.get_path("stdlib"))

MakeProblem = Callable[..., Problem]
Futures = dict[str, "Future[Judgement]"]


def hostile_problem(make_problem: MakeProblem, code: str) -> Problem:
    if code.startswith("# entry_point: solve\n"):
        tests = [([n], f"{CANARY}-{n}") for n in range(3)]
        return make_problem(*tests, time_limit_s=0.3, entry_point="solve")
    return make_problem(*[(f"{n}\n", f"{CANARY}-{n}\n") for n in range(3)], time_limit_s=0.3)


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def tiered_judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    """A judge that must use one tier; several workers, so that programs are each other's neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(judge_module._TIERS, "strict", (request.param,))
        try:
            judge = Judge(workers=4)
        except GradingError as error:
            pytest.skip(str(error))
        with judge:
            yield judge


@pytest.fixture(scope="module")
def hostile(tiered_judge: Judge, make_problem: MakeProblem) -> Futures:
    return {name: tiered_judge.submit(hostile_problem(make_problem, code), code) for name, code in HOSTILE.items()}


@pytest.fixture(scope="module")
def benign(tiered_judge: Judge, make_problem: MakeProblem, hostile: Futures) -> Futures:
    problem = make_problem(*SUM)
    return {name: tiered_judge.submit(problem, code) for name, code in BENIGN.items()}


def test_the_corpora_are_large_enough() -> None:
    assert len(HOSTILE) >= 40
    assert len(BENIGN) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_is_judged_and_not_accepted(hostile: Futures, name: str) -> None:
    judgement = hostile[name].result()
    assert judgement.verdict not in ("AC", "IE"), judgement
    assert CANARY not in judgement.message


@pytest.mark.parametrize("name", BENIGN)
def test_benign_program_is_accepted(benign: Futures, name: str) -> None:
    judgement = benign[name].result()
    assert judgement.verdict == "AC", judgement


def test_hostile_programs_leave_nothing_behind(
    tiered_judge: Judge, hostile: Futures, descendants: Callable[[int], set[int]]
) -> None:
    for future in hostile.values():
        future.result()
    per_zygote = 2 if tiered_judge.tier == "namespaces" else 1  # a keeper, and the zygote itself
    deadline = time.monotonic() + 60
    while len(descendants(os.getpid())) > 4 * per_zygote:
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)
    for place in PLACES:
        assert not list(Path(place).expanduser().glob("*alphamix-hostile*"))


def test_no_expected_output_enters_the_sandbox(
    tiered_judge: Judge, make_problem: MakeProblem, descendants: Callable[[int], set[int]]
) -> None:
    """Read the memory of a zygote and of its program, which waits, and look for the expected output."""
    needle, given = "-".join((CANARY, "in", "memory")), "-".join(("here", "is", "the", "input"))
    problem = make_problem((given, needle), time_limit_s=1000)  # the idle limit is as long
    before, memories = descendants(os.getpid()), [b""]
    with Judge() as judge:
        assert judge.tier == tiered_judge.tier
        judge.submit(problem, "line = input()\nimport time\ntime.sleep(1000)")
        deadline = time.monotonic() + 60
        while not any(given.encode() in memory for memory in memories):  # so the search finds what is there
            assert time.monotonic() < deadline, "the program never read its input"
            memories = [read_memory(pid) for pid in descendants(os.getpid()) - before]
        assert not any(needle.encode() in memory for memory in memories)


def read_memory(pid: int) -> bytes:
    if os.geteuid() != 0:
        pytest.skip("only root can read another process's memory")
    chunks: list[bytes] = []
    with suppress(FileNotFoundError, ProcessLookupError), Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, access = line.split()[:2]
            start, end = (int(bound, 16) for bound in span.split("-"))
            if access.startswith("rw"):
                memory.seek(start)
                with suppress(OSError):  # guard pages
                    chunks.append(memory.read(end - start))
    return b"".join(chunks)


AS_ORDINARY_USER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from grading import judge as judge_module
from grading.types import Problem, Test
os.setgroups([])
os.setresgid(12345, 12345, 12345)
os.setresuid(12345, 12345, 12345)
sys.executable = sys.argv[2]
judge_module._TIERS["strict"] = (sys.argv[3],)
problem = Problem(id="p", statement="", tests=(Test(input="1\\n", output="2\\n"),))
with judge_module.Judge() as judge:
    good = judge.submit(problem, "print(int(input()) + 1)").result()
    forker = judge.submit(problem, "import os\\nos.fork()\\nprint(2)").result()
    reader = judge.submit(problem, "open('/etc/passwd')\\nprint(2)").result()
    print(judge.tier, good.verdict, forker.verdict, reader.verdict)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_holds_for_an_ordinary_user(tier: str) -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    version = subprocess.run(
        [python or "false", "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
    )
    if version.stdout.strip() != b"True":
        pytest.skip("needs a Python >= 3.11 that every user can run")
    repository = str(PROGRAMS.parents[1])
    arguments = [sys.executable, "-c", AS_ORDINARY_USER, repository, str(python), tier]
    result = subprocess.run(arguments, capture_output=True, text=True)
    if "cannot be judged safely" in result.stderr:
        pytest.skip(result.stderr.strip().splitlines()[-1])
    assert result.stdout.split() == [tier, "AC", "RE", "RE"], result.stderr
