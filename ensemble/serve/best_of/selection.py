"""Ranks N programs by the tests that they pass, or by votes on their outputs. Pure.

Votes compare outputs, never the text of programs. Two programs agree on an input if both answered and the answers are
the same; a program that failed there agrees with no other.

`majority` counts the others that agree with a program on every input. If "the same" is an equivalence, as for all
checkers without a tolerance, the winner is from the largest cluster of behaviours, as in AlphaCode (Li et al. 2022,
arXiv:2203.07814, "clustering"), and minimises the execution-based Bayes risk of Shi et al. (2022, arXiv:2204.11454).
`agreement` is the same risk with a softer loss that counts each input separately: the sum over inputs of the number of
others that agree there.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

Votes = Literal["majority", "agreement"]
Answers = Sequence[bytes | None]
"""Output of a program for each input, or None if it failed, `[T]`."""
Same = Callable[[bytes, bytes], bool]
"""Symmetric test whether two answers to one input are the same."""


def majority(answers_NT: Sequence[Answers], same: Same) -> list[int]:
    """Return the number of others that agree with each program on every input, `[N]`."""
    agreed_NN = [set(range(len(answers_NT))) for _ in answers_NT]
    for column in zip(*answers_NT, strict=True):
        for agreed, agreed_here in zip(agreed_NN, _agreeing(column, same), strict=True):
            agreed &= agreed_here
    return [len(agreed - {program}) for program, agreed in enumerate(agreed_NN)]


def agreement(answers_NT: Sequence[Answers], same: Same) -> list[int]:
    """Return the number of others that agree with each program, summed over inputs, `[N]`."""
    votes_N = [0] * len(answers_NT)
    for column in zip(*answers_NT, strict=True):
        for program, agreed in enumerate(_agreeing(column, same)):
            votes_N[program] += len(agreed - {program})
    return votes_N


VOTES: dict[Votes, Callable[[Sequence[Answers], Same], list[int]]] = {"majority": majority, "agreement": agreement}


def ranked_by_votes(answers_NT: Sequence[Answers], votes_N: Sequence[int]) -> list[int]:
    """Rank programs, the best first: those that never failed, then by votes, by inputs answered, by order."""

    def merit(program: int) -> tuple[bool, int, int]:
        answered = sum(answer is not None for answer in answers_NT[program])
        return answered == len(answers_NT[program]), votes_N[program], answered

    return sorted(range(len(answers_NT)), key=merit, reverse=True)


def ranked_by_tests(num_passed_N: Sequence[int], votes_N: Sequence[int]) -> list[int]:
    """Rank programs, the best first: by the number of tests passed before the first failure, by votes, by order."""
    return sorted(range(len(num_passed_N)), key=lambda program: (num_passed_N[program], votes_N[program]), reverse=True)


def tied_for(num_passed_N: Sequence[int], num_winners: int) -> list[int]:
    """Return the programs whose ties votes must break before the winners are known."""
    cut = sorted(num_passed_N, reverse=True)[:num_winners]
    contested = {passed for passed in cut if num_passed_N.count(passed) > 1}
    return [program for program, passed in enumerate(num_passed_N) if passed in contested]


def _agreeing(answers_N: Answers, same: Same) -> list[set[int]]:
    """Return the programs that give the same answer as each program, itself included, `[N]`; empty if it failed."""
    programs_of: dict[bytes, set[int]] = {}
    for program, answer in enumerate(answers_N):
        if answer is not None:
            programs_of.setdefault(answer, set()).add(program)
    agreed = {answer: set(programs) for answer, programs in programs_of.items()}
    for first, second in combinations(programs_of, 2):  # equal bytes are compared once, since `same` may be slow
        if same(first, second):
            agreed[first] |= programs_of[second]
            agreed[second] |= programs_of[first]
    return [set() if answer is None else agreed[answer] for answer in answers_N]
