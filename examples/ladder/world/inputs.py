"""The inputs of the world: the nested tests of a part, from small to large.

Sizes are measured in *work*: the steps that a literal program takes. Work grows geometrically over the tests of a part,
from `SMALLEST_WORK` to what the regime allows. In the lenient regime a literal program stays well within the time limit
on every test; in the strict regime it cannot pass the largest. An efficient program is fast in both.
"""

import random
from collections.abc import Callable
from math import isqrt

from world.grammar import Part

NUM_TESTS = 8
SMALLEST_WORK = 100
LENIENT_WORK = 80_000
"""Work of a whole problem, shared by its parts."""
STRICT_WORK = {
    "integers": 1_000_000_000,
    "divisors": 100_000_000,
    "ranges": 7_000_000,
    "largest window": 8_000_000,
    "smallest window": 8_000_000,
    "pairs": 3_500_000,
    "subarrays": 2_500_000,
}
"""Work of each part. Numbers may be huge, but arrays must be stored, so they are only as long as necessary."""


def largest_work(part: Part, strict: bool, num_parts: int) -> float:
    """Return the steps of a literal program on the largest test of one part."""
    return STRICT_WORK[part.kind.family] if strict else LENIENT_WORK / num_parts


def draw_input(part: Part, strict: bool, num_parts: int, test: int, rng: random.Random) -> str:
    """Draw the input of one part for the nested test number `test`, 0 <= test < NUM_TESTS."""
    growth = largest_work(part, strict, num_parts) / SMALLEST_WORK
    work = SMALLEST_WORK * growth ** (test / (NUM_TESTS - 1)) * rng.uniform(0.9, 1.0)
    return DRAW[part.kind.family](part, work, test, rng)


def _integers(part: Part, work: float, test: int, rng: random.Random) -> str:
    return f"{int(work)}\n"


def _divisors(part: Part, work: float, test: int, rng: random.Random) -> str:
    """Draw a number with many divisors, often of the requested kind; on odd tests it is a perfect square."""
    a, b = part.constants.a, part.constants.b
    square = test % 2 == 1
    largest = isqrt(int(work)) if square else int(work)
    number = rng.choice([factor for factor in (1, a, b, a * b) if 4 * factor <= largest])
    while number * 36 <= largest:
        number *= rng.choice([2, 2, 3, 3, 5, 7, a, b])
    number *= largest // number
    return f"{number**2 if square else number}\n"


def _ranges(part: Part, work: float, test: int, rng: random.Random) -> str:
    """Draw queries from the first third of the array into the last; they span two thirds of it on average."""
    n = int(4 * work**0.5)
    q = n // 11
    queries = (f"{rng.randint(1, n // 3)} {rng.randint(2 * n // 3, n)}\n" for _ in range(q))
    return f"{n} {q}\n{_array(n, rng)}{''.join(queries)}"


def _windows(part: Part, work: float, test: int, rng: random.Random) -> str:
    n = int((4 * work) ** 0.5)
    return f"{n} {rng.randint(2 * n // 5, 3 * n // 5)}\n{_array(n, rng)}"


def _pairs(part: Part, work: float, test: int, rng: random.Random) -> str:
    n = int((2 * work) ** 0.5)
    return f"{n}\n{_array(n, rng, natural=part.kind.condition == 'xor')}"


def _array(n: int, rng: random.Random, natural: bool = False) -> str:
    """Draw one line of n small integers; the spread varies, so that partners are sometimes common and sometimes
    rare.
    """
    if natural:
        low, high = 0, 15
    else:
        high = rng.choice([6, 12, max(6, n // 4)])
        low = -high
    return " ".join(map(str, rng.choices(range(low, high + 1), k=n))) + "\n"


DRAW: dict[str, Callable[[Part, float, int, random.Random], str]] = {
    "integers": _integers,
    "divisors": _divisors,
    "ranges": _ranges,
    "largest window": _windows,
    "smallest window": _windows,
    "pairs": _pairs,
    "subarrays": _pairs,
}
