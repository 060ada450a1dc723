"""The other side of a comparison (see `side`): `exec` in this process, without any isolation.

No judge in Python can take less, since this is the time of the programs themselves. They are compiled once, run on each
test with a fresh `__main__`, and compared up to the first failure.
"""

import io
import json
import sys
from contextlib import redirect_stdout
from types import CodeType
from typing import Any

from side import serve


def main() -> None:
    """Judge the workload on standard input."""
    serve(_accepts)


def _accepts(problem: dict[str, Any], source: str) -> bool:
    try:
        code = compile(source, "program", "exec")
        return all(_passes(problem["entry_point"], code, test) for test in problem["tests"])
    except Exception:
        return False


def _passes(entry_point: str | None, code: CodeType, test: dict[str, Any]) -> bool:
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        if entry_point is None:
            return _output(code, names, test["input"]).split() == test["output"].split()
        exec(code, names)
        owner, _, method = entry_point.partition(".")
        return getattr(names[owner](), method)(*json.loads(json.dumps(test["input"]))) == test["output"]
    except SystemExit:
        return False


def _output(code: CodeType, names: dict[str, Any], given: str) -> str:
    sys.stdin, written = io.StringIO(given), io.StringIO()
    with redirect_stdout(written):
        try:
            exec(code, names)
        except SystemExit as left:
            if left.code:
                raise
    return written.getvalue()


if __name__ == "__main__":
    main()
