"""Tests share a process only if they cannot notice: the proof, a corpus of programs with state, and a property."""

import contextlib
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.judge.judge import Judge
from alphamix.grading.sandbox.confined import stateless
from alphamix.grading.sandbox.controller import Process
from alphamix.grading.types import Judgement, Problem, Program, Test

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
STATEFUL = PROGRAMS / "stateful"
SQUARES = Problem(
    id="squares",
    statement="",
    tests=tuple(Test(input=f"{n}\n", output=f"{n * n}\n") for n in range(1, 7)),
    test_order="given",
    time_limit_s=0.5,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Judge]:
    with Judge() as judge:
        yield judge


@pytest.fixture(scope="module")
def isolated() -> Iterator[Judge]:
    """A judge that gives every test a process of its own, whatever can be proven."""
    with Judge() as judge:
        judge._options = replace(judge._options, may_share=False)
        yield judge


PROVEN = (
    """
n = int(input()); print(n * n)
import sys; input = sys.stdin.readline; print(sum(map(int, input().split())))
import sys; rows = [line.split() for line in sys.stdin]; print(*(row[0] for row in rows), sep="\\n")
from collections import deque, defaultdict; graph = defaultdict(list); graph[1].append(2); print(len(graph), deque([1]))
counts = {}; counts["a"] = counts.get("a", 0) + 1; print(sorted(counts.items(), key=lambda pair: -pair[1]))
from functools import lru_cache⏎@lru_cache(maxsize=None)⏎def f(x): return x and f(x - 1)⏎print(f(9))
import heapq; heap = [3, 1]; heapq.heapify(heap); print(heapq.heappop(heap), f"{heap[0]:>5}", "{} {}".format(1, 2))
import threading, sys; sys.setrecursionlimit(10**6); t = threading.Thread(target=print); t.start(); t.join()
from decimal import getcontext, Decimal; getcontext().prec = 50; print(Decimal(1) / 3)
seen = set(); seen.add(1.5); print(2 in seen, len(seen))
seen = {3, 1, 2}; print(list(seen), max(seen))
parts = iter(input().split()); print(int(next(parts)) + int(next(parts)))
def numbers(): return map(int, input().split())⏎a, b = numbers(); print(a + b)
def count(n):⏎  while n: yield n; n -= 1⏎print(sum(count(5)))
try: n = int(input())⏎except ValueError: n = 0⏎print(n)
class Tree:⏎  size = 0⏎  def __init__(self, left): self.left = left; Tree.size += 1⏎print(Tree(Tree(None)).left.left)
class A:⏎  __slots__ = ("x", "y")⏎  def __init__(self): self.x = 1⏎print(A().x)
class Solution:⏎  def f(self, xs: list[int]) -> int: return max(xs, default=0)
def f(x: "list[int] | None"): return sorted(x, key=lambda y: -y)
from functools import cmp_to_key as by⏎class A:⏎  def __lt__(self, x): return 0⏎[A()].sort(key=by(lambda a, b: 0))
import re⏎class A:⏎  def __init__(self): self.x = re.sub("a", "b", input())⏎print(A().x)
import re; print(re.findall("a+", input()), re.sub("a", "b", "aa"))
import re; print(re.match("a", input()) is None)
print("yes" if isinstance(input(), (int, str)) else type(1) is int)
""".replace("⏎", "\x0b")
    .strip()
    .split("\n")
)

