"""How a process gives up its access to the machine: namespaces with a read-only root, Landlock, privileges, rlimits.

Two tiers hold against hostile programs, each together with the filter of `seccomp`:

- `namespaces`: user, pid, net, mount, ipc and uts namespaces, a read-only root that contains only the interpreter, and
  Landlock in addition where the kernel has it.
- `landlock`: Landlock alone, where user namespaces are denied (in most containers). It does not hide whether a path of
  the host exists, nor its size and times.

Every function raises OSError if the kernel refuses a step. `pathlib` is avoided, because every fork would pay for the
memory that it takes.
"""

# ruff: noqa: PTH101, PTH102, PTH103, PTH106, PTH108, PTH110, PTH112, PTH113, PTH114, PTH115, PTH116, PTH119
# ruff: noqa: PTH120, PTH123, PTH208, PTH211

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import stat
import sys
from collections.abc import Mapping, Sequence
from itertools import filterfalse

NOBODY = 65534
MAX_THREADS = 32
MAX_OPEN_FILES = 64
STACK_BYTES = 100 << 20

_LIBC = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_FIRST_PROCESS_NAMESPACES = _CLONE_NEWPID | _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWUTS
_ALL_NAMESPACES = _CLONE_NEWUSER | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWUTS

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MS_READ_ONLY, _MS_REMOUNT = 1, 32
_NS_GET_USERNS = 0xB701
_MNT_DETACH, _AT_FDCWD, _AT_RECURSIVE = 2, -100, 0x8000
_MOUNT_ATTR_READ_ONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, _CAPABILITY_VERSION_3 = 47, 4, 0x20080522

_LANDLOCK_EXECUTE, _LANDLOCK_WRITE_FILE, _LANDLOCK_READ_FILE, _LANDLOCK_READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_LANDLOCK_TRUNCATE, _LANDLOCK_RULE_PATH_BENEATH = 1 << 14, 1
_LANDLOCK_MAKE_DEVICES = 1 << 6 | 1 << 11
SCRATCH = "/tmp"
"""The only writable directory, in namespaces: a file system in memory, of limited size, from which nothing executes."""
_MAX_SCRATCH_FILES = 256
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""Devices that programs may use. They connect to nothing."""
PROCESSES = "/proc"
"""Where a nested sandbox sees its own processes."""
PRIVATE_DIRECTORIES = ("/workspace", SCRATCH, "/dev/shm")
"""Directories of a nested sandbox that are on its own file system: the working directory, and two for temporary files.
"""
STDIN, _STDOUT, _STDERR = "/dev/stdin", "/dev/stdout", "/dev/stderr"
"""Names for standard streams, in namespaces; elsewhere, they lead to a process's own streams through /proc."""

_IS_ARM = os.uname().machine == "aarch64"
_PIVOT_ROOT, _CAPSET = (41, 91) if _IS_ARM else (155, 126)
_MOUNT_SETATTR = 442
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _prctl(option: int, value: int, what: str) -> None:
    _check(_LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0), what)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that made it ends.

    The kernel clears this setting when the process changes its user, so call this again after that.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, "prctl(PR_SET_PDEATHSIG)")


def move_down(descriptors: Sequence[int]) -> list[int]:
    """Renumber inherited descriptors to the lowest free numbers, and return these.

    The parent may have thousands of open files and so pass high numbers, but the sandbox relies on low ones: see
    MAX_OPEN_FILES, and EXECUTABLE in `seccomp`.
    """
    moved: dict[int, int] = {}
    for descriptor in sorted(descriptors):
        lowest = os.dup(descriptor)
        os.close(max(descriptor, lowest))
        moved[descriptor] = min(descriptor, lowest)
    return [moved[descriptor] for descriptor in descriptors]


def own_address_space() -> int:
    """Return the size of this process's address space in bytes."""
    return int(_read("/proc/self/statm").split()[0]) * resource.getpagesize()


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def readable_paths(more: Sequence[str] = ()) -> list[str]:
    """Return `more`, and the directories that late imports need: the standard library, shared objects, time zones."""
    wanted = [f"{sys.base_prefix}/lib", f"{sys.base_prefix}/lib64", *sys.path, *more]
    wanted += ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"]
    wanted += os.environ.get("LD_LIBRARY_PATH", "").split(":")
    mapped = _read("/proc/self/maps").splitlines()
    wanted += [os.path.dirname(line.split(maxsplit=5)[5]) for line in mapped if ".so" in line and " /" in line]
    paths: list[str] = []
    for path in sorted({os.path.realpath(path) for path in wanted if path and os.path.exists(path)}):
        inside_another = any(path.startswith(f"{parent}/") for parent in paths)
        if path != "/" and not inside_another:
            paths.append(path)
    return paths


