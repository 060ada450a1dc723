"""What a workspace offers: a shell, a Python session, files, limits, and results that say what happened."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.grading.errors import GradingError
from alphamix.grading.sandbox.packages import Packages, find_packages
from alphamix.grading.workspace import (
    CallLimits,
    CallResult,
    FileRefusedError,
    Workspace,
    WorkspaceError,
    WorkspaceLimits,
    WorkspacePool,
)
from alphamix.grading.workspace.connection import Connection
from alphamix.grading.workspace.output import kept_bytes, show

PATIENT = CallLimits(cpu_s=30.0, wall_s=600.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        pool.check()
        yield pool


@pytest.fixture
def workspace(pool: WorkspacePool) -> Iterator[Workspace]:
    with pool.open() as workspace:
        yield workspace


def shell(workspace: Workspace, command: str, stdin: bytes = b"") -> str:
    return workspace.run(command, PATIENT, stdin=stdin).result().stdout.text


def python(workspace: Workspace, code: str) -> CallResult:
    return workspace.run_python(code, PATIENT).result()


class TestShell:
    def test_runs_what_agents_expect(self, workspace: Workspace) -> None:
        command = (
            "echo one > a; mkdir -p b/c; mv a b/c/; ln -s b/c/a link; cat link; chmod +x link; "
            "timeout 60 echo two 2> /dev/null; cat <(echo three); [ -w /dev/shm ] && [ -w /tmp ] && pwd; "
            "python3 -c 'print(4)'; seq 9 | sort -r | head -1; touch -d 2001-01-01 b; ls -d b"
        )
        assert shell(workspace, command) == "one\ntwo\nthree\n/workspace\n4\n9\nb\n"

    @pytest.mark.skipif(not os.access("/usr/bin/g++", os.X_OK), reason="needs g++")
    def test_compiles_and_runs_a_program(self, workspace: Workspace) -> None:
        workspace.write(
            "main.cpp", b'#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d\\n", n + 1); }'
        )
        assert shell(workspace, "g++ main.cpp -o main && ./main", stdin=b"41") == "42\n"

    def test_remembers_the_directory_and_nothing_else(self, workspace: Workspace) -> None:
        assert shell(workspace, "x=1; mkdir d; cd d; (exit 3)") == ""
        assert shell(workspace, 'pwd; echo "[$x]"') == "/workspace/d\n[]\n"
        shell(workspace, "cd /tmp; exit 5")
        assert shell(workspace, "pwd") == "/tmp\n"
        shell(workspace, "cd /workspace/d")
        python(workspace, "import os; os.rmdir('/workspace/d')")
        assert shell(workspace, "pwd") == "/workspace\n"
        assert shell(workspace, "mkdir e; cd e; rmdir ../e") == ""
        assert shell(workspace, "pwd") == "/workspace\n"

    def test_says_how_a_command_ended(self, workspace: Workspace) -> None:
        ends = {"true": ("ok", 0), "exit 3": ("error", 3), "kill -9 $$": ("killed", -9), "nonsense": ("error", 127)}
        for command, end in ends.items():
            result = workspace.run(command, PATIENT).result()
            assert (result.ended, result.exit_code) == end

    def test_shows_both_streams_together_or_apart(self, workspace: Workspace) -> None:
        command = "echo 1; echo 2 >&2; echo 3"
        assert workspace.run(command, PATIENT).result().stdout.text == "1\n2\n3\n"
        result = workspace.run(command, PATIENT, merged=False).result()
        assert (result.stdout.text, result.stderr.text) == ("1\n3\n", "2\n")

    def test_refuses_a_command_that_no_shell_takes(self, workspace: Workspace) -> None:
        for command in ("echo \0", "echo " + "x" * 200_000):
            result = workspace.run(command, PATIENT).result()
            assert result.ended == "error"
            assert result.stdout.text.startswith("bash: ")

    def test_standard_input_is_empty_unless_given(self, workspace: Workspace) -> None:
        assert shell(workspace, "wc -c") == "0\n"
        assert shell(workspace, "cat /dev/stdin | wc -c", stdin=b"\0" * 100_000) == "100000\n"


class TestPython:
    def test_keeps_variables_and_shows_the_last_value(self, workspace: Workspace) -> None:
        assert python(workspace, "x = 20\nx + 1").stdout.text == "21\n"
        assert python(workspace, "def f(y):\n    return x + y\n'a'; f(2)").stdout.text == "22\n"
        assert python(workspace, "print(x); None").stdout.text == "20\n"

    def test_runs_in_a_new_interpreter_if_asked(self, pool: WorkspacePool) -> None:
        with pool.open(keeps_variables=False) as workspace:
            python(workspace, "x = 1; open('kept', 'w').write('file')")
            result = python(workspace, "print(open('kept').read()); x")
            assert result.stdout.text == "file\n"
            assert result.stderr.text.endswith("NameError: name 'x' is not defined\n")
            assert not result.lost_variables
            assert python(workspace, "import threading\nthreading.Timer(0.01, print, [5]).start()").stdout.text == "5\n"

    def test_shows_errors_as_python_does(self, workspace: Workspace) -> None:
        result = python(workspace, "def f():\n    return 1 / 0\nf()")
        assert (result.ended, result.exit_code) == ("error", 1)
        assert result.stderr.text.splitlines()[:3] == [
            "Traceback (most recent call last):",
            '  File "<call 1>", line 3, in <module>',
            "    f()",
        ]
        assert "ZeroDivisionError: division by zero" in result.stderr.text
        assert python(workspace, "1 +").stderr.text.endswith("SyntaxError: invalid syntax\n")
        assert python(workspace, "import sys; sys.exit(7)").exit_code == 7
        assert python(workspace, "raise SystemExit('no')").stderr.text == "no\n"

    def test_says_that_variables_are_lost(self, workspace: Workspace) -> None:
        python(workspace, "x = 1")
        result = workspace.run_python("print('so far')\nwhile True: pass", CallLimits(cpu_s=0.2, wall_s=600)).result()
        assert (result.ended, result.stdout.text, result.lost_variables) == ("cpu_limit", "so far\n", True)
        assert result.cpu_s >= 0.2
        result = python(workspace, "x")
        assert (result.ended, result.lost_variables) == ("error", False)
        python(workspace, "y = 1")
        assert python(workspace, "import os; os._exit(3)").lost_variables
        assert python(workspace, "import os; os.kill(os.getpid(), 11)").ended == "killed"

    def test_nothing_of_it_runs_between_two_calls(self, workspace: Workspace) -> None:
        spinning = "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()"
        python(workspace, f"x = 1\n{spinning}")
        states = shell(workspace, "grep -h State /proc/[0-9]*/task/*/status")
        assert states.count("T (stopped)") == 2
        assert python(workspace, "x").stdout.text == "1\n"

    @pytest.mark.parametrize(
        ("code", "value"),
        [
            ("import sqlite3\nd = sqlite3.connect('a.db')\nd.execute('create table t(a)')\nd.commit()", "None"),
            ("import multiprocessing as m\nwith m.Pool(2) as p: a = p.map(abs, [-1, 2])\na", "[1, 2]"),
            ("import asyncio\nasync def f(): return 3\nasyncio.run(f())", "3"),
            ("import subprocess\nsubprocess.run('echo 4', shell=True, capture_output=True).stdout", "b'4\\n'"),
            ("open('/dev/stdout', 'w').write('5')", "51"),
        ],
        ids=["locks", "processes", "event loop", "subprocess", "device"],
    )
    def test_libraries_find_what_they_need(self, workspace: Workspace, code: str, value: str) -> None:
        result = python(workspace, code)
        assert (result.stdout.text.strip() or "None", result.stderr.text) == (value, "")

    def test_packages_can_be_imported(self) -> None:
        with WorkspacePool(find_packages(["numpy"])) as pool, pool.open() as workspace:
            assert python(workspace, "import numpy\nint(numpy.arange(5).sum())").stdout.text == "10\n"

    def test_packages_in_the_directory_for_temporary_files_are_seen_and_stay(self) -> None:
        """A workspace has a /tmp of its own."""
        with tempfile.TemporaryDirectory(dir="/tmp") as environment:
            module = Path(environment, "lib", "pack.py")
            module.parent.mkdir()
            module.write_text("six = 6")
            Path(environment).chmod(0o755)
            packages = Packages(("pack",), {"pack": str(module)}, (str(module),))
            with WorkspacePool(packages) as pool, pool.open() as workspace:
                moved = workspace.run(f"mv {environment} /tmp/x; touch {module}; touch /tmp/y; ls /tmp").result()
                assert moved.stdout.text.endswith(f"\n{Path(environment).name}\ny\n")
                assert python(workspace, "import pack; pack.six").stdout.text == "6\n"

    def test_cannot_import_this_project(self, workspace: Workspace) -> None:
        assert "ModuleNotFoundError" in python(workspace, "import alphamix").stderr.text


class TestFiles:
    def test_round_trip(self, workspace: Workspace) -> None:
        data = bytes(range(256)) * 5000
        workspace.write("new/folder/a", data).result()
        whole = workspace.read("new/folder/a", max_bytes=1 << 21).result()
        assert (whole.data, whole.size) == (data, len(data))
        part = workspace.read("/workspace/new/folder/a", offset=10, max_bytes=3).result()
        assert (part.data, part.size) == (data[10:13], len(data))
        workspace.write("new/folder/a", b"short").result()
        assert workspace.submission("new/folder/a").result() == b"short"

    @pytest.mark.parametrize(
        "path", ["absent", "d", "pipe", "/proc/self/status", "link", "/etc/shadow", "/dev/zero", "a\0b"]
    )
    def test_refuses_what_is_not_a_regular_file(self, workspace: Workspace, path: str) -> None:
        shell(workspace, "mkdir d; mkfifo pipe; ln -s /proc/self/environ link")
        with pytest.raises(FileRefusedError, match=r"absent|directory|regular|denied|null|No such"):
            workspace.read(path).result()

    def test_refuses_to_write_outside(self, workspace: Workspace) -> None:
        for path in ("/x", "/usr/x", "/proc/self/oom_score_adj", "/dev/null", "/workspace"):
            with pytest.raises(FileRefusedError):
                workspace.write(path, b"x").result()


class TestPool:
    def test_a_slow_command_holds_up_no_other(self, pool: WorkspacePool) -> None:
        with pool.open() as slow, pool.open() as fast:
            waiting = slow.run("sleep 1000", CallLimits(wall_s=1000))
            for _ in range(3):
                assert shell(fast, "echo 1") == "1\n"
            assert not waiting.done()

    def test_calls_of_one_workspace_wait_for_each_other(self, workspace: Workspace) -> None:
        calls = [workspace.run(f"echo {n} >> log; sleep 0.0{9 - n}", PATIENT) for n in range(8)]
        assert [call.result().ended for call in calls] == ["ok"] * 8
        assert shell(workspace, "tr -d '\n' < log") == "01234567"

    def test_many_threads_may_use_it(self, pool: WorkspacePool) -> None:
        said: list[str] = []

        def attempt(number: int) -> None:
            with pool.open() as workspace:
                workspace.write("n", str(number).encode())
                said.append(python(workspace, "open('n').read()").stdout.text)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(said) == sorted(f"'{number}'\n" for number in range(16))

    def test_more_may_start_at_once_than_descriptors_may_be_on_their_way(
        self, pool: WorkspacePool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each sends two, and the kernel allows a user 256; nobody takes them until all have started."""
        started = threading.Event()
        read = Connection.read

        def read_late(connection: Connection) -> bool:
            started.wait()
            return read(connection)

        monkeypatch.setattr(Connection, "read", read_late)
        workspaces = [pool.open() for _ in range(150)]
        writing = [workspace.write("a", b"1") for workspace in workspaces]
        time.sleep(3)
        started.set()
        assert [each.exception() for each in writing] == [None] * 150
        for workspace in workspaces:
            workspace.close()

    def test_an_unused_workspace_is_free(self, pool: WorkspacePool, descendants: Callable[[int], set[int]]) -> None:
        before = descendants(os.getpid())
        opened = [pool.open() for _ in range(1000)]
        assert descendants(os.getpid()) == before
        for workspace in opened:
            workspace.close()

    def test_what_rests_takes_no_process_and_keeps_its_files(self, descendants: Callable[[int], set[int]]) -> None:
        with WorkspacePool(max_awake=2) as pool:
            pool.check()
            before = descendants(os.getpid())
            workspaces = [pool.open() for _ in range(10)]
            for number, workspace in enumerate(workspaces):
                shell(workspace, f"mkdir d; cd d; echo {number} > n")
            python(workspaces[4], "x = 4")
            for turn in range(2):
                for number, workspace in enumerate(workspaces):
                    assert shell(workspace, "pwd; cat n") == f"/workspace/d\n{number}\n", turn
            assert python(workspaces[4], "x").stdout.text == "4\n"
            for workspace in workspaces[:-1]:
                assert workspace.submission("d/n").exception() is None
            while len(descendants(os.getpid()) - before) > 2:  # the others are ending
                pass
            for workspace in workspaces:
                workspace.close()
            assert descendants(os.getpid()) <= before

    def test_refuses_after_close(self) -> None:
        with WorkspacePool() as pool:
            workspace = pool.open()
            workspace.close()
            with pytest.raises(WorkspaceError, match="closed"):
                workspace.run("true").result()
        with pytest.raises(WorkspaceError, match="closed"):
            pool.open().run("true").result()

    @pytest.mark.parametrize("limits", [{"cpu_s": 0}, {"wall_s": -1}, {"output_chars": 0}, {"cpu_s": float("nan")}])
    def test_refuses_limits_of_zero(self, limits: dict[str, float]) -> None:
        with pytest.raises(GradingError, match="it should be greater than 0"):
            CallLimits(**limits)  # pyright: ignore[reportArgumentType]
        with pytest.raises(GradingError, match="disk_bytes is 0"):
            WorkspaceLimits(disk_bytes=0)

    @pytest.mark.skipif(shutil.which("unshare") is None, reason="needs the command unshare")
    def test_refuses_without_user_namespaces(self) -> None:
        """In a user namespace of its own, root may forbid further ones."""
        program = (
            "from alphamix.grading.workspace import WorkspacePool\n"
            "try:\n    WorkspacePool().check()\n"
            "except ValueError as error:\n    print(type(error).__name__, error)"
        )
        command = f"echo 0 > /proc/sys/user/max_user_namespaces; exec {sys.executable} -c '{program}'"
        said = subprocess.run(
            ["unshare", "--user", "--map-root-user", "sh", "-c", command], capture_output=True, text=True
        )
        assert said.stdout.startswith(
            "WorkspaceUnavailableError commands cannot be confined on this machine (OSError"
        ), said
        assert said.stdout.strip().endswith("sudo sysctl -w user.max_user_namespaces=10000")