UNPROVEN = (
    """
import math; math.carried = 1
import os
print(globals())
getattr(len, "x")
print(len.__self__)
print(str(len))
f = lambda: 0; print(f"{f}")
holders = [len, print]
def give(f): return f⏎give(len)
class A: pass⏎A.__init__.x = 1
class A:⏎  def __del__(self): print(1)
def steps():⏎  try: yield⏎  finally: print(1)
try: bytearray(1 << 40)⏎except Exception: print(1)
try: bytearray(1 << 40)⏎except: print(1)
try: pass⏎finally: print(1)
from collections import Counter⏎Box = Counter⏎Box.carried = 1
from collections import Counter⏎(Counter,)[0].carried = 1
from collections import Counter⏎def f(): import collections as Counter
from collections import Counter⏎for kind in map(type, [Counter()]): kind.carried = 1
from math import gcd as map⏎for it in map(iter, [[1]]): print(str(it))
from math import *⏎def f(): gamma = 1⏎print(str(gamma))
print(list({float("nan"), 1.5}))
seen = {1, 2}; x = 1 / 3; print(max(seen))
x = 1 / 3; print(set([x]).pop())
from collections import defaultdict; d = defaultdict(lambda: 0); print(str(d))
from collections import defaultdict; d = defaultdict(lambda: 0); print(str(d.copy()))
print(str({}.keys))
d = {}; print({d.values()})
print("{0.append}".format([]))
print("{0[x].y}".format([]))
"{}".join(["a"]).format(1)
x = max(len, print, key=lambda f: 0); print(str(x))
x = next(iter([]), len); print(str(x))
A = type("A", (), {}); print(str(A()))
from functools import cmp_to_key; k = cmp_to_key(lambda a, b: 0); print(str(k(1)))
from functools import lru_cache⏎class A:⏎  def __call__(self): return 0⏎print(str(lru_cache(None)(A())))
import sys; sys.stdout = None
import sys; print(sys.modules)
import random; random.Random.x = 1
import re; re._cache["a"] = 1
import typing; typing.List[int].x = 1
import time; print(time.process_time())
class S(str): pass⏎import re; re.compile(S("a"))
print(str(object()))
from collections import defaultdict; print(str(defaultdict(object)[1]))
from collections import Counter⏎def f():⏎  yield 1⏎  return Counter⏎def g():⏎  x = yield from f(); x.kept = 1⏎list(g())
class A:⏎  def count(self): return 0⏎  kept = count⏎print(str(A.kept))
class A:⏎  def __init__(self): self.count = 0⏎print(str([].count))
print(id(1))
print(hash("a"))
match 1:⏎  case 1: pass
async def f(): pass
with open(0) as f: print(f.read())
x: print(1) = 2
class A:⏎  def format(self): return 0⏎f = "{0.append}".format; print(f([]))
class A:⏎  def mro(self): return 0⏎class B: pass⏎print({B.mro()[0]})
class A:⏎  def __init__(self): self.mro = 1⏎print(A.mro)
class A:⏎  @property⏎  def p(self): return 1⏎print(A.p)
class A:⏎  @staticmethod⏎  @property⏎  def p(): return 1⏎print(A().p)
class A:⏎  __slots__ = ("x", "y")⏎  def __init__(self): self.x = self.y = 0⏎print(list({A.x, A.y}))
class A:⏎  __slots__ = ("__repr__",)⏎class B(A): pass⏎print(B())
class A:⏎  x = (__slots__ := ("__repr__",))⏎class B(A): pass⏎print(B())
from collections import Counter⏎class A:⏎  kept = Counter⏎A.kept.carried = 1
class A:⏎  def f(self): return 1⏎  def g(self, h=f): print(h)
from collections import Counter⏎class A:⏎  def __eq__(self, other): other.x = 1⏎x = A()⏎if 0: x = len⏎x == Counter
from heapq import merge⏎class A:⏎  def __lt__(self, x): x.x = 1⏎sorted([0, 1], key=lambda v: A() if v else merge)
from bisect import bisect⏎class A:⏎  def __lt__(self, other): print(other)⏎bisect([0], A(), key=lambda v: len)
t = type; print(t("A", (), {})())
def f(type): return type⏎print(type("A", (), {})())
class A:⏎  def __repr__(self): return super().__repr__()⏎print(A())
class A:⏎  def __hash__(self): return super().__hash__()⏎print({A(), A()})
class A(dict):⏎  def f(self): return super().values()⏎print({A().f()})
def f():⏎  class B(A):⏎    def h(self): print(super().g())⏎  return B⏎class A:⏎  def g(self): return len⏎f()().h()
class A:⏎  def __f(self): return 1⏎class B:⏎  def __init__(self): self._A__f = 1⏎print(A()._A__f)
from collections import Counter⏎__x = 0; _A__x = Counter⏎class A:⏎  def f(self): self.y = 1; __x.y = 1
import re⏎class A:⏎  def __call__(self, match): self.expand = 1; return str(match.expand)⏎re.sub("a", A(), "a")
import re; print(re.compile("a") is re.compile("a"))
import re⏎class A:⏎  def __and__(self, flag): flag.kept = 1⏎re.compile("a", A())
class A:⏎  @property⏎  def f(self): return 1⏎class B:⏎  def f(self): return 1⏎print({B().f})
from functools import lru_cache⏎class A:⏎  def f(self): print(self)⏎  @lru_cache(f)⏎  def g(self): return 1
import copy; seen = {}; copy.deepcopy([1], seen); print(seen)
from copy import deepcopy; from functools import reduce; print(reduce(deepcopy, [{}], [1]))
def f(x: "print('Node')"): return x
try: print(later)⏎except NameError: later = 1
class B:⏎  def __call__(self, key): key.x = 1⏎class A:⏎  def __init__(self): self.sort = B()⏎A().sort(key=print)
from collections import Counter⏎class B:⏎  def __call__(self, x): x.y = 1⏎class A:⏎  extend = B()⏎A().extend(Counter)
from heapq import merge⏎class B:⏎  def __call__(self, x): x.y = 1⏎class A:⏎  x = extend = B()⏎A().extend(merge)
from heapq import merge⏎class B:⏎  def __call__(self, x): x.y = 1⏎class A:⏎  x, extend = 0, B()⏎A().extend(merge)
from heapq import merge⏎class B:⏎  def __call__(self, x): x.y = 1⏎class A:⏎  x = (extend := B())⏎A().extend(merge)
class A:⏎  def __iter__(self): return self⏎  def close(self): print(1)⏎def f(): yield from A()⏎f()
class B:⏎  def __call__(self): print(1)⏎class A:⏎  def __init__(self): self.close = B()⏎def f(): yield from A()
from fractions import Fraction⏎class A:⏎  def __eq__(self, x): x.y = 1⏎x = Fraction(1); x._numerator = A(); print({x})
""".replace("⏎", "\x0b")
    .strip()
    .split("\n")
)


