"""The process of a Python program: it compiles the program once, then runs it on inputs as they arrive.

Every test sees a fresh `__main__` (or, with an entry point, a fresh module), real file descriptors 0 and 1, and nothing
of the tests that follow. A process runs several tests only of a program that is proven to keep nothing else
(`stateless`). Standard output, or with an entry point the JSON of the result, goes to a size-limited memory file that
the controller reads.

The process sends one status message per step: `H` hello, `C` compiled, `S` cannot be compiled, `0` done, `L` done but
do not reuse this process, `E` exception, `M` out of memory, `Q` left with an exit code, `F` no such entry point, `U`
the program did what its proof excludes, `X` the sandbox failed. The peak memory in KiB and a text follow, which for `C`
is `stateless` if that is proven. A program that forges a message gains nothing, because the answer decides; a message
can only be a reason to reject it.
"""

# ruff: noqa: SIM115  (standard streams must stay open)
import _sitebuiltins
import _socket
import _thread
import atexit
import builtins
import contextlib
import json
import os
import resource
import sys
from types import CodeType, ModuleType
from typing import Any, NamedTuple, NoReturn, TextIO

from alphamix.grading.sandbox.confined import confinement, leetcode, stateless, values
from alphamix.grading.sandbox.confined.seccomp import Filter

MAX_MESSAGE = 300
RECURSION_LIMIT = 1000
_SHORT_BYTES = 1 << 16


class Channels(NamedTuple):
    """File descriptors that every program process inherits from the zygote."""

    status: int
    inputs: int
    answers: int
    null: int


_REHEARSED = b"""
import sys
from collections import defaultdict
class Solution:
    def double(self, values: list[int], other: dict) -> list:
        counts, answer = defaultdict(int), []
        for index, value in enumerate(values):
            while answer and answer[-1] > value: answer.pop()
            counts[value] += 1
            answer.append(2 * value if index % 2 == 0 else -value)
        return [sorted((value for value in answer if value in counts), key=lambda value: -value), other]
def main():
    n, *values = [len(input())] + list(map(int, "1 2 3".split()))
    print(len(values), f"{n}", *Solution().double(values, {}))
if __name__ == "__main__": main()
"""
"""A program with what programs contain most."""
_REHEARSED_INPUT = b'[[1, 2, 3], {"key": [2.5, "text", true, null]}]'
_REHEARSALS = 20


class _NoEntryPointError(Exception):
    pass


def run(order: dict[str, Any], channels: Channels, syscall_filter: Filter | None) -> NoReturn:
    """Compile and run one program. Never returns.

    `order` has its `entry_point`, the limits `address_space` (bytes) and `cpu_s` (whole seconds), and where several
    tests may share the process `proves`: whether they contain floats.
    """
    try:
        confinement.limit_program(order["address_space"], order["cpu_s"])
        if syscall_filter is not None:
            syscall_filter.install()
        code, modules = _load(channels, order["proves"])
        _run_tests(code, modules, order["entry_point"], channels)
    except OSError as error:
        send(channels, b"X", str(error))
    finally:
        os._exit(0)


def rehearse(channels: Channels) -> None:
    """Do in the zygote what a program's process does, except to confine itself, and leave it ready for a first test.

    Forks then inherit the standard streams, and what the interpreter builds on first use (above all the compiler's tree
    types, which take 1 ms of CPU). The interpreter also specialises functions that run often, which writes to many
    pages. So this is repeated until it is done.
    """
    for name in ("exit", "quit"):  # the site module, which -S disables, would add these
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    inputs, answers = os.memfd_create("input"), os.memfd_create("answer")
    for entry_point in (None, "Solution.double") * _REHEARSALS:
        controller, own = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        stand_ins = Channels(own.fileno(), inputs, answers, channels.null)
        _reset_interpreter(stand_ins)
        os.ftruncate(inputs, os.pwrite(inputs, _REHEARSED, 0))
        for _ in range(3):
            controller.send(b"N")
        controller.shutdown(_socket.SHUT_WR)
        code, modules = _load(stand_ins, None)
        stateless.prove(_REHEARSED, has_floats=False)
        os.ftruncate(inputs, os.pwrite(inputs, _REHEARSED_INPUT, 0))
        _run_tests(code, modules, entry_point, stand_ins)
    os.close(inputs)
    os.close(answers)
    del sys.modules["solution"]
    _reset_interpreter(channels)


def _load(channels: Channels, has_floats: bool | None) -> tuple[CodeType | None, frozenset[str] | None]:
    """Return the code of the program, and the modules that it uses if it is proven stateless, else None."""
    send(channels, b"H")
    os.read(channels.status, 1)  # nothing untrusted may run until the controller measures this process
    os.lseek(0, 0, os.SEEK_SET)  # the previous program, which shares the offset, may have moved it
    source = _read_input(channels)
    try:
        code = compile(source, "main.py", "exec", dont_inherit=True)
    except BaseException as error:  # on hostile source the compiler may raise nearly anything
        send(channels, b"S", _describe(error))
        return None, None
    modules = None if has_floats is None else stateless.prove(source, has_floats=has_floats)
    if modules is not None:
        stateless.watch(modules, lambda: _leave_unproven(channels))
    send(channels, b"C", "" if modules is None else "stateless")
    return code, modules


