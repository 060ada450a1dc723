"""Votes and rankings against their definitions, written out program by program."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.ensemble.serve.best_of.selection import agreement, majority, ranked_by_tests, ranked_by_votes, tied_for

tables = st.integers(1, 4).flatmap(
    lambda inputs: st.lists(
        st.lists(st.sampled_from([None, b"1", b" 1 ", b"2", b"3"]), min_size=inputs, max_size=inputs),
        min_size=1,
        max_size=7,
    )
)


def tokens(one: bytes, other: bytes) -> bool:
    return one.split() == other.split()


def near(one: bytes, other: bytes) -> bool:
    """As a checker with a tolerance: not transitive."""
    return abs(int(one) - int(other)) <= 1


def agrees(one: bytes | None, other: bytes | None) -> bool:
    return one is not None and other is not None and tokens(one, other)


@given(tables)
def test_majority_counts_those_that_agree_everywhere(answers: Sequence[Sequence[bytes | None]]) -> None:
    votes = majority(answers, tokens)
    for program, own in enumerate(answers):
        others = [other for index, other in enumerate(answers) if index != program]
        assert votes[program] == sum(all(map(agrees, own, other)) for other in others)


@given(tables)
def test_agreement_counts_those_that_agree_on_each_input(answers: Sequence[Sequence[bytes | None]]) -> None:
    votes = agreement(answers, tokens)
    for program, own in enumerate(answers):
        others = [other for index, other in enumerate(answers) if index != program]
        assert votes[program] == sum(agrees(a, b) for other in others for a, b in zip(own, other, strict=True))


@given(tables)
def test_a_program_that_fails_wins_only_where_all_fail(answers: Sequence[Sequence[bytes | None]]) -> None:
    for votes in (majority, agreement):
        ranking = ranked_by_votes(answers, votes(answers, tokens))
        assert sorted(ranking) == list(range(len(answers)))
        has_failed = [None in answers[program] for program in ranking]
        assert has_failed == sorted(has_failed)


def test_the_two_differ_where_the_plurality_is_wrong_on_most_inputs() -> None:
    answers = [[b"1", b"1", b"9"], [b"1", b"1", b"9"], [b"1", b"2", b"3"], [b"1", b"2", b"4"], [b"1", b"2", b"5"]]
    assert majority(answers, tokens) == [1, 1, 0, 0, 0]
    assert agreement(answers, tokens) == [6, 6, 6, 6, 6]
    answers[2:] = [[b"1", b"2", b"3"], [b"2", b"2", b"3"], [b"1", b"2", b"4"], [b"1", b"2", b"3"]]
    assert ranked_by_votes(answers, majority(answers, tokens))[0] == 0
    assert ranked_by_votes(answers, agreement(answers, tokens))[0] == 2


def test_a_tolerance_lets_one_in_the_middle_win() -> None:
    answers = [[b"1"], [b"2"], [b"3"]]
    assert majority(answers, near) == agreement(answers, near) == [1, 2, 1]
    assert ranked_by_votes(answers, [1, 2, 1]) == [1, 0, 2]


def test_the_longest_prefix_wins_then_votes_then_order() -> None:
    assert ranked_by_tests([1, 3, 3, 0, 3], [9, 0, 2, 9, 2]) == [2, 4, 1, 0, 3]


@pytest.mark.parametrize(
    ("passed", "places", "tied"),
    [([3, 1, 1], 1, []), ([3, 3, 1], 1, [0, 1]), ([3, 1, 1, 0], 2, [1, 2]), ([3, 1, 0, 0], 2, []), ([0], 1, [])],
)
def test_votes_decide_only_where_they_must(passed: list[int], places: int, tied: list[int]) -> None:
    assert tied_for(passed, places) == tied