@pytest.mark.parametrize("source", PROVEN)
def test_programs_without_state_are_proven(source: str) -> None:
    assert stateless.prove(source.replace("\x0b", "\n").encode(), has_floats=False) is not None


@pytest.mark.parametrize("source", UNPROVEN)
def test_whatever_could_keep_or_reveal_state_is_not_proven(source: str) -> None:
    program = source.replace("\x0b", "\n")
    compile(program, "main.py", "exec")
    assert stateless.prove(program.encode(), has_floats=False) is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are of Python 3.12")
@pytest.mark.parametrize(
    "source", ["def f[NotImplemented](): print({NotImplemented})", "class A[NotImplemented]: pass"]
)
def test_type_parameters_are_not_proven(source: str) -> None:
    """They bind names, and the hash of a type variable is its address."""
    assert stateless.prove(source.encode(), has_floats=False) is None


def test_floats_from_outside_make_sets_unordered() -> None:
    source = b"def f(xs): return max(set(xs))"
    assert stateless.prove(source, has_floats=False) is not None
    assert stateless.prove(source, has_floats=True) is None


def test_long_and_deep_programs_are_not_proven() -> None:
    assert stateless.prove(b"x = 1\n" * 20_000, has_floats=False) is None
    assert stateless.prove(b"x = " + b"-" * 2000 + b"1", has_floats=False) is None


