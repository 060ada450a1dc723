"""Runs a program of a workspace on the tests that the statement shows, as the judge would, and tells what it wrote.

A function is called with the values, names and nodes that the judge provides (`grading.sandbox.confined`), and answers
are compared by the problem's checker. Whether a checker that is a program accepts an answer is not found out.
"""

import inspect
import json
import shlex
from dataclasses import replace

from alphamix.ensemble.settings.loop import Steps
from alphamix.ensemble.settings.tool_formats import show_result
from alphamix.grading.checkers.agreement import plain_checker
from alphamix.grading.checkers.compare import ValueUnreadableError, accepts, accepts_value, parse_value
from alphamix.grading.sandbox.confined import leetcode, values
from alphamix.grading.types import Problem, ProgramChecker, Test
from alphamix.grading.workspace import CallLimits, CallResult, Workspace

_START_S = 0.5
"""CPU seconds that an interpreter may take to start, beside the problem's limit."""
_COMPILED = "/tmp/.compiled"
_HARNESS = f"""
import json, sys, types

def made(name, source):
    module = sys.modules[name] = types.ModuleType(name)
    exec(source, vars(module))
    return module

path, preamble, entry_point = json.loads(sys.argv[1])
values, leetcode = made(" values", {inspect.getsource(values)!r}), made(" leetcode", {inspect.getsource(leetcode)!r})
with open(path, encoding="utf-8") as file:
    code = compile(file.read(), path, "exec", dont_inherit=True)
solution = made("solution" if entry_point else "__main__", preamble)
owner, _, name = entry_point.rpartition(".")
if owner:
    sys.setrecursionlimit(leetcode.RECURSION_LIMIT)
    vars(solution).update(leetcode.provide(code))
exec(code, vars(solution))
if entry_point:
    function = getattr(getattr(solution, owner)() if owner else solution, name)
    shapes = values.shapes(function)
    result = function(*values.with_nodes(function, json.load(sys.stdin), shapes))
    print("\\n" + values.to_json(values.without_nodes(result, shapes.get("return"))).decode())
"""
"""Program that runs a file below a preamble, and calls a function of it. The result is the last line."""


def public_part(problem: Problem) -> Problem:
    """Return a problem with its public tests alone, and without what only the judge may know.

    Where the benchmark's own code judges a program, no test is public.
    """
    shown = problem.tests[: problem.public_tests] if problem.epilogue is None else ()
    hidden = {"epilogue": None, "reference": None, "metadata": {}}
    return problem.model_copy(update={"tests": shown, "public_tests": len(shown), **hidden})


def run_public_tests(problem: Problem, path: str, workspace: Workspace, limits: CallLimits) -> Steps[tuple[str, bool]]:
    """Run a program on all tests of a problem, and return what a model is told, and whether all have passed."""
    compiling, command = _how_to_run(problem, path)
    if compiling:
        compiled: CallResult = yield workspace.run(compiling, limits)
        if compiled.ended != "ok":
            return f"The program does not compile.\n{show_result(compiled)}", False
    limits = replace(limits, cpu_s=min(limits.cpu_s, problem.time_limit_s + _START_S))
    lines: list[str] = []
    num_passed = 0
    for number, test in enumerate(problem.tests, start=1):
        given = _text(problem, test.input).encode(errors="surrogateescape")
        result: CallResult = yield workspace.run(command, limits, stdin=given, merged=False)
        if result.ended == "ok" and _is_right(problem, test, result.stdout.text):
            num_passed += 1
            lines.append(f"Test {number}: passed")
            continue
        fault = "may be wrong" if isinstance(problem.checker, ProgramChecker) and result.ended == "ok" else "failed"
        expected = _text(problem, test.output).rstrip("\n")
        lines.append(f"Test {number}: {fault}\nexpected:\n{expected}\nwritten:\n{show_result(result)}")
    return "\n".join(lines), num_passed == len(problem.tests)


def _how_to_run(problem: Problem, path: str) -> tuple[str | None, str]:
    """Return the command that compiles a program, if any, and the one that runs it."""
    if path.endswith((".cpp", ".cc", ".cxx")):
        return f"g++ -std=gnu++20 -O2 -o {_COMPILED} {shlex.quote(path)}", _COMPILED
    if problem.entry_point is None and problem.preamble is None:
        return None, f"python3 {shlex.quote(path)}"
    given = json.dumps([path, problem.preamble or "", problem.entry_point or ""])
    return None, f"python3 -c {shlex.quote(_HARNESS)} {shlex.quote(given)}"


def _text(problem: Problem, value: object) -> str:
    return str(value) if problem.entry_point is None else json.dumps(value)


def _is_right(problem: Problem, test: Test, written: str) -> bool:
    checker = plain_checker(problem)
    if problem.entry_point is None:
        return accepts(checker, test.output, written)
    try:
        return accepts_value(checker, test.output, parse_value(written.rstrip().rpartition("\n")[2].encode()))
    except ValueUnreadableError:
        return False
