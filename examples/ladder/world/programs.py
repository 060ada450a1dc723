"""The programs of the world: for every part a few literal and a few efficient ones, each with its likely
bugs.

A program is a template with slots; a bug is a slot filled wrongly. Programs of several parts are written one
after the other, as their inputs are.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from string import Template

from world.grammar import PAIR_CONDITIONS, PREDICATES, SUBARRAY_CONDITIONS, TERMS, Part


@dataclass(frozen=True, slots=True)
class Program:
    """One way to write an answer. Each of `bugs` names the slots that it spoils."""

    template: str
    slots: dict[str, str]
    bugs: tuple[dict[str, str], ...]

    def source(self, bug: dict[str, str] | None = None) -> str:
        """Python that reads standard input and prints the answer."""
        return Template(self.template).substitute(self.slots | (bug or {}))


READ_N = "n = int(input())\n"
READ_ARRAY = "a = list(map(int, input().split()))\n"
READ_N_Q = "n, q = map(int, input().split())\n"
READ_N_K = "n, k = map(int, input().split())\n"
READ_L_R = "    l, r = map(int, input().split())\n"

# --- literal programs: do what the sentence says ------------------------------------------------------------

SCAN_LOOP = READ_N + "s = 0\nfor x in range(1, $end):\n    if $test:\n        s += $term\nprint(s)\n"
SCAN_SUM = READ_N + "print(sum($term for x in range(1, $end) if $test))\n"

RANGES_LOOP = (
    READ_N_Q + READ_ARRAY + "for _ in range(q):\n" + READ_L_R + "    s = 0\n"
    "    for x in $slice:\n"
    "        if $test:\n"
    "            s += $term\n"
    "    print(s)\n"
)
RANGES_SUM = (
    READ_N_Q + READ_ARRAY + "for _ in range(q):\n" + READ_L_R + "    print(sum($term for x in $slice if $test))\n"
)

WINDOWS_LOOP = (
    READ_N_K + READ_ARRAY + "w = []\n"
    "for i in range($end):\n"
    "    s = 0\n"
    "    for x in a[i:i + k]:\n"
    "        if $test:\n"
    "            s += $term\n"
    "    w.append(s)\n"
    "print($best(w))\n"
)
WINDOWS_SUM = READ_N_K + READ_ARRAY + "print($best(sum($term for x in a[i:i + k] if $test) for i in range($end)))\n"

PAIRS_LOOP = READ_N + READ_ARRAY + "s = $start\n$loops        if $test:\n            $update\n$show\n"
PAIRS_FORWARD = "for i in range(n):\n    for j in range($first, n):\n"
PAIRS_BACKWARD = "for j in range(n):\n    for i in range($last):\n"

SUBARRAYS_FORWARD = (
    READ_N + READ_ARRAY + "s = $start\n"
    "for i in range(n):\n"
    "    t = 0\n"
    "    for j in range($first, n):\n"
    "        x = a[j]\n"
    "        $step\n"
    "        if $test:\n"
    "            $update\n"
    "$show\n"
)
SUBARRAYS_BACKWARD = (
    READ_N + READ_ARRAY + "s = $start\n"
    "for j in range(n):\n"
    "    t = 0\n"
    "    for i in range($last, -1, -1):\n"
    "        x = a[i]\n"
    "        $step\n"
    "        if $test:\n"
    "            $update\n"
    "$show\n"
)

# --- efficient programs: know a better way ------------------------------------------------------------------

MULTIPLES = "${imports}n = int(input())\ndef g(k):\n    m = $count\n    return $formula\nprint($combine)\n"
PROGRESSION = READ_N + "m = $count\nprint($formula)\n"

DIVISORS_WHILE = (
    READ_N + "s = 0\nx = 1\n"
    "while $bound:\n"
    "    if n % x == 0:\n"
    "        for y in $pair:\n"
    "            if $test:\n"
    "                s += $term\n"
    "    x += 1\n"
    "print(s)\n"
)
DIVISORS_FOR = (
    READ_N + "s = 0\n"
    "for x in range(1, $root):\n"
    "    if n % x == 0:\n"
    "        for y in $pair:\n"
    "            if $test:\n"
    "                s += $term\n"
    "print(s)\n"
)

PREFIX_INLINE = "p = [0]\nfor x in a:\n    p.append($prefix)\n"
PREFIX_RUNNING = "p = [0]\nt = 0\nfor x in a:\n    if $test:\n        t += $term\n    p.append(t)\n"
RANGES_ANSWER = "for _ in range(q):\n" + READ_L_R + "    print($answer)\n"
WINDOWS_ANSWER = "print($best($answer for i in range($end)))\n"

COUNT_PARTNERS = (
    READ_N + READ_ARRAY + "d = $seen\ns = 0\n${total}for x in a:\n${step}    $first\n    $second\nprint(s)\n"
)
DISTANCE_TO_PARTNER = (
    READ_N + READ_ARRAY + "d = $seen\ns = $start\n${total}$loop\n"
    "$step"
    "    if $partner in d:\n"
    "        s = $best(s, j - d[$partner])\n"
    "    $store\n"
    "$show\n"
)
START = {"count": "0", "max": "-1", "min": "n"}
SHOW = {"count": "print(s)", "max": "print(s)", "min": "print(s if s < n else -1)"}
SHOW_LENGTH = SHOW | {"min": "print(s if s <= n else -1)"}


def literal(part: Part) -> list[Program]:
    """The literal programs of a part, in all their wordings."""
    return LITERAL[part.kind.family](part)


def efficient(part: Part) -> list[Program]:
    """The efficient programs of a part, in all their wordings."""
    return EFFICIENT[part.kind.family](part)


def write(programs: list[Program], style: int, buggy: float, rng: random.Random) -> str:
    """Write one of the programs, with one of its bugs at the rate `buggy`. A style, 0 or 1, prefers a
    wording.
    """
    program = programs[style % len(programs)]
    return program.source(rng.choice(program.bugs) if rng.random() < buggy else None)


def _predicate(part: Part) -> str:
    return part.constants.fill(PREDICATES[part.kind.condition].code)


def _literal_scan(part: Part) -> list[Program]:
    test = _predicate(part)
    if part.kind.family == "divisors":
        test = f"n % x == 0 and ({test})" if " or " in test else f"n % x == 0 and {test}"
    slots = {"end": "n + 1", "test": test, "term": TERMS[part.kind.aggregate]}
    return [Program(template, slots, ({"end": "n"},)) for template in (SCAN_LOOP, SCAN_SUM)]


def _literal_ranges(part: Part) -> list[Program]:
    slots = {"slice": "a[l - 1:r]", "test": _predicate(part), "term": TERMS[part.kind.aggregate]}
    return [Program(template, slots, ({"slice": "a[l:r]"},)) for template in (RANGES_LOOP, RANGES_SUM)]


def _literal_windows(part: Part) -> list[Program]:
    slots = {
        "best": _best_window(part),
        "end": "n - k + 1",
        "test": _predicate(part),
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
    forward = PAIRS_LOOP.replace("$loops", PAIRS_FORWARD)
    backward = PAIRS_LOOP.replace("$loops", PAIRS_BACKWARD)
    return [
        Program(forward, slots | {"first": "i + 1"}, ({"first": "i"},)),
        Program(backward, slots | {"last": "j"}, ({"last": "j + 1"},)),
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
        "test": _predicate(part).replace("x", "y"),
        "term": TERMS[part.kind.aggregate].replace("x", "y"),
    }
    twice = {"pair": "(x, n // x)"}  # counts the root of a perfect square twice
    return [
        Program(DIVISORS_WHILE, slots | {"bound": "x * x <= n"}, (twice, {"bound": "x * x < n"})),
        Program(DIVISORS_FOR, slots | {"root": "int(n ** 0.5) + 1"}, (twice, {"root": "int(n ** 0.5)"})),
    ]


def _efficient_prefix_sums(part: Part) -> list[Program]:
    test, term = _predicate(part), TERMS[part.kind.aggregate]
    slots = {"test": test, "term": term, "prefix": f"p[-1] + ({term} if {test} else 0)"}
    if part.kind.family == "ranges":
        head, tail = READ_N_Q + READ_ARRAY, RANGES_ANSWER
        slots |= {"answer": "p[r] - p[l - 1]"}
        bugs = ({"answer": "p[r] - p[l]"}, {"answer": "p[r - 1] - p[l - 2]"})
    else:
        head, tail = READ_N_K + READ_ARRAY, WINDOWS_ANSWER
        slots |= {"best": _best_window(part), "answer": "p[i + k] - p[i]", "end": "n - k + 1"}
        bugs = ({"answer": "p[i + k - 1] - p[i]"}, {"answer": "p[i + k] - p[i + 1]"})
    precedence = {"prefix": f"p[-1] + {term} if {test} else 0"}
    return [
        Program(head + PREFIX_INLINE + tail, slots, (*bugs, precedence)),
        Program(head + PREFIX_RUNNING + tail, slots, bugs),
    ]


def _efficient_partners(part: Part) -> list[Program]:
    """Pairs and subarrays: look for earlier partners in a dictionary."""
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


def _best_window(part: Part) -> str:
    return "max" if part.kind.family == "largest window" else "min"


LITERAL: dict[str, Callable[[Part], list[Program]]] = {
    "integers": _literal_scan,
    "divisors": _literal_scan,
    "ranges": _literal_ranges,
    "largest window": _literal_windows,
    "smallest window": _literal_windows,
    "pairs": _literal_pairs,
    "subarrays": _literal_subarrays,
}
EFFICIENT: dict[str, Callable[[Part], list[Program]]] = {
    "integers": _efficient_integers,
    "divisors": _efficient_divisors,
    "ranges": _efficient_prefix_sums,
    "largest window": _efficient_prefix_sums,
    "smallest window": _efficient_prefix_sums,
    "pairs": _efficient_partners,
    "subarrays": _efficient_partners,
}