@pytest.mark.parametrize("path", sorted(STATEFUL.iterdir()), ids=lambda path: path.name)
def test_state_carried_between_tests_earns_nothing(path: Path, shared: Judge, isolated: Judge) -> None:
    """Every program is right only on what it kept of earlier tests: sharing must find what a process per test finds."""
    language = "cpp" if path.suffix == ".cpp" else "python"
    if language == "cpp" and not shutil.which("g++"):
        pytest.skip("needs g++")
    program = Program(path.read_text(), language)
    judgements = [judge.submit(SQUARES, program).result() for judge in (shared, isolated)]
    ours, right = [(each.verdict, each.tests_passed, each.message) for each in judgements]
    assert ours == right
    assert right[0] not in ("AC", "IE")


@pytest.mark.parametrize(
    "source",
    [
        'n = int(input())\ndef f(d): return f(d - 1) if d else "a".encode("cp500")\nprint(f(5 if n == 1 else 985))',
        "def f(d):\n  if d: return f(d - 1)\n  import random; return 1\nprint(f(985))",
        "class A: pass\ndef f(d): return f(d - 1) if d else len(str(A())) > 0\nprint([f(d) for d in range(985, 996)])",
        "import sys\na = sys.stdin.buffer.readline(); b = input(); print(len(sys.stdin.buffer.read()))",
        "import sys\na = sys.stdin.read(10000); print(len(sys.stdin.buffer.read()))",
        "import sys\nfor a in sys.stdin:\n  if len(a) > 1: break\nprint(len(sys.stdin.readline()), sys.stdin.read(9))",
        "print(len(input()))\nquit()",
    ],
    ids=["codec", "module", "address of an instance", "buffers", "size of a character", "iteration", "closed input"],
)
def test_a_used_process_has_no_more_depth_and_no_other_buffers(source: str, shared: Judge, isolated: Judge) -> None:
    assert stateless.prove(source.encode(), has_floats=False) is not None
    inputs = ["1\n" * (1 << 12), "1\n€" * (1 << 13), "1\n" * (1 << 14)]
    problem = SQUARES.model_copy(update={"tests": tuple(Test(input=text, output="") for text in inputs)})
    ours, right = (judge.run(problem, Program(source), 1 << 16).result() for judge in (shared, isolated))
    assert _result(ours) == _result(right)


@pytest.mark.parametrize(
    ("source", "entry_point"), [("print('x' * int(input()))", None), ("def f(n): return 'x' * n", "f")]
)
def test_the_answers_of_one_process_are_told_apart(source: str, entry_point: str | None, shared: Judge) -> None:
    assert stateless.prove(source.encode(), has_floats=False) is not None
    lengths = (5, 0, 1 << 16, (1 << 16) - 3, (1 << 16) - 2, (1 << 16) - 1, 1, 1 << 20, 2, 1 << 19, 1 << 19, 3)
    tests = tuple(Test(input=[n] if entry_point else str(n), output="") for n in lengths)
    problem = SQUARES.model_copy(update={"tests": tests, "entry_point": entry_point, "time_limit_s": 5})
    answers = shared.run(problem, Program(source), 1 << 23).result().answers
    assert answers == tuple(b'"%s"' % (b"x" * n) if entry_point else b"x" * n + b"\n" for n in lengths)


@pytest.mark.parametrize("name", ["Counter", "sys"])
def test_a_name_that_leetcode_provides_is_no_way_to_a_module(name: str, shared: Judge, isolated: Judge) -> None:
    source = f"""def g({name}): return {name}
class Solution:
    def __init__(self): self.carried = 0
    def f(self, n):
        try: x = {name}.carried
        except AttributeError: x = 0
        {name}.carried = n
        return x"""
    assert stateless.prove(source.encode(), has_floats=False) is not None
    tests = tuple(Test(input=[n], output=0) for n in range(1, 4))
    problem = SQUARES.model_copy(update={"tests": tests, "entry_point": "Solution.f"})
    ours, right = (judge.run(problem, Program(source), 1 << 16).result() for judge in (shared, isolated))
    assert _result(ours) == _result(right)
    assert right.answers == (b"0",) * 3


