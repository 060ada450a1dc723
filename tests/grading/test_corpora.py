"""Two corpora of program files: no hostile one may gain anything, no benign one may lose anything.

Each file is named after the property that it attacks, or the idiom that it uses. All run in either tier, and behind
every hostile program a plain one runs in the same sandbox, which must not notice.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.judge import judge as judge_module
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Judgement, Problem, Program

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
NUM_JUDGES = 4
SUM = (("3\n1 2 3\n", "6\n"), ("1\n5\n", "5\n"), ("5\n1 1 1 1 1\n", "5\n"))
PLAIN = "input()\nprint(sum(map(int, input().split())))\n# after "
CANARY = "alphamix-canary"
"""Part of every expected output of the hostile runs; no program can know it."""
PLACES = ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "~", ".", sysconfig.get_path("stdlib"))
KERNEL_TABLES = tuple(Path("/proc") / name for name in ("net/unix", "sysvipc/msg", "sysvipc/sem", "sysvipc/shm"))
KEYS_TAKEN = range(0x616C7068, 0x616C7068 + 100)
"""Keys of System V IPC objects, which the hostile program `system_v_ipc` requests."""

MakeProblem = Callable[..., Problem]
Futures = dict[str, "Future[Judgement]"]


def read_programs(folder: str) -> dict[str, Program]:
    """Return the programs of a folder by file name, with those in C++ only if there is a compiler."""
    python = {path.name: Program(path.read_bytes().decode()) for path in sorted((PROGRAMS / folder).glob("*.py"))}
    cpp = {path.name: Program(path.read_text(), "cpp") for path in sorted((PROGRAMS / folder).glob("*.cpp"))}
    return python | (cpp if shutil.which("g++") else {})


BENIGN, HOSTILE = read_programs("benign"), read_programs("hostile")


@pytest.fixture(scope="module")
def strangers(descendants: Callable[[int], set[int]]) -> set[int]:
    """Processes that other tests have left behind, such as idle workers of a pool."""
    return descendants(os.getpid())


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def judges(request: pytest.FixtureRequest, strangers: set[int]) -> Iterator[list[Judge]]:
    """Judges that must use one tier. Each has one sandbox, which runs programs in the order of their submission."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setitem(judge_module._TIERS, "strict", (request.param,))
        try:
            judges = [stack.enter_context(Judge()) for _ in range(NUM_JUDGES)]
        except GradingError as error:
            pytest.skip(str(error))
        yield judges


@pytest.fixture(scope="module")
def problems(make_problem: MakeProblem) -> tuple[Problem, Problem, Problem]:
    """One problem to solve, and two for hostile programs: with standard input and output, and with a function."""
    texts = [(f"{n}\n", f"{CANARY}-{n}\n") for n in range(3)]
    calls = [([n], f"{CANARY}-{n}") for n in range(3)]
    return (
        make_problem(*SUM),
        make_problem(*texts, time_limit_s=0.3),
        make_problem(*calls, time_limit_s=0.3, entry_point="solve"),
    )


@pytest.fixture(scope="module")
def runs(judges: list[Judge], problems: tuple[Problem, Problem, Problem]) -> tuple[Futures, Futures, Futures]:
    """Submit everything: the hostile programs, the plain ones behind them, and the benign ones."""
    to_solve, of_texts, of_calls = problems
    hostile: Futures = {}
    behind: Futures = {}
    for index, (name, program) in enumerate(HOSTILE.items()):
        judge = judges[index % NUM_JUDGES]
        of_program = of_calls if program.source.startswith("# entry_point: solve\n") else of_texts
        hostile[name] = judge.submit(of_program, program)
        behind[name] = judge.submit(to_solve, Program(PLAIN + name))
    benign = {
        name: judges[index % NUM_JUDGES].submit(to_solve, program)
        for index, (name, program) in enumerate(BENIGN.items())
    }
    return hostile, behind, benign


