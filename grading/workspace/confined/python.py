"""The interpreter of a Python session: it runs one text after another in one namespace, as a notebook does.

It is a fork of the first process, so that starting it takes no time. Everything here may be changed by what it runs.
"""

# ruff: noqa: SIM115  (standard streams must stay open)

import _socket
import ast
import atexit
import builtins
import contextlib
import linecache
import os
import sys
import traceback
from types import CodeType, ModuleType
from typing import Any, NoReturn, TextIO

CHANNEL = 3
"""Descriptor of the socket pair to the first process."""
KEEP, LAST = b"keep", b"last"
"""Orders to run a text: the variables are kept, or the interpreter ends as a program does."""
PRELOADED = ("ast", "json", "linecache", "traceback")
_MAX_ORDER = 16


def serve() -> NoReturn:
    """Run the texts whose descriptors arrive, and answer each with its exit code. Never returns."""
    try:
        channel = _socket.socket(fileno=CHANNEL)
        namespace = _prepare()
        number = 0
        while True:
            order, ancillary, _, _ = channel.recvmsg(_MAX_ORDER, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
            if not order:
                break
            source = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
            text = os.pread(source, os.fstat(source).st_size, 0)
            os.close(source)
            number += 1
            code = run(text, f"<call {number}>", namespace)
            if order == LAST:
                code = _finish() or code
            _flush()
            channel.send(b"%d" % code)
    finally:
        os._exit(0)


def rehearse() -> None:
    """Do once, in the broker, what every session would do first."""
    run(b"import sys\nvalue = [1]\nNone", "<call 1>", _new_namespace())


def run(text: bytes, name: str, namespace: dict[str, Any]) -> int:
    """Run a text, show the value of its last expression, and return the exit code that it stands for."""
    try:
        code, last = _compile(text, name)
    except BaseException as error:  # on hostile text the compiler may raise nearly anything
        return _complain("".join(traceback.format_exception_only(error)))
    try:
        exec(code, namespace)
        if last is not None:
            sys.displayhook(eval(last, namespace))
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        return _complain(f"{error.code}\n")
    except BaseException as error:  # whatever the text raises is its own
        own_frame = error.__traceback__
        frames = own_frame.tb_next if own_frame is not None else None
        return _complain("".join(traceback.format_exception(type(error), error, frames)))
    return 0


def _compile(text: bytes, name: str) -> tuple[CodeType, CodeType | None]:
    """Return the code of a text, and apart from it that of its last expression, if it ends with one."""
    tree = ast.parse(text, name)
    lines = text.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[name] = (len(text), None, lines, name)  # so that tracebacks show lines
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    code = compile(tree, name, "exec", dont_inherit=True)
    if not isinstance(last, ast.Expr):
        return code, None
    return code, compile(ast.Expression(last.value), name, "eval", dont_inherit=True)


def _complain(text: str) -> int:
    with contextlib.suppress(Exception):  # the text may have closed or replaced the stream
        sys.stderr.write(text)
    return 1


def _prepare() -> dict[str, Any]:
    """Open the standard streams of this process, and return an empty namespace."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = sys.__stdout__ = _open_output(1, "surrogateescape")
    sys.stderr = sys.__stderr__ = _open_output(2, "backslashreplace")
    return _new_namespace()


def _open_output(descriptor: int, errors: str) -> TextIO:
    """Open a stream that writes every line at once, so that it is not lost if the process is killed."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors=errors, closefd=False)


def _new_namespace() -> dict[str, Any]:
    module = sys.modules["__main__"] = ModuleType("__main__")
    vars(module)["__builtins__"] = builtins
    return vars(module)


def _finish() -> int:
    """Do what the interpreter does at exit: wait for threads, and run the functions of atexit."""
    try:
        threading: Any = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]  (has no public name)
    except BaseException as error:
        return _complain("".join(traceback.format_exception(error)))
    return 0


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
