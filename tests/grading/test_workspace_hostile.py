"""What a workspace withstands. Each test is named after what the model, or a program that it wrote, tries.

No test depends on how fast the machine is: limits on CPU time end what never ends by itself.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphamix.grading.workspace import (
    CallLimits,
    CallResult,
    FileRefusedError,
    Workspace,
    WorkspaceError,
    WorkspaceLimits,
    WorkspacePool,
)

PATIENT = CallLimits(cpu_s=30.0, wall_s=600.0)
BRIEF = CallLimits(cpu_s=0.5, wall_s=600.0)
LIMITS = WorkspaceLimits(memory_bytes=200 << 20, disk_bytes=8 << 20, max_files=200, max_processes=20)
RUNNING = "ps -eo stat=,comm= | grep -v ^Z"
"""Lists what can run. The children of a session that is stopped wait to be reaped."""
OWN_PROCESSES = 1
"""Processes of a workspace in which nothing runs."""


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        pool.check()
        yield pool


@pytest.fixture
def workspace(pool: WorkspacePool) -> Iterator[Workspace]:
    with pool.open(LIMITS) as workspace:
        yield workspace


def run(workspace: Workspace, command: str, limits: CallLimits = PATIENT) -> CallResult:
    return workspace.run(command, limits).result()


def python(workspace: Workspace, code: str, limits: CallLimits = PATIENT) -> CallResult:
    return workspace.run_python(code, limits).result()


def still_works(workspace: Workspace) -> bool:
    return run(workspace, "echo fine").stdout.text.endswith("fine\n")


@pytest.fixture
def leaves_nothing(workspace: Workspace, descendants: Callable[[int], set[int]]) -> Iterator[None]:
    """Check that after a test's calls nothing runs but the workspace's first process, and after close not even that."""
    before = descendants(os.getpid())
    yield
    assert still_works(workspace)
    assert workspace.submission("absent").exception() is not None  # ends what a session keeps
    assert len(descendants(os.getpid()) - before) <= OWN_PROCESSES
    workspace.close()
    assert descendants(os.getpid()) <= before


@pytest.mark.usefixtures("leaves_nothing")
class TestProcesses:
    def test_fork_bomb(self, workspace: Workspace) -> None:
        assert run(workspace, "bomb() { bomb | bomb & }; bomb; while :; do :; done", BRIEF).ended == "cpu_limit"
        assert (
            python(workspace, "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", BRIEF).ended
            == "cpu_limit"
        )

    def test_more_processes_than_allowed(self, workspace: Workspace) -> None:
        counting = (
            "import os, time\nn = 0\ntry:\n    while os.fork(): n += 1\n    time.sleep(600)\nexcept OSError: print(n)"
        )
        assert 10 <= int(python(workspace, counting).stdout.text) < LIMITS.max_processes

    def test_sleeping(self, workspace: Workspace) -> None:
        result = run(workspace, "echo before; sleep 1000; echo after", CallLimits(wall_s=0.2))
        assert (result.ended, result.exit_code, result.stdout.text) == ("wall_limit", None, "before\n")

    def test_many_that_compute_for_a_moment_each(self, workspace: Workspace) -> None:
        assert run(workspace, "while :; do (for i in 1 2 3 4 5 6 7 8 9; do :; done); done", BRIEF).ended == "cpu_limit"

    def test_children_that_nobody_waits_for(self, workspace: Workspace) -> None:
        spinning = "trap '' CHLD; (while :; do :; done) & (while :; do :; done) & sleep 1000"
        assert run(workspace, spinning, BRIEF).ended == "cpu_limit"

    def test_killing_everything(self, workspace: Workspace) -> None:
        assert run(workspace, "kill -9 1; kill -9 -1; kill -STOP 1; kill -TERM 1; echo alive").ended in ("ok", "killed")
        result = python(workspace, "import os; [os.kill(-1, n) for n in (15, 19, 9)]; os.kill(os.getppid(), 9)", BRIEF)
        assert result.ended in ("ok", "error", "killed")

    @pytest.mark.parametrize(
        "leave", ["sleep 999 &", "nohup sleep 999 &", "setsid sleep 999 &", "(setsid sleep 999 & ) &"]
    )
    def test_leaving_a_process(self, workspace: Workspace, leave: str) -> None:
        assert run(workspace, leave).ended == "ok"
        assert "sleep" not in run(workspace, RUNNING).stdout.text.split()

    def test_leaving_a_process_in_a_session(self, workspace: Workspace) -> None:
        daemon = "import os, subprocess\nx = 5\nsubprocess.Popen(['setsid', 'sleep', '999'])\n"
        daemon += (
            "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: pass\n    os._exit(0)\n"
        )
        assert python(workspace, daemon).ended == "ok"
        assert "sleep" not in run(workspace, RUNNING).stdout.text.split()
        assert python(workspace, "x").stdout.text == "5\n"

    def test_stopping_itself(self, workspace: Workspace) -> None:
        assert run(workspace, "kill -STOP $$", CallLimits(wall_s=0.2)).ended == "wall_limit"
        assert python(workspace, "import os; os.kill(os.getpid(), 19)", CallLimits(wall_s=0.2)).ended == "wall_limit"

    def test_raising_limits(self, workspace: Workspace) -> None:
        assert (
            run(workspace, "ulimit -u 10000 || ulimit -n 100000 || ulimit -v unlimited || ulimit -s unlimited").ended
            == "error"
        )
        code = "import resource as r\nfor kind in range(16):\n    try: r.setrlimit(kind, (-1, -1)); print(kind)\n"
        code += "    except (ValueError, OSError): pass"
        kinds = set(map(int, python(workspace, code).stdout.text.split()))
        assert kinds.isdisjoint({1, 3, 4, 6, 7, 8, 9, 12})  # FSIZE STACK CORE NPROC NOFILE MEMLOCK AS MSGQUEUE

    def test_holding_the_output_open(self, workspace: Workspace) -> None:
        assert run(workspace, "sleep 999 & exec sleep 0").ended == "ok"

    def test_forging_the_end_of_a_call(self, workspace: Workspace) -> None:
        forging = "import os\nfor n in range(100): os.write(3, b'0')\nprint(1)\nwhile True: pass"
        python(workspace, "x = 1")
        python(workspace, forging, BRIEF)
        seen = [python(workspace, f"print({n})", BRIEF) for n in (2, 3, 4)]  # it forges more than one end at once
        assert any(result.lost_variables for result in seen)
        assert seen[-1].stdout.text == "4\n"
        python(workspace, "import os; os.closerange(0, 256)", BRIEF)
        assert python(workspace, "print(5)").stdout.text == "5\n"


@pytest.mark.usefixtures("leaves_nothing")
class TestMemoryAndDisk:
    def test_one_process_takes_too_much_memory(self, workspace: Workspace) -> None:
        result = python(workspace, "x = []\nwhile True: x.append(bytearray(1 << 22))")
        assert (result.ended, result.lost_variables) == ("memory_limit", False)
        assert python(workspace, "bytearray(1 << 40)").stderr.text.endswith("MemoryError\n")

    def test_many_processes_take_too_much_together(self, workspace: Workspace) -> None:
        hog = "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = b'x' * (60 << 20)\n"
        hog += "        time.sleep(600)\ntime.sleep(600)"
        assert python(workspace, hog).ended == "memory_limit"

    def test_what_processes_share_counts_once(self, workspace: Workspace) -> None:
        sharing = "import os, time\nx = b'x' * (60 << 20)\nfor _ in range(8):\n    if os.fork() == 0:\n"
        sharing += "        time.sleep(0.3)\n        os._exit(0)\ntime.sleep(0.3)"
        assert python(workspace, sharing).ended == "ok"

    @pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
    def test_filling_the_disk(self, workspace: Workspace, folder: str) -> None:
        filling = (
            "cat /dev/zero > big; stat -c %s big; echo x > small && cat small; rm big; echo y > small && cat small"
        )
        said = run(workspace, f"cd {folder}; {filling}").stdout.text.splitlines()
        assert said[0].endswith("No space left on device")
        assert LIMITS.disk_bytes * 0.9 < int(said[1]) <= LIMITS.disk_bytes
        assert said[2].endswith("No space left on device")
        assert said[-1] == "y"

    def test_making_files_without_end(self, workspace: Workspace) -> None:
        filling = "for n in $(seq 1000); do : > f$n || break; done; ls | wc -l; rm f*; ls | wc -l"
        said = run(workspace, filling).stdout.text
        assert "No space left on device" in said
        made, left = map(int, said.splitlines()[-2:])
        assert (LIMITS.max_files - 10 < made < LIMITS.max_files, left) == (True, 0)

    def test_a_full_disk_stops_writing_from_outside(self, workspace: Workspace) -> None:
        with pytest.raises(FileRefusedError, match="No space left"):
            workspace.write("big", bytes(LIMITS.disk_bytes + 1)).result()

    def test_printing_a_gigabyte(self, workspace: Workspace) -> None:
        patient = CallLimits(cpu_s=60, wall_s=6000, output_chars=20)
        result = run(workspace, "head -c 1000000000 /dev/zero; echo end", patient)
        assert result.stdout.text == "\\x00\\x00\n[… 999,999,997 bytes left out …]\n\\x00end\n"
        assert result.stdout.dropped_bytes == 999_999_997

    def test_printing_what_is_not_text(self, workspace: Workspace) -> None:
        said = run(workspace, r"printf 'a\0b\033[2J\377\n'; head -c 100000 /dev/urandom").stdout.text
        assert said.startswith("a\\x00b\\x1b[2J\\xff\n")
        assert all(char in "\n\t" or ord(char) > 0x9F or char.isprintable() for char in said)


@pytest.mark.usefixtures("leaves_nothing")
class TestWalls:
    def test_looking_for_files_of_the_host(self, workspace: Workspace, tmp_path: Path) -> None:
        secret = tmp_path / "expected_output"
        secret.write_text("what the judge expects")
        names = [
            secret,
            Path(__file__),
            Path("/etc/shadow"),
            Path("/etc/hostname"),
            Path("/root/.bashrc"),
            Path("/var/log"),
        ]
        for name in names:
            assert "what the judge" not in run(workspace, f"cat {name}; ls {name}").stdout.text
            assert run(workspace, f"test -e {name}").exit_code == 1
        found = run(
            workspace, f"find / -path /usr -prune -o -name {secret.name} -print -o -name {Path(__file__).name} -print"
        ).stdout.text
        assert [line for line in found.splitlines() if not line.endswith("Permission denied")] == []

    def test_looking_for_secrets_of_the_judge(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALPHAMIX_SECRET_KEY", "sk-123")
        said = run(workspace, "env; cat /proc/*/environ /proc/*/cmdline 2>&1").stdout.text
        assert "sk-123" not in said
        assert "alphamix" not in said
        assert python(workspace, "import os; dict(os.environ)").stdout.text.count("alphamix") == 0

    def test_looking_for_other_workspaces(self, pool: WorkspacePool, workspace: Workspace) -> None:
        with pool.open() as other:
            other.write("answer_of_the_other", b"42").result()
            other.run_python("x = 'variable of the other'").result()
            sleeping = other.run("sleep 1000", CallLimits(wall_s=1000))
            said = run(workspace, "find / -path /usr -prune -o -name 'answer_of*' -print; ps aux").stdout.text
            assert "answer_of_the_other" not in said
            assert "sleep" not in said
            run(workspace, "kill -9 -1")
            python(
                workspace, "import os\nfor pid in range(2, 400):\n    try: os.kill(pid, 9)\n    except OSError: pass"
            )
            assert not sleeping.done()

    def test_poking_into_proc(self, workspace: Workspace) -> None:
        for name in (
            "1/mem",
            "1/fd/3",
            "1/environ",
            "1/root/etc",
            "1/cwd",
            "1/maps",
            "kcore",
            "kmsg",
            "sysrq-trigger",
            "1/stack",
        ):
            assert run(workspace, f"cat /proc/{name}").exit_code != 0, name
        for name in (
            "sys/kernel/core_pattern",
            "sysrq-trigger",
            "self/oom_score_adj",
            "1/oom_score_adj",
            "sys/vm/drop_caches",
        ):
            assert run(workspace, f"echo 1 > /proc/{name}").exit_code != 0, name
        assert "Seccomp:\t2" in run(workspace, "cat /proc/self/status").stdout.text

    def test_calling_the_kernel(self, workspace: Workspace) -> None:
        """Calls that need no privilege elsewhere, and calls that do."""
        code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(4096)
calls = dict(ptrace=101, socket=41, mount=165, umount2=166, unshare=272, setns=308, chroot=161, pivot_root=155, bpf=321,
    process_vm_readv=310, process_vm_writev=311, perf_event_open=298, io_uring_setup=425, add_key=248, keyctl=250,
    userfaultfd=323, memfd_create=319, kexec_load=246, init_module=175, reboot=169, setuid=105, setresuid=117,
    personality=135, sethostname=170, settimeofday=164, swapon=167, open_by_handle_at=304, move_mount=429, fsopen=430,
    open_tree=428, pidfd_getfd=438, landlock_create_ruleset=444, sync=162, shmget=29, mq_open=240, syslog=103, bind=49)
if os.uname().machine == "x86_64":
    for name, number in calls.items():
        if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() not in (1, 38):
            print(name, ctypes.get_errno())
    for flags in (0x10000000, 0x00020000, 0x20000000, 0x40000000):
        if libc.syscall(56, flags | 17, 0, 0, 0, 0) != -1:
            print("clone", hex(flags))
"""
        assert python(workspace, code).stdout.text == ""

    def test_reaching_the_network(self, workspace: Workspace) -> None:
        said = python(workspace, "import socket\nsocket.create_connection(('127.0.0.1', 80), 1)").stderr.text
        assert said.endswith("PermissionError: [Errno 1] Operation not permitted\n")
        assert run(workspace, "echo > /dev/tcp/127.0.0.1/80").exit_code != 0
        assert run(workspace, "cat /proc/net/tcp | wc -l").stdout.text == "1\n"

    def test_changing_what_others_see(self, workspace: Workspace) -> None:
        for command in (
            "echo > /usr/bin/x",
            "chmod 777 /usr/bin/env",
            "rm /usr/bin/env",
            "mkdir /x",
            "mknod /tmp/d b 8 0",
            "ln /usr/bin/env /tmp/env",
        ):
            assert run(workspace, command).exit_code != 0, command

    def test_denying_itself_the_workspace(self, workspace: Workspace) -> None:
        assert (
            run(workspace, "chmod 000 /workspace /tmp /dev/shm; rm -rf /workspace; mv /workspace /tmp/x").exit_code == 1
        )
        workspace.rest()
        assert run(workspace, "echo 1 > a; cat a").stdout.text == "1\n"

    def test_text_that_is_not_unicode(self, workspace: Workspace) -> None:
        assert run(workspace, "echo '\ud800'").stdout.text == "\\xed\\xa0\\x80\n"
        assert "SyntaxError" in python(workspace, "'\ud800'").stderr.text
        with pytest.raises(FileRefusedError, match="surrogates not allowed"):
            workspace.read("\ud800").result()

    def test_changing_what_runs_between_calls(self, workspace: Workspace) -> None:
        run(workspace, "echo 'echo owned' > ~/.bashrc; cp ~/.bashrc ~/.bash_profile; mkdir bin; cp .bashrc bin/cat")
        run(
            workspace,
            "echo 'print(\"owned\")' > sitecustomize.py; cp sitecustomize.py json.py; cp json.py traceback.py",
        )
        assert "owned" not in run(workspace, "pwd").stdout.text + python(workspace, "1 / 0").stderr.text


