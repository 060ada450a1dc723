"""Which of N programs is best, by the tests that they pass or by what they answer. Pure: outcomes in, ranking out.

Votes look at outputs, never at text. A program agrees with another on an input where both answered and the answers are
the same; one that failed there agrees with nobody.

`majority`: with how many others a program agrees on every input. Where "the same" is an equivalence, as for all
checkers but those with a tolerance, the winner is of the largest cluster of behaviours, as in AlphaCode (Li et al.
2022, arXiv:2203.07814, "clustering"), and minimises the execution-based Bayes risk of Shi et al. (2022,
arXiv:2204.11454).
`agreement`: the same risk with a softer loss, which counts each input for itself: the sum over inputs of how many
others agree there.
"""

from collections.abc import Callable, Sequence
from typing import Literal

Votes = Literal["majority", "agreement"]
Answers = Sequence[bytes | None]
"""[T] what a program answered to each input; None where it failed."""
Same = Callable[[bytes, bytes], bool]
"""Whether two answers to one input are the same. Must be symmetric."""


def majority(answers_NT: Sequence[Answers], same: Same) -> list[int]:
    """[N] with how many others each program agrees on every input."""
    agreed_NN = [set(range(len(answers_NT))) for _ in answers_NT]
    for column in _columns(answers_NT):
        for agreed, agreed_here in zip(agreed_NN, _agreeing(column, same), strict=True):
            agreed &= agreed_here
    return [len(agreed - {program}) for program, agreed in enumerate(agreed_NN)]


def agreement(answers_NT: Sequence[Answers], same: Same) -> list[int]:
    """[N] the sum over inputs of how many others agree with each program there."""
    votes_N = [0] * len(answers_NT)
    for column in _columns(answers_NT):
        for program, agreed in enumerate(_agreeing(column, same)):
            votes_N[program] += len(agreed - {program})
    return votes_N


VOTES: dict[Votes, Callable[[Sequence[Answers], Same], list[int]]] = {"majority": majority, "agreement": agreement}


def ranked_by_votes(answers_NT: Sequence[Answers], votes_N: Sequence[int]) -> list[int]:
    """Rank programs, the best first: those that failed on no input, then by votes, by inputs answered, by order."""

    def merit(program: int) -> tuple[bool, int, int]:
        answered = sum(answer is not None for answer in answers_NT[program])
        return answered == len(answers_NT[program]), votes_N[program], answered

    return sorted(range(len(answers_NT)), key=merit, reverse=True)


def ranked_by_tests(num_passed_N: Sequence[int], votes_N: Sequence[int]) -> list[int]:
    """Rank programs, the best first: by the prefix of tests that they pass, then by votes, then by order."""
    return sorted(range(len(num_passed_N)), key=lambda program: (num_passed_N[program], votes_N[program]), reverse=True)


def tied_for(num_passed_N: Sequence[int], places: int) -> list[int]:
    """The programs between which votes must decide, so that the first `places` are known; empty where none must."""
    cut = sorted(num_passed_N, reverse=True)[:places]
    contested = {passed for passed in cut if num_passed_N.count(passed) > 1}
    return [program for program, passed in enumerate(num_passed_N) if passed in contested]


def _columns(answers_NT: Sequence[Answers]) -> list[Answers]:
    return list(zip(*answers_NT, strict=True))


def _agreeing(answers_N: Answers, same: Same) -> list[set[int]]:
    """[N] who gives the same answer, oneself included; nobody where there is none. Equal bytes are compared once."""
    programs_of: dict[bytes, set[int]] = {}
    for program, answer in enumerate(answers_N):
        if answer is not None:
            programs_of.setdefault(answer, set()).add(program)
    distinct = list(programs_of)
    agreed = {answer: set(programs) for answer, programs in programs_of.items()}
    for index, one in enumerate(distinct):
        for other in distinct[index + 1 :]:
            if same(one, other):
                agreed[one] |= programs_of[other]
                agreed[other] |= programs_of[one]
    return [set() if answer is None else agreed[answer] for answer in answers_N]
