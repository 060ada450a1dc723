"""Efficient programs, with their likely bugs: closed forms, divisors in pairs, prefix sums, dictionaries."""

from collections.abc import Callable

from world.grammar import PAIR_CONDITIONS, SUBARRAY_CONDITIONS, TERMS, Part
from world.program import SHOW, SHOW_LENGTH, START, Program, best_of_windows, predicate_code

MULTIPLES = """\
${imports}n = int(input())
def g(k):
    m = $count
    return $formula
print($combine)
"""

PROGRESSION = """\
n = int(input())
m = $count
print($formula)
"""

DIVISORS_WHILE = """\
n = int(input())
s = 0
x = 1
while $bound:
    if n % x == 0:
        for y in $pair:
            if $test:
                s += $term
    x += 1
print(s)
"""

DIVISORS_FOR = """\
n = int(input())
s = 0
for x in range(1, $root):
    if n % x == 0:
        for y in $pair:
            if $test:
                s += $term
print(s)
"""

RANGES_INLINE = """\
n, q = map(int, input().split())
a = list(map(int, input().split()))
p = [0]
for x in a:
    p.append($prefix)
for _ in range(q):
    l, r = map(int, input().split())
    print($answer)
"""

RANGES_RUNNING = """\
n, q = map(int, input().split())
a = list(map(int, input().split()))
p = [0]
t = 0
for x in a:
    if $test:
        t += $term
    p.append(t)
for _ in range(q):
    l, r = map(int, input().split())
    print($answer)
"""

WINDOWS_INLINE = """\
n, k = map(int, input().split())
a = list(map(int, input().split()))
p = [0]
for x in a:
    p.append($prefix)
print($best($answer for i in range($end)))
"""

WINDOWS_RUNNING = """\
n, k = map(int, input().split())
a = list(map(int, input().split()))
p = [0]
t = 0
for x in a:
    if $test:
        t += $term
    p.append(t)
print($best($answer for i in range($end)))
"""

COUNT_PARTNERS = """\
n = int(input())
a = list(map(int, input().split()))
d = $seen
s = 0
${total}for x in a:
${step}    $first
    $second
print(s)
"""

DISTANCE_TO_PARTNER = """\
n = int(input())
a = list(map(int, input().split()))
d = $seen
s = $start
${total}$loop
$step    if $partner in d:
        s = $best(s, j - d[$partner])
    $store
$show
"""


def efficient(part: Part) -> list[Program]:
    """Return the efficient programs of a part, in all their wordings."""
    return FAMILIES[part.kind.family](part)


def _efficient_integers(part: Part) -> list[Program]:
    condition, aggregate, c = part.kind.condition, part.kind.aggregate, part.constants
    if condition == "remainder":
        count = f"(n - {c.r}) // {c.a} + 1"
        formula = {
            "number": "m",
            "sum": f"m * {c.r} + {c.a} * m * (m - 1) // 2",
            "sum of squares": f"m * {c.r * c.r} + {c.a * c.r} * m * (m - 1)"
            f" + {c.a * c.a} * (m - 1) * m * (2 * m - 1) // 6",
        }[aggregate]
        wrong_counts = (f"(n - {c.r}) // {c.a}", f"n // {c.a}", f"n // {c.a} + 1")
        bugs = tuple({"count": wrong} for wrong in wrong_counts)
        return [Program(PROGRESSION, {"count": count, "formula": formula}, bugs)]

    common = f"g(lcm({c.a}, {c.b}))"
    combine, wrong = {
        "divisible": (f"g({c.a})", f"g({c.a + 1})"),
        "not divisible": (f"g(1) - g({c.a})", f"n - g({c.a})"),
        "or": (f"g({c.a}) + g({c.b}) - {common}", f"g({c.a}) + g({c.b})"),
        "but not": (f"g({c.a}) - {common}", f"g({c.a}) - g({c.b})"),
        "both": (common, f"g({c.a} * {c.b})"),
    }[condition]
    formula, wrong_formula = {
        "number": ("m", "m + 1"),
        "sum": ("k * m * (m + 1) // 2", "k * m * (m - 1) // 2"),
        "sum of squares": (
            "k * k * m * (m + 1) * (2 * m + 1) // 6",
            "k * k * m * (m - 1) * (2 * m + 1) // 6",
        ),
    }[aggregate]
    slots = {
        "imports": "from math import lcm\n" if "lcm" in combine else "",
        "count": "n // k",
        "formula": formula,
        "combine": combine,
    }
    bugs = ({"count": "(n - 1) // k"}, {"formula": wrong_formula}, {"combine": wrong})
    return [Program(MULTIPLES, slots, bugs)]