@pytest.mark.usefixtures("leaves_nothing")
class TestSubmission:
    @pytest.mark.parametrize(
        ("make", "path", "reason"),
        [
            ("ln -s /usr/bin/env a", "a", "symbolic link"),
            ("ln -s . d; echo 1 > a", "d/a", "Not a directory"),
            ("mkfifo a", "a", "not a regular file"),
            ("mkdir a", "a", "is a directory"),
            ("cat /dev/zero | head -c 2000 > a", "a", "has 2000 bytes, and a submission may have 1000"),
            ("true", "a", "No such file"),
            ("true", "/usr/bin/env", "not a file below /workspace"),
            ("echo 1 > /tmp/a", "../tmp/a", "not a file below /workspace"),
            ("true", "", "not a file below /workspace"),
            ("true", "a\0b", "null"),
            ("echo 1 > a; chmod 0 a", "a", "Permission denied"),
        ],
    )
    def test_of_something_else(self, workspace: Workspace, make: str, path: str, reason: str) -> None:
        run(workspace, make)
        with pytest.raises(FileRefusedError, match=reason):
            workspace.submission(path, max_bytes=1000).result()

    def test_that_changes_while_it_is_read(self, workspace: Workspace) -> None:
        writing = "import threading, time\ndef write():\n    while True:\n        open('a', 'w').write('x' * 1000)\n"
        writing += "threading.Thread(target=write, daemon=True).start()\ntime.sleep(0.05)"
        python(workspace, writing)
        first, second = (workspace.submission("a").result() for _ in range(2))
        assert first == second

    def test_of_a_file(self, workspace: Workspace) -> None:
        run(workspace, "mkdir d; echo 1 > d/a")
        for path in ("d/a", "/workspace/d/a", "./d//a"):
            assert workspace.submission(path).result() == b"1\n"


