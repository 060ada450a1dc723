"""Literal programs: they do what the sentence says, step by step, however long it takes."""

from collections.abc import Callable

from world.grammar import PAIR_CONDITIONS, SUBARRAY_CONDITIONS, TERMS, Part
from world.program import SHOW, SHOW_LENGTH, START, Program, best_of_windows, predicate_code

SCAN_LOOP = """\
n = int(input())
s = 0
for x in range(1, $end):
    if $test:
        s += $term
print(s)
"""

SCAN_SUM = """\
n = int(input())
print(sum($term for x in range(1, $end) if $test))
"""

RANGES_LOOP = """\
n, q = map(int, input().split())
a = list(map(int, input().split()))
for _ in range(q):
    l, r = map(int, input().split())
    s = 0
    for x in $slice:
        if $test:
            s += $term
    print(s)
"""

RANGES_SUM = """\
n, q = map(int, input().split())
a = list(map(int, input().split()))
for _ in range(q):
    l, r = map(int, input().split())
    print(sum($term for x in $slice if $test))
"""

WINDOWS_LOOP = """\
n, k = map(int, input().split())
a = list(map(int, input().split()))
w = []
for i in range($end):
    s = 0
    for x in a[i:i + k]:
        if $test:
            s += $term
    w.append(s)
print($best(w))
"""

WINDOWS_SUM = """\
n, k = map(int, input().split())
a = list(map(int, input().split()))
print($best(sum($term for x in a[i:i + k] if $test) for i in range($end)))
"""

PAIRS_FORWARD = """\
n = int(input())
a = list(map(int, input().split()))
s = $start
for i in range(n):
    for j in range($first, n):
        if $test:
            $update
$show
"""

PAIRS_BACKWARD = """\
n = int(input())
a = list(map(int, input().split()))
s = $start
for j in range(n):
    for i in range($last):
        if $test:
            $update
$show
"""

SUBARRAYS_FORWARD = """\
n = int(input())
a = list(map(int, input().split()))
s = $start
for i in range(n):
    t = 0
    for j in range($first, n):
        x = a[j]
        $step
        if $test:
            $update
$show
"""

SUBARRAYS_BACKWARD = """\
n = int(input())
a = list(map(int, input().split()))
s = $start
for j in range(n):
    t = 0
    for i in range($last, -1, -1):
        x = a[i]
        $step
        if $test:
            $update
$show
"""


def literal(part: Part) -> list[Program]:
    """Return the literal programs of a part, in all their wordings."""
    return FAMILIES[part.kind.family](part)


def _literal_scan(part: Part) -> list[Program]:
    test = predicate_code(part)
    if part.kind.family == "divisors":
        test = f"n % x == 0 and ({test})" if " or " in test else f"n % x == 0 and {test}"
    slots = {"end": "n + 1", "test": test, "term": TERMS[part.kind.aggregate]}
    return [Program(template, slots, ({"end": "n"},)) for template in (SCAN_LOOP, SCAN_SUM)]


def _literal_ranges(part: Part) -> list[Program]:
    slots = {"slice": "a[l - 1:r]", "test": predicate_code(part), "term": TERMS[part.kind.aggregate]}
    return [Program(template, slots, ({"slice": "a[l:r]"},)) for template in (RANGES_LOOP, RANGES_SUM)]


def _literal_windows(part: Part) -> list[Program]:
    slots = {
        "best": best_of_windows(part),
        "end": "n - k + 1",
        "test": predicate_code(part),
        "term": TERMS[part.kind.aggregate],
    }
    return [Program(template, slots, ({"end": "n - k"},)) for template in (WINDOWS_LOOP, WINDOWS_SUM)]


def _literal_pairs(part: Part) -> list[Program]:
    aggregate = part.kind.aggregate
    slots = {
        "start": START[aggregate],
        "test": part.constants.fill(PAIR_CONDITIONS[part.kind.condition].code),
        "update": "s += 1" if aggregate == "count" else f"s = {aggregate}(s, j - i)",
        "show": SHOW[aggregate],
    }
    return [
        Program(PAIRS_FORWARD, slots | {"first": "i + 1"}, ({"first": "i"},)),
        Program(PAIRS_BACKWARD, slots | {"last": "j"}, ({"last": "j + 1"},)),
    ]


def _literal_subarrays(part: Part) -> list[Program]:
    aggregate, condition = part.kind.aggregate, SUBARRAY_CONDITIONS[part.kind.condition]
    slots = {
        "start": "n + 1" if aggregate == "min" else START[aggregate],
        "step": part.constants.fill(condition.step),
        "test": part.constants.fill(condition.code),
        "update": "s += 1" if aggregate == "count" else f"s = {aggregate}(s, j - i + 1)",
        "show": SHOW_LENGTH[aggregate],
    }
    off_by_one = {} if aggregate == "count" else {"update": f"s = {aggregate}(s, j - i)"}
    return [
        Program(SUBARRAYS_FORWARD, slots | {"first": "i"}, (off_by_one or {"first": "i + 1"},)),
        Program(SUBARRAYS_BACKWARD, slots | {"last": "j"}, (off_by_one or {"last": "j - 1"},)),
    ]


FAMILIES: dict[str, Callable[[Part], list[Program]]] = {
    "integers": _literal_scan,
    "divisors": _literal_scan,
    "ranges": _literal_ranges,
    "largest window": _literal_windows,
    "smallest window": _literal_windows,
    "pairs": _literal_pairs,
    "subarrays": _literal_subarrays,
}