def _efficient_divisors(part: Part) -> list[Program]:
    slots = {
        "pair": "{x, n // x}",
        "test": predicate_code(part).replace("x", "y"),
        "term": TERMS[part.kind.aggregate].replace("x", "y"),
    }
    twice = {"pair": "(x, n // x)"}  # counts the root of a perfect square twice
    return [
        Program(DIVISORS_WHILE, slots | {"bound": "x * x <= n"}, (twice, {"bound": "x * x < n"})),
        Program(DIVISORS_FOR, slots | {"root": "int(n ** 0.5) + 1"}, (twice, {"root": "int(n ** 0.5)"})),
    ]


def _efficient_prefix_sums(part: Part) -> list[Program]:
    test, term = predicate_code(part), TERMS[part.kind.aggregate]
    slots = {"test": test, "term": term, "prefix": f"p[-1] + ({term} if {test} else 0)"}
    if part.kind.family == "ranges":
        inline, running = RANGES_INLINE, RANGES_RUNNING
        slots |= {"answer": "p[r] - p[l - 1]"}
        bugs = ({"answer": "p[r] - p[l]"}, {"answer": "p[r - 1] - p[l - 2]"})
    else:
        inline, running = WINDOWS_INLINE, WINDOWS_RUNNING
        slots |= {"best": best_of_windows(part), "answer": "p[i + k] - p[i]", "end": "n - k + 1"}
        bugs = ({"answer": "p[i + k - 1] - p[i]"}, {"answer": "p[i + k] - p[i + 1]"})
    precedence = {"prefix": f"p[-1] + {term} if {test} else 0"}
    return [
        Program(inline, slots, (*bugs, precedence)),
        Program(running, slots, bugs),
    ]


def _efficient_partners(part: Part) -> list[Program]:
    """Return the programs for pairs and subarrays, which look up earlier partners in a dictionary."""
    aggregate, fill = part.kind.aggregate, part.constants.fill
    if part.kind.family == "pairs":
        condition = PAIR_CONDITIONS[part.kind.condition]
        slots = {"seen": "{}", "total": "", "step": "", "show": SHOW[aggregate]}
        forgotten = None
    else:
        condition = SUBARRAY_CONDITIONS[part.kind.condition]
        empty_prefix = "{0: 1}" if aggregate == "count" else "{0: -1}"
        step = f"    {fill(condition.step)}\n"
        slots = {"seen": empty_prefix, "total": "t = 0\n", "step": step, "show": SHOW_LENGTH[aggregate]}
        forgotten = {"seen": "{}"}
    partner, key, wrong = fill(condition.partner), fill(condition.key), fill(condition.wrong_partner)

    if aggregate == "count":
        look, wrong_look = f"s += d.get({partner}, 0)", f"s += d.get({wrong}, 0)"
        store = f"d[{key}] = d.get({key}, 0) + 1"
        late = {"first": store, "second": look}  # meets itself
        bugs = ({"first": wrong_look}, late, *([forgotten] if forgotten else []))
        return [Program(COUNT_PARTNERS, slots | {"first": look, "second": store}, bugs)]

    keep_first, keep_last = f"if {key} not in d:\n        d[{key}] = j", f"d[{key}] = j"
    store, wrong_store = (keep_first, keep_last) if aggregate == "max" else (keep_last, keep_first)
    start = "n + 1" if part.kind.family == "subarrays" and aggregate == "min" else START[aggregate]
    slots |= {"start": start, "best": aggregate, "partner": partner, "store": store}
    bugs = ({"partner": wrong}, {"store": wrong_store}, *([forgotten] if forgotten else []))
    loops = ("for j, x in enumerate(a):", "for j in range(n):\n    x = a[j]")
    return [Program(DISTANCE_TO_PARTNER, slots | {"loop": loop}, bugs) for loop in loops]


FAMILIES: dict[str, Callable[[Part], list[Program]]] = {
    "integers": _efficient_integers,
    "divisors": _efficient_divisors,
    "ranges": _efficient_prefix_sums,
    "largest window": _efficient_prefix_sums,
    "smallest window": _efficient_prefix_sums,
    "pairs": _efficient_partners,
    "subarrays": _efficient_partners,
}
