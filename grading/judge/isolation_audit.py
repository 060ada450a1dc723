"""How often sharing a process between the tests of a program changes a verdict, measured while judging.

A few of the accepted programs, chosen by their content, are examined again with a fresh process for every test. That
changes no verdict, so all programs are judged by one rule; it says how far that rule can be trusted.
"""

from dataclasses import dataclass

from alphamix.grading.types import Judgement, Program

SHARE = 0.02
"""Of the accepted programs that ran more than one test in one process."""
_MAX_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An accepted program that another verdict awaits where every test has a process of its own."""

    problem_id: str
    program: Program
    isolated: Judgement


@dataclass(frozen=True, slots=True)
class Audit:
    """How many programs were examined a second time, and how many verdicts were not confirmed."""

    audited: int = 0
    disagreed: int = 0
    examples: tuple[Disagreement, ...] = ()
    """The first few."""

    def with_one_more(self, disagreement: Disagreement | None) -> "Audit":
        """Count one more program."""
        if disagreement is None:
            return Audit(self.audited + 1, self.disagreed, self.examples)
        examples = (*self.examples, disagreement)[:_MAX_EXAMPLES]
        return Audit(self.audited + 1, self.disagreed + 1, examples)


def is_chosen(key: bytes) -> bool:
    """Say whether the program with this hash is one of the few: always the same ones."""
    return int.from_bytes(key[:8], "big") < SHARE * (1 << 64)