@pytest.mark.parametrize(
    ("programs", "suffix", "number"),
    [(BENIGN, ".py", 60), (HOSTILE, ".py", 80), (BENIGN, ".cpp", 8), (HOSTILE, ".cpp", 12)],
)
def test_the_corpora_are_large_enough(programs: dict[str, Program], suffix: str, number: int) -> None:
    if suffix == ".cpp" and not shutil.which("g++"):
        pytest.skip("needs g++")
    assert sum(name.endswith(suffix) for name in programs) >= number


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_is_judged_and_not_accepted(runs: tuple[Futures, Futures, Futures], name: str) -> None:
    judgement = runs[0][name].result()
    assert judgement.verdict not in ("AC", "IE"), judgement
    assert CANARY not in judgement.message
    assert "root:" not in judgement.message  # from /etc/passwd, which a compiler could quote


@pytest.mark.parametrize("name", HOSTILE)
def test_the_next_program_notices_nothing(runs: tuple[Futures, Futures, Futures], name: str) -> None:
    judgement = runs[1][name].result()
    assert judgement.verdict == "AC", judgement


@pytest.mark.parametrize("name", BENIGN)
def test_benign_program_is_accepted(runs: tuple[Futures, Futures, Futures], name: str) -> None:
    judgement = runs[2][name].result()
    assert judgement.verdict == "AC", judgement


def test_hostile_programs_leave_nothing_behind(
    judges: list[Judge],
    runs: tuple[Futures, Futures, Futures],
    descendants: Callable[[int], set[int]],
    strangers: set[int],
) -> None:
    for futures in runs:
        for future in futures.values():
            future.result()
    per_zygote = 2 if judges[0].tier == "namespaces" else 1  # the keeper and the zygote itself
    num_zygotes = sum(thread.name == "judge" for thread in threading.enumerate())  # more, where programs idled
    deadline = time.monotonic() + 60
    while len(descendants(os.getpid()) - strangers) > num_zygotes * per_zygote:
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)
    for place in PLACES:
        assert not list(Path(place).expanduser().glob("*alphamix-hostile*"))
    for table in KERNEL_TABLES:
        lines = table.read_text().splitlines() if table.exists() else []
        assert not any("alphamix-hostile" in line for line in lines)
        assert not {line.split()[0] for line in lines} & {str(key) for key in KEYS_TAKEN}


def test_no_expected_output_enters_the_sandbox(
    judges: list[Judge], make_problem: MakeProblem, descendants: Callable[[int], set[int]]
) -> None:
    """Read the memory of a zygote and of its program, which waits, and look for the expected output."""
    needle, given = "-".join((CANARY, "in", "memory")), "-".join(("here", "is", "the", "input"))
    problem = make_problem((given, needle), time_limit_s=1000)  # the idle limit is as long
    before, memories = descendants(os.getpid()), [b""]
    with Judge() as judge:
        assert judge.tier == judges[0].tier
        judge.submit(problem, Program("line = input()\nimport time\ntime.sleep(1000)"))
        deadline = time.monotonic() + 60
        while not any(given.encode() in memory for memory in memories):  # proves that the search can find a text
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
from alphamix.grading.judge import judge as judge_module
from alphamix.grading.types import Problem, Program, Test
os.setgroups([])
os.setresgid(12345, 12345, 12345)
os.setresuid(12345, 12345, 12345)
sys.executable = sys.argv[2]
judge_module._TIERS["strict"] = (sys.argv[3],)
problem = Problem(id="p", statement="", tests=(Test(input="1\\n", output="2\\n"),))
with judge_module.Judge() as judge:
    good = judge.submit(problem, Program("print(int(input()) + 1)")).result()
    forker = judge.submit(problem, Program("import os\\nos.fork()\\nprint(2)")).result()
    reader = judge.submit(problem, Program("open('/etc/passwd')\\nprint(2)")).result()
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
