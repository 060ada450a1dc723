"""The texts of the supervised stage: statements with programs, half literal and half efficient, some of them wrong.

The reliability gap is put in by design: literal programs are nearly always right, efficient ones are right half of the
time, and for rare kinds seldom. It gives training a trade-off between a program that is right but may be slow and one
that is fast but may be wrong. The judge and the rewards know nothing of it.
"""

import random
from dataclasses import dataclass

from world.efficient import efficient
from world.grammar import Part, draw_part, statement
from world.literal import literal
from world.problems import split_kinds
from world.program import write


@dataclass(frozen=True, slots=True)
class Example:
    """A statement and the answer to it, in the form that the policy should give."""

    statement: str
    answer: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Composition of the supervised texts. Rates of bugs are per part."""

    literal_share: float = 0.5
    """Share of programs written literally. All parts of a program have the same approach and style."""
    literal_buggy: float = 0.05
    efficient_buggy: float = 0.5
    efficient_buggy_rare: float = 0.85
    parts_weights: tuple[float, float, float] = (0.4, 0.3, 0.3)
    """Probabilities of 1, 2 and 3 parts."""

    def draw(self, rng: random.Random) -> Example:
        """Draw one example."""
        split = split_kinds()
        (num_parts,) = rng.choices((1, 2, 3), self.parts_weights)
        parts = tuple(draw_part(rng.choice(split.train + split.rare), rng) for _ in range(num_parts))
        text = statement(parts, rng)
        style = rng.randrange(2)
        if rng.random() < self.literal_share:
            programs = [write(literal(part), style, self.literal_buggy, rng) for part in parts]
        else:
            programs = [write(efficient(part), style, self.efficient_rate(part), rng) for part in parts]
        return Example(text, answer_with("".join(programs)))

    def efficient_rate(self, part: Part) -> float:
        """Return how often an efficient answer to a part has a bug."""
        return self.efficient_buggy_rare if part.kind in split_kinds().rare else self.efficient_buggy


def answer_with(program: str) -> str:
    """Wrap a program in the form that the policy should write."""
    return f"```python\n{program}```"