def test_the_order_of_nans_in_a_result_does_not_depend_on_addresses(shared: Judge, isolated: Judge) -> None:
    source = "def f(n): x = 1e999; return [{x - x, 1.0, 2.0, 0.5, x - x}, {(x - x, 1), (1, 2), (0, 1), (x - x, 0)}]"
    tests = tuple(Test(input=[n], output=0) for n in range(1, 7))
    problem = SQUARES.model_copy(update={"tests": tests, "entry_point": "f"})
    ours, right = (judge.run(problem, Program(source), 1 << 16).result() for judge in (shared, isolated))
    assert _result(ours) == _result(right)
    assert len(set(ours.answers or ())) == 1


def test_the_corpus_is_large_enough() -> None:
    assert len(list(STATEFUL.glob("*.py"))) >= 40


@pytest.mark.parametrize(
    ("line", "time_limit_s", "processes"),
    [
        ("", 1.0, 1),
        ("", 0.1, 6),  # with so short a limit, even a saved millisecond could decide
        ("x = [0] * (5 << 20) if n == 3 else 0", 1.0, 2),  # leaves a large process
        ("class A: pass\nx = {A()} if n == 2 else 0", 1.0, 6),  # shows the address of an instance
    ],
)
def test_a_used_process_decides_only_where_a_fresh_one_would_agree(
    line: str, time_limit_s: float, processes: int, shared: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Process] = []
    start = Process.__init__

    def count(self: Process, *arguments: Any) -> None:
        started.append(self)
        start(self, *arguments)

    monkeypatch.setattr(Process, "__init__", count)
    problem = SQUARES.model_copy(update={"time_limit_s": time_limit_s})
    judgement = shared.submit(problem, Program(f"n = int(input())\n{line}\nprint(n * n)")).result()
    assert judgement.verdict == "AC", judgement
    assert len(started) == processes


FRAGMENTS = (
    "total += len(str(total))",
    "values = sorted({total, n, 3}); total += values[0]",
    "total += sum(i for i in range(n))",
    "def f(x, kept=[]): kept.append(x); return len(kept)\ntotal += f(1) + f(2)",
    "from functools import lru_cache\n@lru_cache(None)\ndef g(x): return g(x - 1) + 1 if x else 0\ntotal += g(n)",
    "class A:\n    made = 0\n    def __init__(self): A.made += 1\nboxes = [A() for _ in range(n)]\ntotal += A.made",
    "class B:\n    pass\ntotal += len({B(), B()})",
    "class C:\n    pass\ntotal += str(C()).count('C')",
    "total += int(sum({0.5, float('nan') if n > 9 else 1.5}))",
    "steps = iter([1, 2, n]); total += next(steps) + next(steps)",
    "from decimal import Decimal, getcontext\ntotal += len(str(Decimal(1) / 3))\ngetcontext().prec = 30 + n",
    "import random\nrandom.seed(n)\ntotal += random.randrange(100)",
    "import sys\ntotal += sys.getrecursionlimit() % 997\nsys.setrecursionlimit(2000 + n)",
    "import sys\ntry:\n    def d(x): return x and d(x - 1)\n    d(1500)\nexcept RecursionError:\n    total += 1\n"
    "sys.setrecursionlimit(3000)",
    "import math\ntotal += getattr(math, 'kept', 0)\nmath.kept = total",
    "import builtins\ntotal += len(vars(builtins))\nsetattr(builtins, f'kept{n}', 1)",
    "from collections import Counter\ntotal += hasattr(Counter, 'kept')\nCounter.kept = 1",
    "from heapq import nlargest as best\ntotal += hasattr(best, 'kept')\nbest.kept = 1",
    "import re\ntotal += len(re._cache)\nre.compile('a' * n)",
    "import threading\nt = threading.Thread(target=print, args=('thread',))\nt.start()\nt.join()",
    "import threading\ntotal += threading.stack_size(1 << (20 + n % 3))",
    "from itertools import accumulate\ntotal += max(accumulate([n, 1, 2]))",
    "text = input() if n < 0 else 'abc'\ntotal += text.find('c')",
    "import collections\nq = collections.deque([n], maxlen=2)\nq.append(total)\ntotal += q.popleft()",
    "if n == 4: raise ValueError(total)",
    "if n == 5: quit()",
)