def _run_tests(
    code: CodeType | None, modules: frozenset[str] | None, entry_point: str | None, channels: Channels
) -> None:
    """Run a test whenever the controller asks for one, until it closes the channel."""
    is_used = False
    while os.read(channels.status, 1) and code is not None:
        if is_used:
            _rewind()
            stateless.reset(modules or frozenset())
        send(channels, *_run_test(code, entry_point, channels, is_proven=modules is not None))
        is_used = True


def send(channels: Channels, status: bytes, text: str = "") -> None:
    """Send the controller a status message, with the peak memory."""
    peak_rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = b"%s %d %s" % (status, peak_rss_kb, text[:MAX_MESSAGE].encode(errors="replace"))
    os.write(channels.status, message)


def _read_input(channels: Channels) -> bytes:
    data = os.pread(channels.inputs, _SHORT_BYTES, 0)  # without asking for the size, which takes longer
    return data if len(data) < _SHORT_BYTES else os.pread(channels.inputs, os.fstat(channels.inputs).st_size, 0)


def _leave_unproven(channels: Channels) -> NoReturn:
    send(channels, b"U")
    os._exit(0)


def _run_test(code: CodeType, entry_point: str | None, channels: Channels, *, is_proven: bool) -> tuple[bytes, str]:
    try:
        if entry_point is None:
            _run_script(code)
        else:
            os.dup2(channels.null, 0)
            os.dup2(channels.null, 1)
            result = _call(code, entry_point, channels, is_proven=is_proven)
            os.write(channels.answers, result)
    except MemoryError:
        return b"M", ""
    except _NoEntryPointError as error:
        return b"F", str(error)
    except (NameError, RuntimeError) as error:
        # The process of a proven program lacks the names that LeetCode provides, and has less room (`stateless.watch`).
        return (b"U", "") if is_proven else (b"E", _describe(error))
    except SystemExit as error:
        return b"Q", str(error.code & 0xFF if isinstance(error.code, int) else 1)
    except BaseException as error:  # anything that the program raises is its own failure
        return b"E", _describe(error)
    # `threading` would count them publicly, but importing it here would cost every program time.
    num_threads_left = _thread._count()  # pyright: ignore[reportPrivateUsage]
    return (b"L" if num_threads_left else b"0"), ""


def _reset_interpreter(channels: Channels) -> None:
    """Make the streams and limits those of a new process."""
    for source, target in ((channels.inputs, 0), (channels.answers, 1), (channels.null, 2)):
        os.dup2(source, target)
        os.lseek(target, 0, os.SEEK_SET)
    # These text layers do not own their descriptors, because a program may close or replace its streams.
    _open_input()
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = ["main.py"]
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.set_int_max_str_digits(0)  # the limit on CPU time bounds what long numbers may cost


def _rewind() -> None:
    """Make the next test of a stateless program run like its first one.

    Such a program cannot replace a stream, or close one other than its input, which `quit` does. Its output continues
    where it is, because the controller knows what belongs to which test.
    """
    sys.stdout.flush()
    os.lseek(0, 0, os.SEEK_SET)
    _open_input()
    sys.setrecursionlimit(RECURSION_LIMIT)


def _open_input() -> None:
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)


def _fresh_module(name: str) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(__builtins__=builtins, __file__="/main.py")
    sys.modules[name] = module
    return module


def _run_script(code: CodeType) -> None:
    module, stdout, exit_code = _fresh_module("__main__"), sys.stdout, None
    try:
        exec(code, vars(module))
    except SystemExit as error:
        exit_code = error.code
    _finish(stdout)
    vars(module).clear()  # files that the program left open are flushed here
    if exit_code not in (None, 0):
        raise SystemExit(exit_code)


def _finish(stdout: TextIO) -> None:
    """Do what the interpreter does at exit: wait for threads, run atexit functions, flush."""
    threading: Any = sys.modules.get("threading")
    for thread in threading.enumerate() if threading else ():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  (has no public name)
    for stream in (sys.stdout, stdout):
        with contextlib.suppress(AttributeError, ValueError):  # the program replaced or closed the stream
            stream.flush()


def _call(code: CodeType, entry_point: str, channels: Channels, *, is_proven: bool) -> bytes:
    arguments = json.loads(_read_input(channels))
    module = _fresh_module("solution")
    owner, _, name = entry_point.rpartition(".")
    if owner:
        sys.setrecursionlimit(leetcode.RECURSION_LIMIT)
        if not is_proven:  # a proven program must not reach, by a name that it defines too late, what is provided
            vars(module).update(leetcode.provide(code))
    exec(code, vars(module))
    namespace: Any = module
    if owner:
        if not hasattr(module, owner):
            raise _NoEntryPointError(f"no class {owner!r} in the program")
        namespace = getattr(module, owner)()
    function: Any = getattr(namespace, name, None)
    if not callable(function):
        raise _NoEntryPointError(f"no function {entry_point!r} in the program")
    shape_of_name = values.shapes(function)
    if is_proven and shape_of_name:
        _leave_unproven(channels)  # the nodes are instances that the proof knows nothing of
    result = function(*values.with_nodes(function, arguments, shape_of_name))
    return values.to_json(values.without_nodes(result, shape_of_name.get("return")))


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
