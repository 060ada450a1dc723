"""Programs as templates with slots. A bug is a slot that is filled wrongly.

`literal` and `efficient` hold the programs themselves. Programs of several parts are written one after the
other, as their inputs are.
"""

import random
from dataclasses import dataclass
from string import Template

from world.grammar import PREDICATES, Part


@dataclass(frozen=True, slots=True)
class Program:
    """One way to write an answer. Each of `bugs` holds the slots that it fills wrongly."""

    template: str
    slots: dict[str, str]
    bugs: tuple[dict[str, str], ...]

    def source(self, bug: dict[str, str] | None = None) -> str:
        """Return Python code that reads standard input and prints the answer."""
        return Template(self.template).substitute(self.slots | (bug or {}))


def write(programs: list[Program], style: int, buggy: float, rng: random.Random) -> str:
    """Write one of the programs, with a bug at the rate `buggy`. A style, 0 or 1, prefers a wording."""
    program = programs[style % len(programs)]
    return program.source(rng.choice(program.bugs) if rng.random() < buggy else None)


def predicate_code(part: Part) -> str:
    """Return the predicate of a part as a Python expression in x."""
    return part.constants.fill(PREDICATES[part.kind.condition].code)


def best_of_windows(part: Part) -> str:
    """Return `max` or `min`, by the family of windows."""
    return "max" if part.kind.family == "largest window" else "min"


START = {"count": "0", "max": "-1", "min": "n"}
"""Initial value of distances; shortest lengths begin with n + 1."""
SHOW = {"count": "print(s)", "max": "print(s)", "min": "print(s if s < n else -1)"}
SHOW_LENGTH = SHOW | {"min": "print(s if s <= n else -1)"}
