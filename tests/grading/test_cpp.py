"""C++ programs, compiled and run in the sandbox: every verdict, from real processes, in either tier."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.judge import judge as judge_module
from alphamix.grading.judge.judge import Judge
from alphamix.grading.sandbox import compiler, languages
from alphamix.grading.sandbox.confined import compilation
from alphamix.grading.types import Judgement, Problem, Program

MakeProblem = Callable[..., Problem]

ADD_ONE = [(f"{n}\n", f"{n + 1}\n") for n in range(3)]
HEAD = "".join(
    f"#include <{name}>\n"
    for name in ("cstdio", "cstdlib", "cstring", "string", "thread", "vector", "cerrno", "unistd.h", "fcntl.h",
                 "signal.h", "sys/socket.h", "sys/ptrace.h", "sys/mman.h", "sys/syscall.h")
) + "using namespace std;\n"  # fmt: skip
READ = 'int n; scanf("%d", &n); '
RIGHT = '#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d\\n", n + 1); }\n'

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(judge_module._TIERS, "strict", (request.param,))
        try:
            judge = Judge()
        except GradingError as error:
            pytest.skip(str(error))
        with judge:
            yield judge


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def verdict(judge: Judge, problem: Problem, source: str) -> Judgement:
    return judge.submit(problem, Program(source, "cpp")).result()


@pytest.mark.parametrize(
    ("body", "expected", "passed", "message"),
    [
        (READ + 'printf("%d\\n", n + 1);', "AC", 3, ""),
        (READ + 'printf("%d", n + 1); fflush(stdout); _exit(0);', "AC", 3, ""),
        (READ + 'thread t([&] { printf("%d", n + 1); }); t.join();', "AC", 3, ""),
        (READ + 'vector<char> v(100 << 20, 1); printf("%d", n + v[n]);', "AC", 3, ""),
        (READ + 'printf("%d", n < 2 ? n + 1 : 0);', "WA", 2, "answered '0'"),
        (READ + 'if (n == 1) return 3; printf("%d", n + 1);', "RE", 1, "exit code 3"),
        ("abort();", "RE", 0, "ended by Aborted"),
        ("volatile int* p = 0; *p = 1;", "RE", 0, "ended by Segmentation fault"),
        ("for (volatile long i = 0;; i++);", "TLE", 0, "of CPU, limit 0.3 s"),
        ("sleep(1000);", "ILE", 0, "limit 2 s"),
        ("vector<vector<char>> v; while (true) v.emplace_back(1 << 20, 1);", "MLE", 0, "limit 256 MB"),
        ("vector<char> v(4l << 30); puts(v.data());", "MLE", 0, "limit 256 MB"),
        ("throw bad_alloc();", "MLE", 0, "limit 256 MB"),
        ("char* volatile p; while (true) p = new char[64 << 20];", "MLE", 0, "requested too much memory"),
        ("try { vector<char> v(4l << 30); } catch (bad_alloc&) {} " + READ + 'printf("%d", n + 1);', "AC", 3, ""),
        ('fputs("what():  std::bad_alloc\\n", stderr); return 1;', "RE", 0, "exit code 1"),
        ('for (int i = 0; i < 99999; i++) fputs("noise", stderr); ' + READ + 'printf("%d", n + 1);', "AC", 3, ""),
        ("while (true) puts(string(9999, 'x').c_str());", "OLE", 0, "wrote 16777216 bytes or more"),
        ("return undeclared;", "CE", 0, "main.cpp:"),
    ],
)  # fmt: skip
def test_verdicts(judge: Judge, make_problem: MakeProblem, body: str, expected: str, passed: int, message: str) -> None:
    limit = 0.3 if expected in ("TLE", "ILE") else 2.0  # on a busy machine, 300 MB may take 0.3 s of CPU to touch
    problem = make_problem(*ADD_ONE, time_limit_s=limit)
    judgement = verdict(judge, problem, f"{HEAD}int main() {{ {body} }}\n")
    assert (judgement.verdict, judgement.tests_passed) == (expected, passed), judgement
    assert message in judgement.message
    assert judgement.first_failed_test == (None if expected in ("AC", "CE") else passed)


def test_compiling_does_not_count_towards_the_time_limit(judge: Judge, make_problem: MakeProblem) -> None:
    judgement = verdict(
        judge, make_problem(*ADD_ONE, time_limit_s=0.1), "#include <bits/stdc++.h>\nint main() { std::cout << 0; }"
    )
    assert judgement.verdict == "WA"  # not TLE, although compiling the header alone takes longer than the limit
    assert judgement.cpu_s < 0.1


def test_memory_is_what_the_program_itself_used(judge: Judge, make_problem: MakeProblem) -> None:
    assert verdict(judge, make_problem(*ADD_ONE, memory_limit_mb=4), RIGHT).verdict == "AC"
    heavy = HEAD + "int main() { " + READ + "string s(40 << 20, 'x'); printf(\"%d\", n + 1 + (s[n] == 'y')); }"
    judgement = verdict(judge, make_problem(*ADD_ONE, memory_limit_mb=64), heavy)
    assert judgement.verdict == "AC"
    assert 40 <= judgement.peak_rss_mb < 64
    assert verdict(judge, make_problem(*ADD_ONE, memory_limit_mb=32), heavy).verdict == "MLE"


FORBIDDEN = {
    "read a file of the host": 'fopen("/etc/passwd", "r") != 0',
    "read /proc": 'fopen("/proc/self/maps", "r") != 0',
    "write a file": 'fopen("alphamix-hostile", "w") != 0 || fopen("/var/tmp/alphamix-hostile", "w") != 0',
    "fork": "fork() >= 0",
    "vfork": "vfork() >= 0",
    "open a socket": "socket(AF_INET, SOCK_STREAM, 0) >= 0 || socket(AF_UNIX, SOCK_STREAM, 0) >= 0",
    "signal": "kill(getppid(), 0) == 0 || kill(-1, 0) == 0",
    "trace": "ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0",
    "make a memory file": 'memfd_create("x", 0) >= 0',
    "write its input": 'write(0, "x", 1) >= 0',
    "execute a shell": 'execl("/bin/sh", "sh", "-c", "true", (char*) 0) == 0 || errno != EPERM',
    "execute itself again": 'syscall(SYS_execveat, 63, "", 0, 0, AT_EMPTY_PATH) == 0 || errno != EBADF',
    "execute its output": 'syscall(SYS_execveat, 1, "", 0, 0, AT_EMPTY_PATH) == 0 || errno != EPERM',
    "execute its output in another place": 'dup2(1, 63), syscall(SYS_execveat, 63, "", 0, 0, AT_EMPTY_PATH) == 0',
    "find a descriptor of ours": "[] { int fd = 3; while (fd < 63 && fcntl(fd, F_GETFD) < 0) fd++; return fd < 63; }()",
}


def test_a_compiled_program_is_confined(judge: Judge, make_problem: MakeProblem) -> None:
    attempts = "\n".join(f'if ({attempt}) puts("could {name}");' for name, attempt in FORBIDDEN.items())
    judgement = verdict(judge, make_problem(("", "")), f"{HEAD}int main() {{ {attempts} }}")
    assert judgement.verdict == "AC", judgement


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('#include "/etc/passwd"\nint main() {}', "/etc/passwd"),
        ('asm(".incbin \\"/etc/passwd\\"");\nint main() {}', "/etc/passwd"),
        ("template<int n> struct F { F<n + 1> f; };\nint main() { F<0> f; }", "depth"),
        ("int x[] = {\n#include __FILE__\n};", ""),
        ("volatile int a[1 << 28] = {1};\nint main() { return a[5]; }", ""),
        ("int main() {", "main.cpp:1"),
        ("int f() { return 1; }", ""),
        ("\0\udc80", ""),
    ],
)
def test_hostile_or_broken_source_does_not_compile(
    judge: Judge, make_problem: MakeProblem, source: str, message: str
) -> None:
    judgement = verdict(judge, make_problem(*ADD_ONE), source)
    assert judgement.verdict == "CE", judgement
    assert message in judgement.message
    assert "root" not in judgement.message


SLOW = """
constexpr long f(long n) { long s = 0; for (long i = 0; i < n; i++) s += i % 7; return s; }
template<long n> struct S { static constexpr long v = f(250000 + n) + S<n - 1>::v; };
template<> struct S<0> { static constexpr long v = 0; };
int main() { return S<800>::v; }
"""
LARGE = "#include <bits/stdc++.h>\nint main() {}"


@pytest.mark.parametrize(
    ("limit", "value", "source"), [("CPU_S", 1, SLOW), ("ADDRESS_SPACE", 160 << 20, LARGE)], ids=["slow", "large"]
)
def test_a_compiler_that_takes_too_much_is_ce(
    make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, source: str
) -> None:
    monkeypatch.setitem(languages.LANGUAGES, "cpp", replace(languages.LANGUAGES["cpp"], proof="int main() {}"))
    monkeypatch.setattr(compilation, limit, value)
    with Judge() as judge:
        judgement = verdict(judge, make_problem(*ADD_ONE), source)
    assert judgement.verdict == "CE", judgement


def test_equal_sources_are_compiled_once(make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[bytes] = []
    run = compiler.Compiler._run

    def count(self: compiler.Compiler, about: Any, path: str, source: bytes, tier: compiler.Tier) -> object:
        runs.append(source)
        return run(self, about, path, source, tier)

    monkeypatch.setattr(compiler.Compiler, "_run", count)
    with Judge() as judge:
        for limit in (1.0, 2.0):
            assert verdict(judge, make_problem(*ADD_ONE, time_limit_s=limit), RIGHT).verdict == "AC"
    assert len(runs) == 2  # the proof that the compiler works, and the program


def test_without_a_compiler_no_program_is_wrong(make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with Judge() as judge:
        judgement = verdict(judge, make_problem(*ADD_ONE), RIGHT)
        assert judgement.verdict == "IE"
        assert "no g++" in judgement.message
        assert "apt install g++" in judgement.message
        assert judge.submit(make_problem(*ADD_ONE), Program("print(int(input()) + 1)")).result().verdict == "AC"


def test_a_compiler_that_does_not_work_makes_no_program_wrong(
    make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with Judge() as judge:
        judgement = verdict(judge, make_problem(*ADD_ONE), RIGHT)
    assert judgement.verdict == "IE"
    assert "does not compile a correct program" in judgement.message


def test_a_function_cannot_be_cpp(judge: Judge, make_problem: MakeProblem) -> None:
    judgement = verdict(judge, make_problem(([1], 1), entry_point="f"), RIGHT)
    assert judgement.verdict == "FE"
    assert "'f'" in judgement.message


def test_closing_ends_a_running_compiler(make_problem: MakeProblem, descendants: Callable[[int], set[int]]) -> None:
    before, descriptors = descendants(os.getpid()), open_descriptors()
    judge = Judge()
    future = judge.submit(make_problem(*ADD_ONE), Program("#include <bits/stdc++.h>\nint main() {}", "cpp"))
    deadline = time.monotonic() + 60
    while not any("cc1plus" in Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(os.getpid()) - before):
        assert time.monotonic() < deadline, "the compiler never ran"
    judge.close()
    with pytest.raises(GradingError, match="closed before"):
        future.result(timeout=0)
    while descendants(os.getpid()) - before:
        assert time.monotonic() < deadline, "a process outlived the judge"
    del judge, future
    assert open_descriptors() == descriptors


@pytest.mark.parametrize("num_open", [*range(54, 64), 1100])
def test_what_else_this_process_has_open_changes_nothing(
    make_problem: MakeProblem, monkeypatch: pytest.MonkeyPatch, num_open: int
) -> None:
    """The sandbox renumbers descriptors: at most 64 may be open, and number 63 is the executable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setitem(languages.LANGUAGES, "cpp", replace(languages.LANGUAGES["cpp"], proof=RIGHT))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while held[-1] < num_open:
            held.append(os.dup(held[0]))
        with Judge() as judge:
            for program in (Program(RIGHT, "cpp"), Program("print(int(input()) + 1)")):
                judgement = judge.submit(make_problem(*ADD_ONE), program).result()
                assert judgement.verdict == "AC", judgement
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


WITHOUT_STREAMS = """
import os
os.closerange(0, 3)
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Problem, Program, Test
with Judge() as judge:
    problem = Problem(id="p", statement="", tests=(Test(input="1\\n", output="2\\n"),))
    judgement = judge.submit(problem, Program("print(int(input()) + 1)")).result()
os._exit(0 if judgement.verdict == "AC" else 1)
"""


def test_a_service_without_standard_streams_judges_as_any_other() -> None:
    assert subprocess.run([sys.executable, "-c", WITHOUT_STREAMS], check=False, timeout=300).returncode == 0
