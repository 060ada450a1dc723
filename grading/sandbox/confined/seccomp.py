"""The system calls that a judged program may make: an allow-list, compiled to a seccomp filter.

Any call that is not listed fails with EPERM, so calls that new kernels add are denied as well; in a workspace it fails
with ENOSYS, for which shells and tools have another way. A call through another ABI (x32, 32-bit) kills the program.
The numbers are those of Linux's asm/unistd_64.h and asm-generic/unistd.h. The filter is a binary search over the call
numbers. Its length matters, because the kernel compiles it for every program.
"""

import ctypes
import errno
import os
import struct
from typing import Literal, NamedTuple

# name: (x86_64, aarch64), None if the architecture has no such call
_ALLOWED: dict[str, tuple[int, int | None]] = {
    # files that are visible in the sandbox: reading, and writing within the rlimits
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70), "close": (3, 57),
    "close_range": (436, 436), "open": (2, None), "openat": (257, 56), "lseek": (8, 62), "dup": (32, 23),
    "dup2": (33, None), "dup3": (292, 24), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78), "getdents": (78, None),
    "getdents64": (217, 61), "getcwd": (79, 17), "ftruncate": (77, 46), "fsync": (74, 82),
    "fdatasync": (75, 83), "fadvise64": (221, 223),
    # names of files, which can change only below /tmp; not modes, owners and times, which Landlock does not protect
    "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    # memory
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226),
    "madvise": (28, 233), "brk": (12, 214), "mincore": (27, 232), "msync": (26, 227),
    "membarrier": (324, 283),
    # pipes and event loops within the program
    "pipe": (22, None), "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73), "select": (23, None),
    "pselect6": (270, 72), "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd": (284, None), "eventfd2": (290, 19),
    "recvfrom": (45, 207),
    # threads
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "set_tid_address": (218, 96),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "arch_prctl": (158, None),
    # identity, limits and time
    "gettid": (186, 178), "getpid": (39, 172), "getppid": (110, 173), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "getpgid": (121, 155), "getpgrp": (111, None),
    "getsid": (124, 156), "getpriority": (140, 141), "uname": (63, 160), "sysinfo": (99, 179),
    "getcpu": (309, 168), "getrandom": (318, 278), "getrlimit": (97, 163), "setrlimit": (160, 164),
    "getrusage": (98, 165), "times": (100, 153), "time": (201, None), "gettimeofday": (96, 169),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    # the program's own signals and exit
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132), "alarm": (37, None), "pause": (34, None), "setitimer": (38, 103),
    "getitimer": (36, 102), "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

_COMPILER: dict[str, tuple[int, int | None]] = {
    # what the compiler driver needs to run the compiler proper, the assembler and the linker
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "wait4": (61, 260), "waitid": (247, 95),
    # changes to files, which Landlock or the read-only root confine to one directory; not modes, owners, times
    "creat": (85, None), "truncate": (76, 45),
    "fallocate": (285, 47), "umask": (95, 166), "chdir": (80, 49),
}  # fmt: skip

_WORKSPACE: dict[str, tuple[int, int | None]] = {
    # processes, which see and signal only those of the same workspace
    "fchdir": (81, 50), "setpgid": (109, 154), "setsid": (112, 157), "kill": (62, 129), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "capget": (125, 90),
    # files, on a file system of the workspace's own; the others are read-only
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "flock": (73, 32),
    "statfs": (137, 43), "fstatfs": (138, 44), "getxattr": (191, 8), "lgetxattr": (192, 9), "fgetxattr": (193, 10),
    "listxattr": (194, 11), "llistxattr": (195, 12), "flistxattr": (196, 13),
    # messages over socket pairs, which connect to nothing else
    "sendmsg": (46, 211), "recvmsg": (47, 212), "shutdown": (48, 210), "getsockopt": (55, 209),
    "setsockopt": (54, 208), "getsockname": (51, 204), "getpeername": (52, 205),
}  # fmt: skip

_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020000
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030, 1034)  # DUPFD GETFD SETFD GETFL SETFL DUPFD_CLOEXEC GET_SEALS
_LOCK_COMMANDS = (5, 6, 7, 36, 37, 38)  # (OFD_)GETLK SETLK SETLKW
_IOCTL_COMMANDS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS WINSZ FIONREAD FIONBIO FIO(N)CLEX
Role = Literal["python", "native", "compiler", "workspace"]
"""Kind of process to filter: `native` may also execute the descriptor EXECUTABLE, `compiler` also call _COMPILER, and
`workspace`, which has its own pid namespace and disk, also _WORKSPACE."""
_MORE_OF_ROLE = {"compiler": _COMPILER, "workspace": _COMPILER | _WORKSPACE}
EXECUTABLE = 63
"""Descriptor of a compiled program, the last one that RLIMIT_NOFILE allows. It closes on execution, and the program
cannot put another executable in its place, because it cannot make one."""
_PRCTL_OPTIONS = (1, 2, 3, 4, 15, 16)  # SET_PDEATHSIG GET_PDEATHSIG GET_DUMPABLE SET_DUMPABLE SET_NAME GET_NAME
_PR_SET_NAME, _AF_UNIX, _SIGKILL = 15, 1, 9

_LOAD, _EQUAL, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_SET_MODE_FILTER, _FLAG_SPEC_ALLOW = 1, 4

Instruction = tuple[int, int, int, int]
"""Opcode, jump if true, jump if false, constant (struct sock_filter)."""

_ALLOWED_CALL: list[Instruction] = [(_RETURN, 0, 0, _ALLOW)]
_DENIED_CALL: list[Instruction] = [(_RETURN, 0, 0, _ERRNO | errno.EPERM)]
_ABSENT_CALL: list[Instruction] = [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]


