"""Audit of process sharing: how often running a program's tests in one process changes its verdict.

A small share of the accepted programs, chosen by their content, is judged again with a fresh process for every test.
The second judgement does not change the verdict, so that all programs are judged alike. It measures how often sharing a
process leads to a wrong verdict.
"""

from dataclasses import dataclass

from alphamix.grading.types import Judgement, Program

SHARE = 0.02
"""Audited share of the accepted programs that ran more than one test in one process."""
_MAX_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An accepted program that is not accepted when every test has its own process."""

    problem_id: str
    program: Program
    isolated: Judgement


@dataclass(frozen=True, slots=True)
class Audit:
    """Number of programs that were judged a second time, and number of those that were not accepted again."""

    audited: int = 0
    disagreed: int = 0
    examples: tuple[Disagreement, ...] = ()
    """The first disagreements, at most ten."""

    def with_one_more(self, disagreement: Disagreement | None) -> "Audit":
        """Return this audit with one more program counted."""
        if disagreement is None:
            return Audit(self.audited + 1, self.disagreed, self.examples)
        examples = (*self.examples, disagreement)[:_MAX_EXAMPLES]
        return Audit(self.audited + 1, self.disagreed + 1, examples)


def is_chosen(key: bytes) -> bool:
    """Check whether the program with this hash is audited; the choice is the same in every run."""
    return int.from_bytes(key[:8], "big") < SHARE * (1 << 64)
