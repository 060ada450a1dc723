"""Parts of the sandbox on their own: the system call filter, and what the probes notice."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphamix.grading.sandbox import probes
from alphamix.grading.sandbox.confined.seccomp import (
    _ALLOWED,
    _ARCHITECTURES,
    _COMPILER,
    _WORKSPACE,
    EXECUTABLE,
    Role,
    build_filter,
)
from alphamix.grading.sandbox.controller import ProcessLimits, PythonProcess
from alphamix.grading.sandbox.meters import CpuClock
from alphamix.grading.sandbox.zygote_handle import Zygote

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
OWN_PID = 4321


def decide(machine: str, number: int, *arguments: int, audit: int | None = None, role: Role = "python") -> int:
    """Run the filter as the kernel would (classic BPF over struct seccomp_data)."""
    arguments += (0,) * (6 - len(arguments))
    data = {0: number, 4: _ARCHITECTURES[machine].audit if audit is None else audit}
    for index, value in enumerate(arguments):
        data |= {16 + 8 * index: value & 0xFFFFFFFF, 20 + 8 * index: value >> 32}
    program, accumulator, at = build_filter(OWN_PID, machine, role), 0, 0
    while True:
        opcode, if_true, if_false, constant = program[at]
        at += 1
        match opcode:
            case 0x20:
                accumulator = data[constant]
            case 0x06:
                return constant
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x45:
                at += if_true if accumulator & constant else if_false
            case _:
                raise AssertionError(f"unknown opcode {opcode:#x}")


machines = pytest.mark.parametrize("machine", _ARCHITECTURES)


@machines
def test_exactly_the_listed_calls_are_allowed(machine: str) -> None:
    arch = _ARCHITECTURES[machine]
    allowed = {numbers[arch.column] for numbers in _ALLOWED.values()} - {None}
    by_arguments = set(arch[3:])
    assert not allowed & by_arguments
    for number in range(1024):
        if number not in by_arguments:
            assert decide(machine, number) == (ALLOW if number in allowed else EPERM), number


@machines
def test_no_number_is_listed_twice(machine: str) -> None:
    column = _ARCHITECTURES[machine].column
    listed = [*_ALLOWED.values(), *_COMPILER.values(), *_WORKSPACE.values()]
    numbers = [numbers[column] for numbers in listed if numbers[column] is not None]
    assert len(numbers) == len(set(numbers))


@machines
def test_other_abis_are_killed(machine: str) -> None:
    assert decide(machine, 0, audit=0x40000003) == KILL  # 32-bit x86
    assert decide(machine, 0x40000000) == KILL  # x32
    assert decide(machine, 0xFFFFFFFF) == KILL


@machines
def test_a_workspace_lacks_what_is_not_listed(machine: str) -> None:
    arch = _ARCHITECTURES[machine]
    listed = [*_ALLOWED.values(), *_COMPILER.values(), *_WORKSPACE.values()]
    allowed = {numbers[arch.column] for numbers in listed} - {None}
    by_arguments = set(arch[3:])
    assert not allowed & by_arguments
    for number in range(1024):
        if number not in by_arguments:
            assert decide(machine, number, role="workspace") == (ALLOW if number in allowed else ENOSYS), number
    cases = [
        (arch.clone, (17,), ALLOW),  # fork
        *((arch.clone, (17 | 1 << bit,), EPERM) for bit in (17, 25, 26, 27, 28, 29, 30)),  # with new namespaces
        (arch.clone3, (), ENOSYS),
        (arch.tgkill, (1, 1, 9), ALLOW),
        (arch.prlimit64, (1, 7), ALLOW),
        (arch.prctl, (4,), ALLOW),  # PR_SET_DUMPABLE
        (arch.prctl, (22,), EPERM),  # PR_SET_SECCOMP
        (arch.prctl, (36,), EPERM),  # PR_SET_CHILD_SUBREAPER
        (arch.fcntl, (0, 6), ALLOW),  # F_SETLK
        (arch.fcntl, (0, 8), EPERM),  # F_SETOWN
        (arch.socket, (1,), EPERM),
        (arch.execveat, (63,), EPERM),
    ]
    for number, arguments, decision in cases:
        assert decide(machine, number, *arguments, role="workspace") == decision, (number, arguments)


@machines
def test_arguments_decide(machine: str) -> None:
    arch = _ARCHITECTURES[machine]
    thread = 0x3D0F00  # what pthread_create asks for
    cases: Iterator[tuple[int, tuple[int, ...], int]] = iter(
        (
            (arch.clone, (thread,), ALLOW),
            (arch.clone, (17,), EPERM),  # fork
            (arch.clone, (0x4111,), EPERM),  # vfork
            (arch.clone, (thread | 0x10000000,), EPERM),  # a new user namespace
            (arch.clone3, (), ENOSYS),
            (arch.tgkill, (OWN_PID, 5, 6), ALLOW),
            (arch.tgkill, (OWN_PID, 5, 9), EPERM),
            (arch.tgkill, (1, 1, 6), EPERM),
            (arch.prlimit64, (0, 7), ALLOW),
            (arch.prlimit64, (OWN_PID, 7), ALLOW),
            (arch.prlimit64, (1, 7), EPERM),
            (arch.prctl, (15,), ALLOW),
            (arch.prctl, (1,), EPERM),  # PR_SET_PDEATHSIG
            (arch.prctl, (4,), EPERM),  # PR_SET_DUMPABLE
            (arch.fcntl, (0, 1030), ALLOW),
            (arch.fcntl, (0, 8), EPERM),  # F_SETOWN
            (arch.fcntl, (0, 1033), EPERM),  # F_ADD_SEALS
            (arch.ioctl, (0, 0x5401), ALLOW),
            (arch.ioctl, (0, 0x5412), EPERM),  # TIOCSTI
            (arch.socket, (1,), EPERM),
            (arch.socketpair, (1,), ALLOW),
            (arch.socketpair, (16,), EPERM),  # netlink
            (arch.sendto, (3, 0, 0, 0, 0), ALLOW),
            (arch.sendto, (3, 0, 0, 0, 0x1000), EPERM),
            (arch.sendto, (3, 0, 0, 0, 1 << 32), EPERM),
            (arch.execveat, (EXECUTABLE,), EPERM),
        )
    )
    for number, arguments, decision in cases:
        assert decide(machine, number, *arguments) == decision, (number, arguments)


@machines
def test_a_native_program_may_also_execute_one_descriptor(machine: str) -> None:
    execveat = _ARCHITECTURES[machine].execveat
    assert decide(machine, execveat, EXECUTABLE, role="native") == ALLOW
    assert decide(machine, execveat, 1, role="native") == EPERM
    for number in range(1024):
        if number != execveat:
            assert decide(machine, number, role="native") == decide(machine, number), number


@machines
def test_the_compiler_may_fork_and_execute_and_no_more_than_is_listed(machine: str) -> None:
    arch = _ARCHITECTURES[machine]
    listed = {numbers[arch.column] for numbers in _COMPILER.values()} - {None}
    assert decide(machine, arch.clone, 17, role="compiler") == ALLOW
    assert decide(machine, arch.clone, 17 | 0x10000000, role="compiler") == EPERM
    for number in range(1024):
        if number != arch.clone:
            wanted = ALLOW if number in listed else decide(machine, number)
            assert decide(machine, number, role="compiler") == wanted, number


def test_probes_notice_an_unconfined_zygote_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, name = tmp_path / "os.py", f"alphamix-probe-{os.getpid()}"
    library.touch(0o640)
    program = probes.PROGRAM.replace("os.__file__", repr(str(library))).replace("alphamix-probe", name)
    monkeypatch.setattr(probes, "PROGRAM", program)
    monkeypatch.setattr(probes, "_IN_TEMPORARY_DIRECTORY", Path("/tmp", name))
    zygote = Zygote("weak")
    try:
        assert probes.unproven(zygote, "weak") == []  # this tier promises nothing
        gaps = probes.unproven(zygote, "namespaces")
    finally:
        zygote.close()
    assert "reading /proc is possible" in gaps
    assert "forking is possible" in gaps
    assert "changing a file mode is possible" in gaps
    assert library.stat().st_mode & 0o777 == 0o640
    assert not [folder for folder in ("/", "/tmp", "/dev/shm", "/var/tmp") if Path(folder, name).exists()]


SPINNER = b"""
import _thread
if input() == "spin":
    _thread.start_new_thread(lambda: exec("while 1: 0"), ())
    _thread._count = lambda: 0  # hide it from the harness, so that the process is used again
print("done")
"""


def test_computing_between_two_tests_is_charged_to_the_second() -> None:
    zygote = Zygote("weak")
    try:
        process = PythonProcess(zygote, SPINNER, None, ProcessLimits(cpu_s=0.5, memory_bytes=64 << 20), num_tests=2)
        assert process.compile().verdict is None
        first = process.run_test(b"spin\n")
        assert (first.verdict, first.answer, first.reusable) == (None, b"done\n", True)
        clock = CpuClock(process.pid)
        while clock.read() < 1.0:
            time.sleep(0.01)
        assert process.run_test(b"rest\n").verdict == "TLE"
        process.end()
    finally:
        zygote.close()
