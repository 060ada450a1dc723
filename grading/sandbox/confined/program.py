"""One program under judgement, in a process of its own: compile once, then run it on inputs as they come.

Every test sees a fresh `__main__` (or, with an entry point, a fresh module), real file descriptors 0 and 1, and nothing
of the tests that follow. What a program changed elsewhere (in builtins, or in modules) stays changed until its process
ends: putting it back would cost more than the fresh process that confirms a failure. Standard output goes to a capped
memory file that the controller reads; with an entry point, the JSON of the result goes there. The one status message
per step can be forged by the program, and gains nothing: the controller takes it only as a reason to reject.

Status messages: `H` hello, `C` compiled, `S` cannot be compiled, `0` done, `L` done but do not reuse this process,
`E` exception, `M` out of memory, `Q` left with an exit code, `F` no such entry point, `X` the sandbox failed; each
followed by the peak memory in KiB and a text.

Runs inside the sandbox: standard library only.
"""

# ruff: noqa: SIM115  (standard streams stay open)
import _sitebuiltins
import _thread
import atexit
import builtins
import contextlib
import json
import os
import resource
import sys
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TextIO

from alphamix.grading.sandbox.confined import confinement

if TYPE_CHECKING:
    from alphamix.grading.sandbox.confined.seccomp import Filter

MAX_MESSAGE = 300
RECURSION_LIMIT = 1000


class Channels(NamedTuple):
    """File descriptors that every program process inherits from the zygote."""

    status: int
    inputs: int
    answers: int
    null: int


class _NoEntryPointError(Exception):
    pass


def run(order: dict[str, Any], channels: Channels, syscall_filter: "Filter | None") -> NoReturn:
    """Serve one program; never returns. `order`: `entry_point`, `address_space` (bytes), `cpu_s` (whole
    seconds).
    """
    try:
        confinement.limit_program(order["address_space"], order["cpu_s"])
        if syscall_filter is not None:
            syscall_filter.install()
        send(channels, b"H")
        os.read(channels.status, 1)  # the controller takes hold of this process before anything untrusted runs
        for descriptor in (0, 1):  # where the program before this one left them
            os.lseek(descriptor, 0, os.SEEK_SET)
        code, is_used = _compile(channels), False
        while os.read(channels.status, 1) and code is not None:
            if is_used:
                _reset_interpreter(channels)
            send(channels, *_run_test(code, order["entry_point"], channels))
            is_used = True
    except OSError as error:
        send(channels, b"X", str(error))
    finally:
        os._exit(0)


def rehearse(channels: Channels) -> None:
    """Do once, in the zygote, what every program's process would do first, and leave it ready for a first test.

    What the interpreter builds on first use (the compiler's tree types above all, 1 ms of CPU) and the standard
    streams are then inherited by every fork.
    """
    for name in ("exit", "quit"):  # which the site module would add
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    source = b"def double(value: int) -> int:\n    return 2 * value\n\nprint(double(1))"
    for _ in range(20):  # until the interpreter has specialised our functions: doing so writes to their code
        _reset_interpreter(channels)
        _run_script(compile(source, "main.py", "exec", dont_inherit=True))
        _to_json(json.loads('[{"key": [1, 2.5, "text", true, null]}]'))
    _reset_interpreter(channels)


def send(channels: Channels, status: bytes, text: str = "") -> None:
    """Tell the controller what has happened, and the peak memory."""
    peak_rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = b"%s %d %s" % (status, peak_rss_kb, text[:MAX_MESSAGE].encode(errors="replace"))
    os.write(channels.status, message)


def _compile(channels: Channels) -> CodeType | None:
    source = os.pread(channels.inputs, os.fstat(channels.inputs).st_size, 0)
    try:
        code = compile(source, "main.py", "exec", dont_inherit=True)
    except BaseException as error:  # the compiler may raise nearly anything on hostile source
        send(channels, b"S", _describe(error))
        return None
    send(channels, b"C")
    return code


def _run_test(code: CodeType, entry_point: str | None, channels: Channels) -> tuple[bytes, str]:
    try:
        if entry_point is None:
            _run_script(code)
        else:
            os.dup2(channels.null, 0)
            os.dup2(channels.null, 1)
            result = _call(code, entry_point, channels)
            os.pwrite(channels.answers, result, 0)
    except MemoryError:
        return b"M", ""
    except _NoEntryPointError as error:
        return b"F", str(error)
    except SystemExit as error:
        return b"Q", str(error.code & 0xFF if isinstance(error.code, int) else 1)
    except BaseException as error:  # whatever the program raises is its own failure
        return b"E", _describe(error)
    num_threads_left = _thread._count()  # pyright: ignore[reportPrivateUsage]  (threading may not be imported)
    return (b"L" if num_threads_left else b"0"), ""


def _reset_interpreter(channels: Channels) -> None:
    """Make the next test look like the first one of a new process."""
    for source, target in ((channels.inputs, 0), (channels.answers, 1), (channels.null, 2)):
        os.dup2(source, target)
        os.lseek(target, 0, os.SEEK_SET)
    # Text layers of our own over descriptors that stay open: programs may close or replace them.
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = ["main.py"]
    sys.setrecursionlimit(RECURSION_LIMIT)


def _fresh_module(name: str) -> ModuleType:
    module = ModuleType(name)
    vars(module)["__builtins__"] = builtins
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
    """Do what the interpreter does at its end: wait for threads, run atexit, flush."""
    threading: Any = sys.modules.get("threading")
    for thread in threading.enumerate() if threading else ():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  (has no public name)
    for stream in (sys.stdout, stdout):
        with contextlib.suppress(AttributeError, ValueError):  # replaced by something else, or closed
            stream.flush()


def _call(code: CodeType, entry_point: str, channels: Channels) -> bytes:
    arguments = json.loads(os.pread(channels.inputs, os.fstat(channels.inputs).st_size, 0))
    module = _fresh_module("solution")
    exec(code, vars(module))
    owner, _, name = entry_point.rpartition(".")
    namespace: Any = module
    if owner:
        if not hasattr(module, owner):
            raise _NoEntryPointError(f"no class {owner!r} in the program")
        namespace = getattr(module, owner)()
    if not callable(getattr(namespace, name, None)):
        raise _NoEntryPointError(f"no function {entry_point!r} in the program")
    return _to_json(getattr(namespace, name)(*arguments))


def _to_json(value: Any) -> bytes:
    """Write `value` as strict JSON. Raises TypeError or ValueError where it is none: keys are not made into
    strings.
    """
    text = json.dumps(value)
    pending = [value] if "{" in text else []
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                raise TypeError("the result has a key that is not a string")
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
    return text.encode()


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
