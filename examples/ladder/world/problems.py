"""The problems of the world for the judge, with 1, 2 or 3 parts, a regime, and nested tests with trusted outputs.

Kinds are split once: `train` kinds occur in both stages of training, `rare` kinds only in the supervised stage, and
`novel` kinds never. Evaluation uses rare and novel kinds only.
"""

import random
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from alphamix.grading.types import Problem, Test
from world.efficient import efficient
from world.grammar import FAMILIES, Kind, Part, draw_part, kinds, statement
from world.inputs import NUM_TESTS, draw_input

TIME_LIMIT_S = 0.05
"""CPU seconds per test; `world.inputs` is sized for it."""
MEMORY_LIMIT_MB = 256
DIFFICULTY = {1: "easy", 2: "medium", 3: "hard"}
"""Difficulty by number of parts, which is known before anything is sampled."""


@dataclass(frozen=True, slots=True)
class KindSplit:
    """Kinds by the stages in which they occur."""

    train: tuple[Kind, ...]
    rare: tuple[Kind, ...]
    novel: tuple[Kind, ...]


@cache
def split_kinds(seed: int = 5) -> KindSplit:
    """Set aside one sixth of every family as rare and one sixth as novel."""
    rng = random.Random(seed)
    train: list[Kind] = []
    rare: list[Kind] = []
    novel: list[Kind] = []
    for family in FAMILIES:
        members = [kind for kind in kinds() if kind.family == family]
        rng.shuffle(members)
        sixth = round(len(members) / 6)
        rare += members[:sixth]
        novel += members[sixth : 2 * sixth]
        train += members[2 * sixth :]
    return KindSplit(tuple(train), tuple(rare), tuple(novel))


def run_trusted(source: str, text: str) -> str:
    """Run one of our own programs in this process, without limits, and return its output."""
    lines = iter(text.splitlines())
    printed: list[str] = []

    def print_line(value: object) -> None:
        printed.append(str(value))

    names: dict[str, Any] = {"input": lambda: next(lines), "print": print_line}
    exec(compile(source, "<trusted>", "exec"), names)
    return "".join(f"{line}\n" for line in printed)


def reference(parts: tuple[Part, ...]) -> str:
    """Return the trusted program: the first efficient program of each part, without bugs."""
    return "".join(efficient(part)[0].source() for part in parts)


def draw_problem(
    problem_id: str, kinds: tuple[Kind, ...], num_parts: int, strict: bool, num_tests: int = NUM_TESTS
) -> Problem:
    """Draw a problem; the same id gives the same problem, and fewer tests give a prefix of its tests."""
    rng = random.Random(problem_id)
    parts = tuple(draw_part(rng.choice(kinds), rng) for _ in range(num_parts))
    text = statement(parts, rng)
    tests: list[Test] = []
    for test in range(num_tests):
        rng = random.Random(f"{problem_id}/{test}")
        given = "".join(draw_input(part, strict, num_parts, test, rng) for part in parts)
        tests.append(Test(input=given, output=run_trusted(reference(parts), given)))
    return Problem(
        id=problem_id,
        statement=text,
        tests=tuple(tests),
        time_limit_s=TIME_LIMIT_S,
        memory_limit_mb=MEMORY_LIMIT_MB,
        difficulty=DIFFICULTY[num_parts],
        metadata={"regime": "strict" if strict else "lenient", "parts": [asdict(part) for part in parts]},
    )
