"""Agents that users write: found by file or module, made with their arguments, and blamed for their own errors."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble.settings.agent import AgenticCoding
from alphamix.ensemble.settings.own_agent import AgentImportError, OwnAgent, source_hash
from alphamix.ensemble.settings.setting import Failed
from alphamix.ensemble.settings.task import AgentLimits
from alphamix.ensemble.store import Sample
from alphamix.grading.types import Problem
from alphamix.grading.workspace import WorkspacePool

from .conversation import course, outcome, said

TESTS = [{"input": "1", "output": "2"}, {"input": "20", "output": "40"}]
PROBLEM = Problem.model_validate({"id": "p", "statement": "Double n.", "tests": TESTS, "public_tests": 1})
HEAD = "import alphamix\nfrom dataclasses import dataclass\n"
RETRY = """
@dataclass
class Mine:
    tries: int = 3

    def run(self, task):
        messages = [{"role": "user", "content": task.prompt}]
        for _ in range(self.tries):
            reply = yield alphamix.Ask(messages)
            yield from task.write("a.py", task.program_in(reply.text))
            if (yield from task.test("a.py")).is_good:
                return "a.py"
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        yield pool


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Write a class, and return it."""

    def make(source: str, **arguments: Any) -> OwnAgent:
        (tmp_path / "mine.py").write_text(HEAD + source)
        return OwnAgent(f"{tmp_path / 'mine.py'}:Mine", arguments)

    return make


def run_body(*lines: str) -> str:
    return "class Mine:\n    def run(self, task):\n" + "".join(f"        {line}\n" for line in lines)


def block(program: str) -> str:
    return f"```python\n{program}\n```"


def test_it_asks_tests_and_submits(own: Any, pool: WorkspacePool) -> None:
    answers = [said(block("print(input())")), said(block("print(2 * int(input()))"))]
    sample, requests = outcome(AgenticCoding(pool, own(RETRY)), answers.__getitem__, PROBLEM)
    assert isinstance(sample, Sample)
    assert sample.completion.text == "print(2 * int(input()))\n"
    assert [request.prompt[0]["content"][:9] for request in requests] == ["Double n."] * 2  # type: ignore[index]
    assert [message["role"] for message in course(sample).messages] == ["user", "assistant"] * 2
    assert (course(sample).ending, course(sample).usage.calls) == ("submitted", 2)
    sample, _ = outcome(AgenticCoding(pool, own(RETRY, tries=1)), answers.__getitem__, PROBLEM)
    assert (course(sample).ending, course(sample).prompt) == ("gave_up", "agent_stdin")


def test_the_agent_of_the_documentation_works(
    tmp_path: Path, pool: WorkspacePool, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "settings.md").read_text()
    (tmp_path / "once.py").write_text(next(part for part in page.split("```") if "class Once" in part)[len("python") :])
    setting = AgenticCoding(pool, OwnAgent(f"{tmp_path / 'once.py'}:Once", {}))
    sample, _ = outcome(setting, lambda _: said(block("print(2 * int(input()))")), PROBLEM)
    assert course(sample).ending == "submitted"
    assert capsys.readouterr().out == "True Test 1: passed\n"


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["yield alphamix.Ask([])", "raise KeyError('bug')"], "mine.py:Mine raised KeyError('bug') (mine.py, line 6)"),
        (["import json", "yield alphamix.Ask([])", "json.loads('{')"], "(mine.py, line 7)"),
        (["yield alphamix.Ask([])", "raise SystemExit(1)"], "mine.py:Mine raised SystemExit(1) (mine.py, line 6)"),
        (["yield 'ls'"], "'ls' was yielded, which is neither Ask nor a future\") (mine.py, line 5)"),
        (["yield task.bash('ls')"], "was yielded, which is neither"),
        (["while True:", "    try: yield 5", "    except TypeError: pass"], "5 was yielded, which is neither"),
        (["yield alphamix.Ask('hello')"], "TypeError('\\'h\\' is no message"),
        (["yield alphamix.Ask(None)"], "mine.py:Mine raised TypeError("),
        (["yield alphamix.Ask([])", "yield alphamix.Ask([3])"], "3 is no message: ask with a list of"),
        (["yield alphamix.Ask([{'role': 'user', 'content': 5}])"], "is no message"),
        (["yield alphamix.Ask([{'content': 'x'}])"], "is no message"),
        (["yield from task.bash('ls')", "return 5"], "mine.py:Mine returned 5, and should return the path of a file"),
        (["yield from task.bash()"], "missing 1 required positional argument: 'command'"),
    ],
)
def test_its_errors_are_told_as_its_own_and_owe_the_slot(
    lines: list[str], fault: str, own: Any, pool: WorkspacePool
) -> None:
    found, _ = outcome(AgenticCoding(pool, own(run_body(*lines))), lambda _: said("hm"), PROBLEM)
    assert isinstance(found, Failed)
    assert found.failure.cause == "setting"
    assert fault in found.failure.message
    assert "\n" not in found.failure.message


def test_it_may_go_on_with_its_own_list_of_messages(own: Any, pool: WorkspacePool) -> None:
    ask = "messages.append((yield alphamix.Ask(messages)).message)"
    lines = ["messages = [{'role': 'user', 'content': 'a'}]", ask, "messages.append(dict(messages[0]))", ask]
    lines += ["messages[0]['content'] = 'changed'"]
    sample, requests = outcome(AgenticCoding(pool, own(run_body(*lines))), lambda turn: said(f"b{turn}"), PROBLEM)
    assert [len(request.prompt) for request in requests] == [1, 3]
    assert [message["content"] for message in course(sample).messages] == ["a", "b0", "a", "b1"]


@pytest.mark.parametrize(
    ("lines", "ending"),
    [
        (["while True: yield alphamix.Ask([])"], "out_of_turns"),
        (["while True: yield from task.bash('true')"], "out_of_turns"),
        (["yield alphamix.Ask([])", "return 'absent.py'"], "nothing_submitted"),
        (["yield alphamix.Ask([])", "return '/usr/bin/env'"], "nothing_submitted"),
        (["yield alphamix.Ask([])", "return None"], "gave_up"),
        (["try:", "    yield from task.write('a.py', '1')", "    while True: yield alphamix.Ask([])",
          "except alphamix.LimitReachedError: return 'a.py'"], "submitted"),
    ],
)  # fmt: skip
def test_limits_hold_for_it(lines: list[str], ending: str, own: Any, pool: WorkspacePool) -> None:
    limits = AgentLimits(turns=3, calls=4)
    sample, requests = outcome(AgenticCoding(pool, own(run_body(*lines)), limits), lambda _: said("hm"), PROBLEM)
    assert course(sample).ending == ending
    assert len(requests) <= 3


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("class Other: pass", "AttributeError"),
        ("class Mine(: pass", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Mine:\n    def __init__(self, *, tries): pass", "missing 1 required keyword-only argument: 'tries'"),
        ("class Mine:\n    def run(self, task): return 'a.py'", "run of the agent"),
        ("class Mine: pass", "no attribute 'run'"),
    ],
)
def test_a_class_that_cannot_work_is_refused_at_once(source: str, fault: str, own: Any) -> None:
    with pytest.raises(AgentImportError) as caught:
        own(source)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_modules_are_imported_and_hashed_as_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_agents_of_a_test").mkdir()
    (tmp_path / "own_agents_of_a_test" / "retrying.py").write_text(HEAD + RETRY)
    monkeypatch.syspath_prepend(tmp_path)
    reference = "own_agents_of_a_test.retrying:Mine"
    OwnAgent(reference, {"tries": 2})
    by_file = f"{tmp_path}/own_agents_of_a_test/retrying.py:Mine"
    assert source_hash(reference) == source_hash(by_file)
    (tmp_path / "own_agents_of_a_test" / "retrying.py").write_text(HEAD + RETRY + "\n")
    changed = source_hash(by_file)
    assert source_hash(reference) == changed
    for gone in ("no_such_package.x:A", "no_such_package_2:A", f"{tmp_path}/gone.py:A", "sys:A"):
        with pytest.raises(AgentImportError):
            source_hash(gone)
        with pytest.raises(AgentImportError):
            OwnAgent(gone, {})
    sys.modules.pop("own_agents_of_a_test.retrying")
