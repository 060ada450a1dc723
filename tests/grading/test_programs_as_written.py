"""Programs as people write them: preambles, LeetCode's environment, nodes, and results of every kind."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import fingerprint, load_problems
from alphamix.grading.sandbox.confined import leetcode, values
from alphamix.grading.types import Judgement, Problem, Program

MakeProblem = Callable[..., Problem]


def method(body: str, *, signature: str = "self, x", before: str = "") -> Program:
    return Program(f"{before}class Solution:\n    def f({signature}):\n        {body}\n")


@pytest.mark.parametrize(
    ("preamble", "code", "verdict"),
    [
        ("from math import gcd", "print(gcd(4, 6))", "AC"),
        ("def two():\n    return 2\n", "print(two())", "AC"),
        ("two = 1", "two = 2\nprint(two)", "AC"),  # the program's own definition wins
        ("two = 2", "from __future__ import annotations\nprint(two)", "AC"),
        ("two = 2", '"""A docstring."""\nfrom __future__ import (\n    annotations,\n)\nprint(two)', "AC"),
        ("two = 2", "print(two", "CE"),
        ("two = 2", "from __future__ import nothing_of_this_kind\nprint(two)", "CE"),
        (None, "print(two)", "RE"),
    ],
)
def test_a_preamble_stands_before_the_program(
    judge: Judge, make_problem: MakeProblem, preamble: str | None, code: str, verdict: str
) -> None:
    judgement = judge.submit(make_problem(("", "2"), preamble=preamble), Program(code)).result()
    assert judgement.verdict == verdict, judgement


def test_a_preamble_that_does_not_compile_is_refused_when_it_is_read(tmp_path: Path) -> None:
    problem = {"id": "late", "statement": "", "tests": [{"input": "", "output": ""}]}
    file = tmp_path / "problems.jsonl"
    for preamble in ("def f(:", "return 1", "a\0b"):
        file.write_text(json.dumps(problem) + "\n" + json.dumps(problem | {"id": "q", "preamble": preamble}))
        with pytest.raises(GradingError, match=r"line 2: the preamble of 'q' does not compile \(.*\): correct it"):
            load_problems(file)


def test_new_keys_leave_old_fingerprints_as_they_were(make_problem: MakeProblem) -> None:
    assert fingerprint([make_problem(("1", "2"))]) == OLD_FINGERPRINT
    assert fingerprint([make_problem(("1", "2"), preamble="import math")]) != OLD_FINGERPRINT
    assert fingerprint([make_problem(("1", "2"), packages=("numpy",))]) != OLD_FINGERPRINT


OLD_FINGERPRINT = "14b5ec672407b3dc9894301de1470a85b41b40424284e72198840245cb3f9737"


@pytest.mark.parametrize(
    "program",
    [
        method("return max(Counter(x).values())", signature="self, x: List[int]"),
        method("return len(deque(accumulate(x))) - 1"),
        method("return heapq.nlargest(1, x)[0]"),
        method("return bisect_left(sorted(x), 2) + bisect.bisect_left([], 0)"),
        method("return mean([2, 2]) and gcd(4, 6)"),
        method("return reduce(add, x) // 2"),
        method("return next(islice(cycle([2]), 5, 6)) if inf > 1 else 0"),
        method("return (lambda m: m)(2)", before="gcd = 3\nassert gcd == 3\n"),  # its own name wins
        method("return pow(2, 1) if abs(-1) == 1 else 0"),  # built-ins keep their meaning
        method("return dfs(20000) - 19998", before="@cache\ndef dfs(n):\n    return n and dfs(n - 1) + 1\n"),
        method("return d['a'] and 2", before="from collections import *\nd = defaultdict(lambda: 1)\n"),
    ],
)
def test_a_solution_needs_no_imports(judge: Judge, make_problem: MakeProblem, program: Program) -> None:
    problem = make_problem(([[1, 1, 2]], 2), entry_point="Solution.f")
    judgement = judge.submit(problem, program).result()
    assert judgement.verdict == "AC", judgement


@pytest.mark.parametrize("code", ["def f(x): return deque([2])[0]", "def f(x: List[int]): return 2"])
def test_other_programs_need_their_imports(judge: Judge, make_problem: MakeProblem, code: str) -> None:
    judgement = judge.submit(make_problem(([1], 2), entry_point="f"), Program(code)).result()
    assert (judgement.verdict, judgement.message[:9]) == ("RE", "NameError")


def test_the_names_of_leetcode_exist() -> None:
    for module, names in leetcode.EXPORTS.items():
        missing = [name for name in names.split() if not hasattr(importlib.import_module(module), name)]
        assert not missing, module


def test_names_are_imported_only_if_they_are_used() -> None:
    code = compile("def f(x):\n    return [deque(x), lambda: inf, sorted(x), unknown]", "main.py", "exec")
    assert set(leetcode.provide(code)) == {"deque", "inf"}
    assert leetcode.provide(compile("print(1)", "main.py", "exec")) == {}


OWN_LIST = "class ListNode:\n    def __init__(self, x):\n        self.val, self.next, self.own = x, None, 1\n"
REVERSE = """
        before = None
        while head:
            head.next, before, head = before, head, head.next
        return before