class TestOutput:
    @given(st.binary(max_size=200), st.integers(1, 40))
    def test_start_and_end_of_what_would_be_shown_whole(self, data: bytes, max_chars: int) -> None:
        head, tail = _kept(data, max_chars)
        shown = show(head, tail, len(data), max_chars)
        whole = show(data, b"", len(data), 1000).text
        if len(whole) <= max_chars:
            assert (shown.text, shown.dropped_bytes) == (whole, 0)
            return
        first, _, rest = shown.text.partition(f"\n[… {shown.dropped_bytes:,} bytes left out …]\n")
        assert whole.startswith(first)
        assert whole.endswith(rest)
        assert len(first) + len(rest) <= max_chars
        assert 0 < shown.dropped_bytes <= len(data)

    @given(st.text("ab\n", max_size=100), st.integers(1, 40))
    def test_counts_what_is_left_out(self, text: str, max_chars: int) -> None:
        head, tail = _kept(text.encode(), max_chars)
        shown = show(head, tail, len(text), max_chars)
        assert shown.dropped_bytes == max(len(text) - max_chars, 0)

    def test_long_output(self) -> None:
        assert show(b"abcdef", b"uvwxyz", 1_000_000, 6).text == "abc\n[… 999,994 bytes left out …]\nxyz"
        assert show(b"abcdef", b"", 6, 6).text == "abcdef"

    def test_escapes_what_is_not_text(self) -> None:
        data = "\x1b[31mé\0\r\n\t\x7f\x9f€😀".encode() + b"\xff\xc3"
        assert show(data, b"", len(data), 100).text == "\\x1b[31mé\\x00\\x0d\n\t\\x7f\\x9f€😀\\xff\\xc3"


def _kept(data: bytes, max_chars: int) -> tuple[bytes, bytes]:
    """Return what a workspace keeps of a program's output."""
    size = kept_bytes(max_chars)
    return data[:size], data[size:][-size:]