def enter_namespaces(readable: Sequence[str], scratch_bytes: int, *, can_nest: bool = False) -> None:
    """Continue as process 1 of new namespaces, in a read-only root with `readable`, some devices, and SCRATCH.

    The calling process stays outside as a keeper: it ends when process 1 ends, and when it is killed, so is process 1.
    If `can_nest`, the root also has what `make_nested_namespaces` needs, and standard streams are those of a process.
    """
    _unshare_with_identity_maps()
    die_with_parent()
    first = os.fork()
    if first:
        os.closerange(3, MAX_OPEN_FILES * 16)
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _build_root(readable, scratch_bytes, can_nest=can_nest)


def make_nested_namespaces(disk_bytes: int, max_files: int) -> int:
    """Enter new user and mount namespaces below those of this process, which `enter_namespaces` made to be nested.

    They have the same root, and a file system in memory of their own. The limits, in bytes and in files, hold for all
    of PRIVATE_DIRECTORIES together. Returns a descriptor of the mount namespace, which keeps both of them.
    """
    become_inspectable()  # else the next three files belong to root
    _check(_LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare(user, mount) inside namespaces")
    identity = f"{NOBODY} {NOBODY} 1\n"
    for name, text in (("uid_map", identity), ("setgroups", "deny"), ("gid_map", identity)):
        _write(f"{PROCESSES}/self/{name}", text)
    os.umask(0o022)
    options = f"mode=0755,size={disk_bytes},nr_inodes={max_files}"
    shown = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _entries(SCRATCH)}
    _mount("tmpfs", SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    for directory in PRIVATE_DIRECTORIES:
        os.mkdir(SCRATCH + "/" + os.path.basename(directory), 0o755)
    for directory in sorted(PRIVATE_DIRECTORIES, key=SCRATCH.__eq__):  # last what hides the others
        _mount(SCRATCH + "/" + os.path.basename(directory), directory, None, _MS_BIND)
    for path, source in shown.items():
        _bind(source, path)
    return os.open(f"{PROCESSES}/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def _entries(directory: str) -> list[str]:
    return [f"{directory}/{name}" for name in os.listdir(directory)]


def enter_nested_namespaces(mounts: int) -> None:
    """Enter the namespaces that `make_nested_namespaces` made for another child of this process's parent."""
    become_inspectable()
    user = fcntl.ioctl(mounts, _NS_GET_USERNS)
    _check(_LIBC.setns(user, _CLONE_NEWUSER), "setns(user)")
    _check(_LIBC.setns(mounts, _CLONE_NEWNS), "setns(mount)")
    os.close(user)


def become_first_process() -> None:
    """Continue as process 1 of a new pid namespace below nested namespaces, with a view of /proc of its own.

    The new process is a child of this one's parent, because this one ends.
    """
    _check(_LIBC.unshare(_FIRST_PROCESS_NAMESPACES), "unshare(pid, mount, ipc, uts) inside namespaces")
    if os.fork():
        os._exit(0)
    _mount("proc", PROCESSES, "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _unshare_with_identity_maps() -> None:
    """Unshare all namespaces. A helper outside writes the uid and gid maps, which a process in the new one may not."""
    uid, gid, target = os.geteuid(), os.getegid(), os.getpid()
    receive, send = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(send)
        os._exit(_write_identity_maps(target, uid, gid) if os.read(receive, 1) else 1)
    os.close(receive)
    try:
        _check(_LIBC.unshare(_ALL_NAMESPACES), "unshare(user, pid, net, mount, ipc, uts)")
        os.write(send, b"1")
    finally:
        os.close(send)
        _, status = os.waitpid(helper, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise OSError(code, f"writing uid_map: {os.strerror(code)}")


def _write_identity_maps(target: int, uid: int, gid: int) -> int:
    """Map root and nobody to themselves; map any other user to nobody only. Return an errno, or 0 for success."""
    try:
        if uid == 0:
            identity = f"0 0 1\n{NOBODY} {NOBODY} 1\n"
            _write(f"/proc/{target}/uid_map", identity)
            _write(f"/proc/{target}/gid_map", identity)
        else:
            _write(f"/proc/{target}/uid_map", f"{NOBODY} {uid} 1\n")
            _write(f"/proc/{target}/setgroups", "deny")
            _write(f"/proc/{target}/gid_map", f"{NOBODY} {gid} 1\n")
    except OSError as error:
        return error.errno or 1
    return 0


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    arguments = [text.encode() if text is not None else None for text in (source, target, kind)]
    data = options.encode() if options is not None else None
    _check(_LIBC.mount(*arguments, ctypes.c_ulong(flags), data), f"mount {target}")


def _build_root(readable: Sequence[str], scratch_bytes: int, *, can_nest: bool) -> None:
    root = "/tmp"
    # Open the sources first: mounting the new root may hide them or make their parents inaccessible.
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in readable}
    devices = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _DEVICES if os.path.exists(path)}
    if not can_nest:
        devices[_STDERR] = os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
    os.umask(0o022)
    in_scratch = {path: source for path, source in sources.items() if path.startswith(f"{SCRATCH}/")}
    for path in sources.keys() - in_scratch.keys():
        _bind(sources[path], root + path)
    for link in ("/bin", "/lib", "/lib64"):
        if os.path.islink(link):
            os.symlink(os.readlink(link), root + link)
    for path in (*devices, *(() if can_nest else (STDIN, _STDOUT))):
        _make_mount_point(root + path, is_directory=False)
    os.mkdir(root + SCRATCH)
    if can_nest:
        _furnish(root)
    os.chdir(root)
    _make_read_only(root)
    for path, source in devices.items():  # mounted only now, because a device does not open where others are forbidden
        _mount(f"/proc/self/fd/{source}", root + path, None, _MS_BIND)
        os.close(source)
    options = f"mode=1777,size={scratch_bytes},nr_inodes={_MAX_SCRATCH_FILES}"
    _mount("tmpfs", root + SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
    _bind_in_scratch(in_scratch, root)
    # Not earlier, because identity maps are written there; not later, because then no other one is visible.
    if can_nest:
        _mount("proc", root + PROCESSES, "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _check(_LIBC.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_LIBC.umount2(b".", _MNT_DETACH), "umount2(old root)")
    os.chdir("/")


def _bind(source: int, target: str) -> None:
    """Show what the descriptor `source` stands for at the path `target`, and close the descriptor."""
    _make_mount_point(target, is_directory=stat.S_ISDIR(os.fstat(source).st_mode))
    _mount(f"/proc/self/fd/{source}", target, None, _MS_BIND | _MS_REC)
    os.close(source)


def _bind_in_scratch(sources: Mapping[str, int], root: str) -> None:
    """Show paths that lie in SCRATCH, such as an environment that was made there, among the files of programs.

    The directories above them are a read-only file system, because a program could move those of SCRATCH.
    """
    tops = {path: "/".join(path.split("/", 3)[:3]) for path in sources}
    for top in sorted(set(tops.values())):
        if top not in sources:
            os.mkdir(root + top)
            _mount("tmpfs", root + top, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
        for path in [path for path in sources if tops[path] == top]:
            _bind(sources[path], root + path)
        _make_read_only(root + top)


def _make_read_only(path: str) -> None:
    """Forbid writing, devices and set-user-id programs in a mount and all mounts below it."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_READ_ONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV, 0, 0, 0)
    result = _LIBC.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, path.encode(), _AT_RECURSIVE, attributes, ctypes.sizeof(attributes)
    )
    _check(result, f"mount_setattr({path}, read-only)")


def _furnish(root: str) -> None:
    """Add what shells and compilers expect to a root that is still writable."""
    for directory in (PROCESSES, *PRIVATE_DIRECTORIES, "/etc"):
        os.makedirs(root + directory, exist_ok=True)
    for number, name in enumerate((STDIN, _STDOUT, _STDERR)):
        os.symlink(f"{PROCESSES}/self/fd/{number}", root + name)
    os.symlink(f"{PROCESSES}/self/fd", root + "/dev/fd")  # for `<(command)` of bash
    _write(root + "/etc/passwd", f"nobody:x:{NOBODY}:{NOBODY}:nobody:/workspace:/bin/bash\n")
    _write(root + "/etc/group", f"nogroup:x:{NOBODY}:\n")


def make_standard_files() -> tuple[int, int]:
    """Make the files STDIN, which programs can only read, and _STDOUT, and return descriptors to write them with.

    Call this in namespaces, before privileges are dropped.
    """
    _mount("tmpfs", SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=0")  # hides SCRATCH for a moment
    descriptors: list[int] = []
    for target, mode in ((STDIN, 0o444), (_STDOUT, 0o666)):
        path = SCRATCH + "/" + os.path.basename(target)
        descriptors.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC))
        os.fchmod(descriptors[-1], mode)
        _mount(path, target, None, _MS_BIND)
    _mount("none", STDIN, None, _MS_REMOUNT | _MS_BIND | _MS_READ_ONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _check(_LIBC.umount2(SCRATCH.encode(), _MNT_DETACH), f"umount2({SCRATCH})")
    inputs, answers = descriptors
    return inputs, answers


def _make_mount_point(path: str, *, is_directory: bool) -> None:
    os.makedirs(path if is_directory else os.path.dirname(path), exist_ok=True)
    if not is_directory:
        os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC))


def drop_privileges(*, become_nobody: bool) -> None:
    """Give up root's identity (if requested and possible), every capability, and any way to gain new ones."""
    if become_nobody and os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # root without CAP_SETUID keeps its user id, but no capability
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "prctl(PR_SET_NO_NEW_PRIVS)")
    # These two may fail: the first on kernels without ambient capabilities, the second for capabilities that the kernel
    # does not know, or if this process holds none. In neither case is there anything to drop.
    _LIBC.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    for capability in range(64):
        _LIBC.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(_LIBC.syscall(_CAPSET, header, none), "capset")
    _prctl(_PR_SET_DUMPABLE, 0, "prctl(PR_SET_DUMPABLE)")


def become_inspectable() -> None:
    """Let this process, and others of the same user, use its files in /proc, which `drop_privileges` prevents."""
    _prctl(_PR_SET_DUMPABLE, 1, "prctl(PR_SET_DUMPABLE)")


def reachable_by_nobody(paths: Sequence[str]) -> bool:
    """Check whether any user can reach all of `paths`, which a home folder of mode 0700, say, prevents."""
    for path in paths:
        step = path if os.path.isdir(path) else os.path.dirname(path)
        while os.stat(step).st_mode & stat.S_IXOTH and step != "/":
            step = os.path.dirname(step)
        if step != "/":
            return False
    return True


def restrict_files(
    readable: Sequence[str], *, executable: bool = False, writable: Sequence[str] = (), listable: Sequence[str] = ()
) -> None:
    """Restrict this process by Landlock: no use of files except below `readable` and `writable`.

    Below `readable` it may read and, if `executable`, execute files; below `writable` it may do anything except make
    devices; below `listable` it may list directories; it may use the devices and standard files of the sandbox. TCP is
    denied from Landlock's version 4 on, and signals to processes outside from version 6 on.
    """
    version = _check(_LIBC.syscall(_LANDLOCK_CREATE, None, 0, 1), "landlock_create_ruleset(version)")
    num_file_rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)
    all_rights = (1 << num_file_rights) - 1
    network = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    attributes = (ctypes.c_uint64 * 3)(all_rights, network, scopes)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _check(_LIBC.syscall(_LANDLOCK_CREATE, attributes, size, 0), "landlock_create_ruleset")
    reading = _LANDLOCK_READ_FILE | _LANDLOCK_READ_DIR | (_LANDLOCK_EXECUTE if executable else 0)
    rights_of = dict.fromkeys(listable, _LANDLOCK_READ_DIR) | dict.fromkeys(readable, reading)
    usable = [path for path in _DEVICES if os.path.exists(path)]
    usable += [path for path in (STDIN, _STDOUT) if os.path.isfile(path)]
    reading_and_writing = _LANDLOCK_READ_FILE | _LANDLOCK_WRITE_FILE | _LANDLOCK_TRUNCATE
    rights_of |= dict.fromkeys(usable, reading_and_writing & all_rights)
    rights_of |= dict.fromkeys(writable, all_rights & ~_LANDLOCK_MAKE_DEVICES)
    for path, rights in rights_of.items():
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not os.path.isdir(path):
            rights &= ~_LANDLOCK_READ_DIR  # which the kernel refuses for a file
        # struct landlock_path_beneath_attr is packed
        rule = rights.to_bytes(8, sys.byteorder) + opened.to_bytes(4, sys.byteorder)
        _check(_LIBC.syscall(_LANDLOCK_ADD, ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0), f"landlock {path}")
        os.close(opened)
    _check(_LIBC.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def remove_contents(directory: str) -> None:
    """Empty a directory that a hostile program has filled: deeply nested, say, or with directories that deny access.

    Mounts in it stay: no program can have made them, nor written to them.
    """
    os.chdir(directory)
    above: list[str] = []
    while True:
        for name in filterfalse(os.path.ismount, os.listdir()):
            try:
                os.unlink(name)
            except IsADirectoryError:
                os.chmod(name, 0o700)
                os.chdir(name)  # rather than joining paths, which may become too long
                above.append(name)
                break
        else:
            os.chdir("..")
            if not above:
                os.chdir("/")
                return
            os.rmdir(above.pop())


def limit_program(address_space: int, cpu_s: int) -> None:
    """Set the limits of this program: bytes, and whole seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))


def limit_resources(*, file_bytes: int, limit_threads: bool, others: Mapping[int, int] | None = None) -> None:
    """Set the limits that are the same for every program, and `others`, which take precedence.

    Threads can be limited only in a separate user namespace: elsewhere the kernel counts all processes of the user.
    """
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_STACK: STACK_BYTES,
        resource.RLIMIT_FSIZE: file_bytes,
    }
    if limit_threads:
        limits[resource.RLIMIT_NPROC] = MAX_THREADS + 2  # for the zygote and the program's first thread
    for kind, value in (limits | dict(others or {})).items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