class _Architecture(NamedTuple):
    column: int
    audit: int
    seccomp: int
    # numbers of the calls whose arguments decide
    fcntl: int
    ioctl: int
    clone: int
    clone3: int
    prctl: int
    prlimit64: int
    tgkill: int
    socketpair: int
    sendto: int
    execveat: int
    socket: int


_ARCHITECTURES = {
    "x86_64": _Architecture(0, 0xC000003E, 317, 72, 16, 56, 435, 157, 302, 234, 53, 44, 322, 41),
    "aarch64": _Architecture(1, 0xC00000B7, 277, 25, 29, 220, 435, 167, 261, 131, 199, 206, 281, 198),
}


def build_filter(own_pid: int, machine: str, role: Role = "python") -> list[Instruction]:
    """Return the filter for the process `own_pid` (in its own pid namespace). KeyError means an unknown machine."""
    arch = _ARCHITECTURES[machine]
    allowed = _ALLOWED | _MORE_OF_ROLE.get(role, {})
    starts_processes = role in _MORE_OF_ROLE
    numbers = [columns[arch.column] for columns in allowed.values()]
    decisions = {number: _ALLOWED_CALL for number in numbers if number is not None} | {
        arch.fcntl: _if_one_of(1, _FCNTL_COMMANDS),
        arch.ioctl: _if_one_of(1, _IOCTL_COMMANDS),
        arch.prctl: _if_one_of(0, (_PR_SET_NAME,)),
        arch.prlimit64: _if_one_of(0, (0, own_pid)),
        arch.socketpair: _if_one_of(0, (_AF_UNIX,)),
        # Sending over a connected socket pair is harmless, but an address could name a socket of the host.
        arch.sendto: [_argument(4, high=True), (_EQUAL, 0, 2, 0), *_if_one_of(4, (0,))],
        # raise() and abort() need this. SIGKILL is denied, so that it always comes from the controller or the kernel.
        arch.tgkill: [_argument(2), (_EQUAL, 2, 0, _SIGKILL), *_if_one_of(0, (own_pid,))],
        arch.clone: [
            _argument(0), (_ANY_BIT, 0, 0 if starts_processes else 2, _CLONE_THREAD),
            (_ANY_BIT, 1, 0, _CLONE_NAMESPACES), *_ALLOWED_CALL, *_DENIED_CALL,
        ],
        # A filter cannot check the flags of clone3, which are in memory. If it is absent, glibc falls back to clone.
        arch.clone3: _ABSENT_CALL,
        arch.execveat: _if_one_of(0, (EXECUTABLE,)) if role == "native" else _DENIED_CALL,
    }  # fmt: skip
    if role == "workspace":  # its processes may signal and limit each other; none has the privilege to raise a limit
        decisions |= {arch.prlimit64: _ALLOWED_CALL, arch.tgkill: _ALLOWED_CALL, arch.socket: _DENIED_CALL}
        decisions[arch.prctl] = _if_one_of(0, _PRCTL_OPTIONS)
        decisions[arch.fcntl] = _if_one_of(1, _FCNTL_COMMANDS + _LOCK_COMMANDS)
    return [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch.audit), (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0), (_GREATER_EQUAL, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL),
        *_search(_segments(decisions, _ABSENT_CALL if role == "workspace" else _DENIED_CALL)),
    ]  # fmt: skip


def _argument(index: int, high: bool = False) -> Instruction:
    return (_LOAD, 0, 0, 16 + 8 * index + (4 if high else 0))


def _if_one_of(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    tests = [(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [_argument(argument), *tests, *_DENIED_CALL, *_ALLOWED_CALL]


def _segments(
    decisions: dict[int, list[Instruction]], others: list[Instruction]
) -> list[tuple[int, list[Instruction]]]:
    """Split all call numbers into runs with the same decision, each given by its first number. `others` is for gaps."""
    segments = [(0, others)]
    for number in sorted({*decisions, *(number + 1 for number in decisions)}):
        decision = decisions.get(number, others)
        if decision is not segments[-1][1]:
            segments.append((number, decision))
    return segments[1:] if segments[1][0] == 0 else segments


def _search(segments: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    lower, upper = _search(segments[:middle]), _search(segments[middle:])
    return [(_GREATER_EQUAL, len(lower), 0, segments[middle][0]), *lower, *upper]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class Filter:
    """A filter that is built once, and can then be installed in every process that is forked."""

    def __init__(self, role: Role = "python") -> None:
        machine, marker = os.uname().machine, 0x7FFFFFF1
        if machine not in _ARCHITECTURES:
            raise OSError(errno.ENOSYS, f"no seccomp table for {machine}")
        self._seccomp = _ARCHITECTURES[machine].seccomp
        program = build_filter(marker, machine, role)
        self._pid_offsets = [8 * i + 4 for i, instruction in enumerate(program) if instruction[3] == marker]
        packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
        self._buffer = ctypes.create_string_buffer(packed, len(packed))
        self._program = _Program(len(program), ctypes.addressof(self._buffer))
        # Prepared here, because after each fork they would cost 0.1 ms of CPU.
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._argument = ctypes.byref(self._program)
        self._pack_pid = struct.Struct("=I").pack_into

    def install(self) -> None:
        """Confine this process and its future threads irrevocably. Requires no_new_privs. Raises OSError."""
        pid = os.getpid()
        for offset in self._pid_offsets:
            self._pack_pid(self._buffer, offset, pid)
        if self._syscall(self._seccomp, _SET_MODE_FILTER, _FLAG_SPEC_ALLOW, self._argument) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"seccomp: {os.strerror(code)}")