"""


@pytest.mark.parametrize(
    ("signature", "before", "body", "arguments", "result"),
    [
        ("self, head: Optional[ListNode]) -> Optional[ListNode]", "", REVERSE, [[1, 2, 3]], [3, 2, 1]),
        ("self, head: Optional[ListNode]) -> Optional[ListNode]", "", REVERSE, [[]], []),
        ("self, head: 'ListNode | None') -> 'ListNode | None'", "", REVERSE, [[1, 2]], [2, 1]),
        ("self, head: ListNode)", "from __future__ import annotations\n", REVERSE, [[1, 2]], [2, 1]),
        ("self, head: Optional[ListNode])", OWN_LIST, "return head.own + head.next.own", [[5, 6]], 2),
        ("self, heads: List[Optional[ListNode]]) -> List[ListNode]", "", "return heads[::-1]", [[[1], []]], [[], [1]]),
        ("self, root: Optional[TreeNode])", "", "return root.right.left.val", [[1, None, 2, 3]], 3),
        ("self, root: Optional[TreeNode])", "", "return root", [[1, None, 2, 3]], [1, None, 2, 3]),
        ("self, root: TreeNode) -> Optional[TreeNode]", "", "return root and root.left", [[1, None, 2]], []),
        ("self, root: Optional[TreeNode], k: int)", "", "return [root.val, k]", [[4], 7], [4, 7]),
        ("self, x)", "", "return TreeNode(x, ListNode and TreeNode(2))", [1], [1, 2]),
        ("self, x)", "", "return x", [[1, None, 2]], [1, None, 2]),  # nothing is annotated
    ],
)
def test_nodes_go_in_by_annotation_and_come_out_as_arrays(
    judge: Judge, make_problem: MakeProblem, signature: str, before: str, body: str, arguments: list[Any], result: Any
) -> None:
    program = Program(f"{before}class Solution:\n    def f({signature}:\n        {body.strip()}\n")
    problem = make_problem((arguments, result), entry_point="Solution.f")
    judgement = judge.submit(problem, program).result()
    assert judgement.verdict == "AC", judgement


numbers = st.lists(st.integers(-9, 9))
trees = st.recursive(
    st.none(), lambda child: st.builds(leetcode.TreeNode, st.integers(0, 9), child, child), max_leaves=30
)


@given(numbers)
def test_lists_come_back_as_they_went_in(items: list[int]) -> None:
    head = values._build(items, values.Shape(leetcode.ListNode, 0))
    assert list(values._values_of_list(head)) == items


@given(trees)
def test_trees_come_back_as_they_went_in(root: "leetcode.TreeNode | None") -> None:
    levels = values._values_of_tree(root)
    again = values._build(levels, values.Shape(leetcode.TreeNode, 0))
    assert nested(again) == nested(root)
    assert values._values_of_tree(again) == levels


def nested(node: Any) -> Any:
    return node and (node.val, nested(node.left), nested(node.right))


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("{3, 1, 2}", [1, 2, 3]),
        ("frozenset('ba')", ["a", "b"]),
        ("{frozenset({2, 1}), frozenset({3}), frozenset({1})}", [[1], [1, 2], [3]]),
        ("{None, 'a', (1, 2)}", ["a", [1, 2], None]),
        ("[{2, 1}, (3, {4})]", [[1, 2], [3, [4]]]),
        ("collections.deque([(1, 2), 3])", [[1, 2], 3]),
        ("(n * n for n in range(4))", [0, 1, 4, 9]),
        ("map(str, [1, 2])", ["1", "2"]),
        ("zip('ab', [1, 2])", [["a", 1], ["b", 2]]),
        ("range(3)", [0, 1, 2]),
        ("{'a': 1}.items()", [["a", 1]]),
        ("collections.Counter('aab')", {"a": 2, "b": 1}),
        ("collections.defaultdict(set, {'a': {2, 1}})", {"a": [1, 2]}),
        ("array.array('i', [1, 2])", [1, 2]),
        ("collections.namedtuple('P', 'x y')(1, 2)", [1, 2]),
    ],
)
def test_results_are_compared_by_what_they_hold(
    judge: Judge, make_problem: MakeProblem, expression: str, result: Any
) -> None:
    program = Program(f"import array, collections\ndef f(): return {expression}")
    judgement = judge.submit(make_problem(([], result), entry_point="f"), program).result()
    assert judgement.verdict == "AC", judgement


LIMITS = {"MLE", "TLE", "OLE"}


@pytest.mark.parametrize(
    ("code", "verdicts"),
    [
        ("def f():\n  n = 0\n  while True:\n    yield n", LIMITS),
        ("import itertools\ndef f(): return itertools.count()", LIMITS),
        ("def f():\n  yield f()", {"RE"}),  # a generator of generators without end
        ("class ListNode:\n  val = 1\ndef f():\n  node = ListNode()\n  node.next = node\n  return node", LIMITS),
        ("class TreeNode:\n  val = 1\ndef f():\n  t = TreeNode()\n  t.left = t.right = t\n  return t", LIMITS),
        ("class A(list): __hash__ = object.__hash__\ndef f():\n  a = A()\n  a.append({a})\n  return a", {"RE"}),
        ("def f(): return b'1'", {"RE"}),
        ("def f(): return iter([{1: 2}])", {"RE"}),
        ("def f(): return 1j", {"RE"}),
        ("class A:\n  def tolist(self): return self\ndef f(): return A()", {"RE"}),
        ("def f():\n  yield 1\n  raise KeyError", {"RE"}),
    ],
)  # fmt: skip
def test_results_without_end_or_form_are_stopped_by_the_limits(
    judge: Judge, make_problem: MakeProblem, code: str, verdicts: set[str]
) -> None:
    judgement: Judgement = judge.submit(
        make_problem(([], [1]), entry_point="f", time_limit_s=0.5), Program(code)
    ).result()
    assert judgement.verdict in verdicts, judgement