class TestEnds:
    def test_close_during_a_call(self, pool: WorkspacePool, descendants: Callable[[int], set[int]]) -> None:
        before = descendants(os.getpid())
        workspace = pool.open(LIMITS)
        call = workspace.run("(setsid sleep 999 &); while :; do :; done", PATIENT)
        waiting = workspace.run("true")
        while len(descendants(os.getpid()) - before) < 3:
            time.sleep(0.01)
        workspace.close()
        workspace.close()
        assert descendants(os.getpid()) <= before
        for each in (call, waiting):
            with pytest.raises(WorkspaceError, match="closed"):
                each.result()

    def test_the_broker_is_killed(self, descendants: Callable[[int], set[int]]) -> None:
        before = descendants(os.getpid())
        with WorkspacePool() as pool:
            workspace = pool.open()
            call = workspace.run("sleep 999", PATIENT)
            started = descendants(os.getpid()) - before
            os.kill(min(started), signal.SIGKILL)
            with pytest.raises(WorkspaceError, match="ended unexpectedly"):
                call.result()
            with pytest.raises(WorkspaceError):
                workspace.run("true").result()
            while isinstance(pool.open().run("true", PATIENT).exception(), WorkspaceError):
                pass  # until the end has been noticed, after which there is a new broker
            assert still_works(pool.open())
        assert descendants(os.getpid()) <= before

    def test_this_process_is_killed(self) -> None:
        """With the process that opened it, everything in a workspace ends."""
        program = (
            "from alphamix.grading.workspace import *\n"
            "workspace = WorkspacePool().open()\n"
            'workspace.run_python(\'import subprocess; x = subprocess.Popen(["sleep", "98765.25"])\').result()\n'
            "workspace.run('setsid sleep 98765.25 & echo started; sleep 98765.25', CallLimits(wall_s=1e6))\n"
            "print('ready', flush=True); import time; time.sleep(1000)"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            while not _running(b"98765.25"):
                time.sleep(0.01)
            process.kill()
        deadline = time.monotonic() + 60
        while _running(b"98765.25"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _running(argument: bytes) -> list[Path]:
    found: list[Path] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")[1:2] == [argument]:
                found.append(entry)
        except OSError:
            continue
    return found