def test_shared_and_isolated_judging_agree_on_generated_programs(shared: Judge, isolated: Judge) -> None:
    rng = random.Random(0)
    programs = [
        Program("\n".join(["n = int(input())", "total = n", *rng.sample(FRAGMENTS, rng.randint(1, 4)), "print(total)"]))
        for _ in range(120)
    ]
    futures = [[judge.run(SQUARES, program, 1 << 16) for judge in (shared, isolated)] for program in programs]
    for program, (ours, right) in zip(programs, futures, strict=True):
        assert _result(ours.result()) == _result(right.result()), program.source
    proven = sum(stateless.prove(program.source.encode(), has_floats=False) is not None for program in programs)
    assert 30 < proven < 110


CARRIERS = (PROGRAMS / "carriers.txt").read_text().strip().split("\n\n")
"""Ways in which a value goes from one place of a program to another."""
IMPORTS = """import copy, threading
from collections import Counter, deque, defaultdict
from functools import reduce, partial, cache, lru_cache
from itertools import accumulate, chain, repeat, product, zip_longest, islice, cycle, starmap, takewhile
from heapq import heappushpop, nlargest, merge
from operator import itemgetter
"""
SINKS = ("{}.kept = 1", "print(str({}))", "print({{{}}})", "kept = [{}]")


def carried(value: str, carriers: Sequence[str], sink: str) -> str:
    """Return a program in which a value goes through carriers, and then into a sink."""
    lines = [IMPORTS]
    for number, carrier in enumerate(carriers):
        step = carrier.replace("VALUE", value).replace("NUMBER", str(number))
        value = f"value{number}"
        lines.append(step.replace("RESULT", value))
    return "\n".join([*lines, sink.format(value)])


@pytest.mark.parametrize("value", ["Counter", "(lambda: 0)", "iter([1])", "object()"])
def test_what_must_not_be_kept_is_never_proven_plain_however_it_gets_there(value: str) -> None:
    """The reference is Python itself: only ways on which the value really arrives count."""
    rng = random.Random(value)
    ways = [(), *((one,) for one in CARRIERS), *(tuple(rng.sample(CARRIERS, 2)) for _ in range(150))]
    num_arrived = 0
    for way in ways:
        arrived: list[object] = []
        with contextlib.suppress(Exception):
            exec(carried(value, way, "check({})"), {"check": arrived.append, "__name__": "program"})
        if arrived and type(arrived[0]) is type(eval(value, {"Counter": Counter})):
            num_arrived += 1
            for program in (carried(value, way, sink) for sink in SINKS):
                assert stateless.prove(program.encode(), has_floats=False) is None, program
    assert num_arrived > 200


def test_plain_values_go_nearly_everywhere() -> None:
    proven = [
        carrier
        for carrier in CARRIERS
        if stateless.prove(carried("1", [carrier], "kept = [{}]").encode(), has_floats=False) is not None
    ]
    assert len(proven) > 0.9 * len(CARRIERS)


def _result(judgement: Judgement) -> tuple[object, ...]:
    return judgement.verdict, judgement.answers, judgement.message
