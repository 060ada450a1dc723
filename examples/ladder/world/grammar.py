"""The grammar of the world: all parts, and how each is phrased in English.

A part is `kind x constants`, and a kind is `family x condition x aggregate`: "the *sum* of *divisors of n*
that are *divisible by 3 but not by 4*". Every part can be answered by a literal program, which does what the
sentence says, and by an efficient one, which uses a faster method; the programs are in `literal` and `efficient`.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Predicate:
    """A property of one integer x: in words, and in Python."""

    text: str
    code: str


@dataclass(frozen=True, slots=True)
class PairCondition:
    """A property of two elements. `partner` is what an efficient program looks up for x under `key`."""

    text: str
    code: str
    partner: str
    key: str
    wrong_partner: str


@dataclass(frozen=True, slots=True)
class SubarrayCondition:
    """A property of a run of elements with running value t. `step` adds x to t; `partner` is an earlier t."""

    text: str
    step: str
    code: str
    partner: str
    key: str
    wrong_partner: str


PREDICATES = {
    "divisible": Predicate("divisible by {a}", "x % {a} == 0"),
    "not divisible": Predicate("not divisible by {a}", "x % {a} != 0"),
    "remainder": Predicate("with remainder {r} modulo {a}", "x % {a} == {r}"),
    "or": Predicate("divisible by {a} or {b}", "x % {a} == 0 or x % {b} == 0"),
    "but not": Predicate("divisible by {a} but not by {b}", "x % {a} == 0 and x % {b} != 0"),
    "both": Predicate("divisible by both {a} and {b}", "x % {a} == 0 and x % {b} == 0"),
}
TERMS = {"number": "1", "sum": "x", "sum of squares": "x * x"}
"""Aggregates over elements, each with the term that one element adds."""

PAIR_CONDITIONS = {
    "sum": PairCondition("a[i]+a[j]={k}", "a[i] + a[j] == {k}", "{k} - x", "x", "x - {k}"),
    "difference": PairCondition("a[j]-a[i]={k}", "a[j] - a[i] == {k}", "x - {k}", "x", "x + {k}"),
    "equal": PairCondition("a[i]=a[j]", "a[i] == a[j]", "x", "x", "-x"),
    "sum modulo": PairCondition(
        "a[i]+a[j] divisible by {k}", "(a[i] + a[j]) % {k} == 0", "-x % {k}", "x % {k}", "x % {k}"
    ),
    "difference modulo": PairCondition(
        "a[j]-a[i] divisible by {k}", "(a[j] - a[i]) % {k} == 0", "x % {k}", "x % {k}", "-x % {k}"
    ),
    "xor": PairCondition("a[i] xor a[j]={k}", "a[i] ^ a[j] == {k}", "x ^ {k}", "x", "x | {k}"),
}
SUBARRAY_CONDITIONS = {
    "sum": SubarrayCondition("sum {k}", "t += x", "t == {k}", "t - {k}", "t", "t + {k}"),
    "sum modulo": SubarrayCondition("sum divisible by {k}", "t += x", "t % {k} == 0", "t % {k}", "t % {k}", "t // {k}"),
    "xor": SubarrayCondition("xor {k}", "t ^= x", "t == {k}", "t ^ {k}", "t", "t | {k}"),
} | {
    f"exactly k {name}": SubarrayCondition(
        f"exactly {{k}} elements {predicate.text}",
        f"t += 1 if {predicate.code} else 0",
        "t == {k}",
        "t - {k}",
        "t",
        "{k} - t",
    )
    for name, predicate in PREDICATES.items()
}
PAIR_AGGREGATES = {
    "count": "number of pairs",
    "max": "largest j-i (or -1) over pairs",
    "min": "smallest j-i (or -1) over pairs",
}
SUBARRAY_AGGREGATES = {
    "count": "number of subarrays",
    "max": "longest length (or -1) of subarrays",
    "min": "shortest length (or -1) of subarrays",
}


@dataclass(frozen=True, slots=True)
class Family:
    """The objects of a question, in two wordings, with the conditions and aggregates that they allow."""

    conditions: tuple[str, ...]
    aggregates: dict[str, str]
    wordings: tuple[str, str]


FAMILIES = {
    "integers": Family(
        tuple(PREDICATES),
        {name: name for name in TERMS},
        (
            "Given n, print the {aggregate} of integers from 1 to n {condition}.",
            "Read n. Output the {aggregate} of all x in 1..n {condition}.",
        ),
    ),
    "divisors": Family(
        tuple(PREDICATES),
        {name: name for name in TERMS},
        (
            "Given n, print the {aggregate} of divisors of n {condition}.",
            "Read n. Output the {aggregate} of all divisors x of n {condition}.",
        ),
    ),
    "ranges": Family(
        tuple(PREDICATES),
        {name: name for name in TERMS},
        (
            "Given n, q, an array and q queries l r, print for each the "
            "{aggregate} of elements {condition} in a[l..r].",
            "Read n, q and an array. For each of q queries l r output the {aggregate} of a[l..r] values {condition}.",
        ),
    ),
    "largest window": Family(
        tuple(PREDICATES),
        {name: name for name in TERMS},
        (
            "Given n, k and an array, print the largest {aggregate} of elements {condition} over windows of length k.",
            "Read n, k and an array. Over all k-windows output the largest {aggregate} of values {condition}.",
        ),
    ),
    "smallest window": Family(
        tuple(PREDICATES),
        {name: name for name in TERMS},
        (
            "Given n, k and an array, print the smallest {aggregate} of elements {condition} over windows of length k.",
            "Read n, k and an array. Over all k-windows output the smallest {aggregate} of values {condition}.",
        ),
    ),
    "pairs": Family(
        tuple(PAIR_CONDITIONS),
        PAIR_AGGREGATES,
        (
            "Given n and an array, print the {aggregate} i<j with {condition}.",
            "Read n and an array. Output the {aggregate} i<j such that {condition}.",
        ),
    ),
    "subarrays": Family(
        tuple(SUBARRAY_CONDITIONS),
        SUBARRAY_AGGREGATES,
        (
            "Given n and an array, print the {aggregate} with {condition}.",
            "Read n and an array. Output the {aggregate} that have {condition}.",
        ),
    ),
}


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """One cell of the grammar."""

    family: str
    condition: str
    aggregate: str

    def __str__(self) -> str:
        return f"{self.family}/{self.condition}/{self.aggregate}"


@dataclass(frozen=True, slots=True)
class Constants:
    """The numbers in a sentence: divisors a and b, a remainder r < a, and k; all are single digits."""

    a: int
    b: int
    r: int
    k: int

    def fill(self, text: str) -> str:
        """Insert the numbers into a phrase or a piece of code."""
        return text.format(a=self.a, b=self.b, r=self.r, k=self.k)


@dataclass(frozen=True, slots=True)
class Part:
    """One question: a kind with its constants."""

    kind: Kind
    constants: Constants


def kinds() -> list[Kind]:
    """Return all 135 cells of the grammar, in a fixed order."""
    return [
        Kind(name, condition, aggregate)
        for name, family in FAMILIES.items()
        for condition in family.conditions
        for aggregate in family.aggregates
    ]


def draw_part(kind: Kind, rng: random.Random) -> Part:
    """Draw the constants of one question."""
    a, b = rng.sample(range(2, 10), 2)
    return Part(kind, Constants(a=a, b=b, r=rng.randint(1, a - 1), k=rng.randint(2, 9)))


def condition_text(part: Part) -> str:
    """Return the condition in words."""
    tables = {"pairs": PAIR_CONDITIONS, "subarrays": SUBARRAY_CONDITIONS}
    condition = tables.get(part.kind.family, PREDICATES)[part.kind.condition]
    return part.constants.fill(condition.text)


def sentence(part: Part, wording: int) -> str:
    """Ask one question, in wording 0 or 1."""
    family = FAMILIES[part.kind.family]
    return family.wordings[wording].format(
        aggregate=family.aggregates[part.kind.aggregate], condition=condition_text(part)
    )


def statement(parts: tuple[Part, ...], rng: random.Random) -> str:
    """Ask all questions of a problem, one a line. It names no limits: how fast a program must be is not
    told.
    """
    return "\n".join(sentence(part, rng.randrange(2)) for part in parts)
