"""Majority votes: an estimator that agrees with all choices, arms that never flatter, and tables that are refused."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alphamix
from alphamix.ensemble.cli import main
from alphamix.ensemble.mixture.cross_fitting import cross_fits
from alphamix.ensemble.mixture.vote_arms import VoteComparison, compare_votes
from alphamix.ensemble.outcomes.answers import answers_from_table
from alphamix.ensemble.outcomes.table import OutcomesError
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.ensemble.statistics.majority_vote import vote_accuracies
from alphamix.ensemble.statistics.pass_at_k import UndefinedError

NONE = ""


def frame(rows: list[tuple[str, str, Any, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["problem", "policy", "answer", "correct"])


def compared(table: pd.DataFrame, budget: int) -> VoteComparison:
    return compare_votes(
        answers_from_table(table, "table"), budget, cross_fits(0)["problems"], Resampling(resamples=500)
    )


def accuracy(samples_M: list[list[tuple[str, bool]]], k_M: tuple[int, ...]) -> float:
    """The mean over all choices of samples, all ties and all samples with the winning answer."""
    values: list[float] = []
    for chosen in product(*(combinations(samples, k) for samples, k in zip(samples_M, k_M, strict=True))):
        drawn = [sample for samples in chosen for sample in samples]
        votes = Counter(answer for answer, _ in drawn if answer != NONE)
        winners = [answer for answer, number in votes.items() if number == max(votes.values())]
        right = [np.mean([is_right for answer, is_right in drawn if answer == winner]) for winner in winners]
        values.append(float(np.mean(right)) if right else 0.0)
    return float(np.mean(values))


def counts(samples_M: list[list[tuple[str, bool]]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    names = sorted({NONE} | {answer for samples in samples_M for answer, _ in samples})
    given = [[sum(answer == name for answer, _ in samples) for name in names] for samples in samples_M]
    right = [[sum(a == name and is_right for a, is_right in samples) for name in names] for samples in samples_M]
    return np.array(given), np.array(right)


TIED = [[("a", True), ("b", False), ("b", False), (NONE, False)], [("a", True), ("c", False), ("c", True)]]


@pytest.mark.parametrize("k_M", [(1, 0), (2, 1), (1, 1), (3, 2), (4, 3), (0, 3), (4, 0)])
def test_the_estimate_is_the_mean_over_all_choices(k_M: tuple[int, int]) -> None:
    """In 2,000 drawn choices the noise is at most 1.1 points; here it is four times that."""
    estimate = vote_accuracies(*counts(TIED), np.array([k_M]), np.random.default_rng(0))
    assert estimate == pytest.approx([accuracy(TIED, k_M)], abs=0.045)


def test_all_samples_together_vote_without_noise() -> None:
    estimate = vote_accuracies(*counts(TIED), np.array([[4, 3], [4, 0], [0, 3]]), np.random.default_rng(0))
    assert estimate == pytest.approx([accuracy(TIED, k_M) for k_M in [(4, 3), (4, 0), (0, 3)]], abs=1e-12)


def test_the_estimate_is_unbiased_for_new_samples() -> None:
    """The truth is a vote of five fresh samples; each table has eight, of which three are never in the vote."""
    rng = np.random.default_rng(0)
    chance_A = np.array([0.1, 0.4, 0.3, 0.2])
    right_A = np.array([0, 1, 0, 0])
    votes_DA = rng.multinomial(5, chance_A, 40_000) * [0, 1, 1, 1]
    wins_DA = (votes_DA == votes_DA.max(axis=1, keepdims=True)) & (votes_DA > 0)
    truth = np.mean(wins_DA @ right_A / np.maximum(wins_DA.sum(axis=1), 1))
    tables = rng.multinomial(8, chance_A, 1500)
    estimates = [vote_accuracies(n_A[None], (n_A * right_A)[None], np.array([[5]]), rng)[0] for n_A in tables]
    assert np.mean(estimates) == pytest.approx(truth, abs=3 * np.std(estimates) / np.sqrt(len(estimates)) + 0.005)


samples = st.lists(st.tuples(st.sampled_from(["a", "b", "c", NONE]), st.just(False)), min_size=3, max_size=6)


@given(st.lists(samples, min_size=1, max_size=3), st.data())
@settings(max_examples=40)
def test_properties_of_a_vote(samples_M: list[list[tuple[str, bool]]], data: st.DataObject) -> None:
    """Where one answer is right its votes are shares of 1; renaming answers changes nothing but noise."""
    samples_M = [[(answer, answer == "a") for answer, _ in each] for each in samples_M]
    k_M = data.draw(st.tuples(*(st.integers(0, 3) for _ in samples_M)).filter(any))
    given_MA, right_MA = counts(samples_M)
    estimate = vote_accuracies(given_MA, right_MA, np.array([k_M]), np.random.default_rng(0))[0]
    assert 0 <= estimate <= 1
    assert estimate == pytest.approx(accuracy(samples_M, k_M), abs=0.06)
    if all(answer == "a" for each in samples_M for answer, _ in each):
        assert estimate == 1


def test_many_allocations_at_once_are_those_one_by_one() -> None:
    """As many as are counted in blocks."""
    rng = np.random.default_rng(0)
    given_MA = rng.multinomial(12, np.ones(40) / 40, 3)
    given_MA[:, 1] += 8
    right_MA = given_MA * (np.arange(40) == 1)
    allocations_CM = np.array([k_M for k_M in product(range(13), repeat=3) if sum(k_M) == 12])
    together = vote_accuracies(given_MA, right_MA, allocations_CM, np.random.default_rng(0))
    alone = [vote_accuracies(given_MA, right_MA, k_M[None], np.random.default_rng(1))[0] for k_M in allocations_CM]
    assert together == pytest.approx(np.array(alone), abs=0.16)
    assert abs(np.mean(together - alone)) < 0.01


def test_a_vote_needs_its_samples() -> None:
    with pytest.raises(UndefinedError, match="a vote with 5 samples of a policy needs as many on every problem"):
        vote_accuracies(*counts(TIED), np.array([[0, 1], [5, 0]]), np.random.default_rng(0))


def drawn(rates_MP: np.ndarray[Any, Any], n: int, seed: int) -> pd.DataFrame:
    """Samples of policies whose wrong answers are spread over two."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"p{p}", f"m{m}", answer, int(answer == "right"))
        for (m, p), rate in np.ndenumerate(rates_MP)
        for answer in rng.choice(["right", "wrong", "wronger"], n, p=[rate, (1 - rate) / 2, (1 - rate) / 2])
    ]
    return frame(rows)


def opposed(num_problems: int, n: int, seed: int) -> pd.DataFrame:
    """Each of two policies votes for the truth on its own half of the problems, and divides its votes on the other."""
    rates_MP = np.full((2, num_problems), 0.30)
    rates_MP[0, ::2] = rates_MP[1, 1::2] = 0.80
    return drawn(rates_MP, n, seed)


def test_policies_that_know_different_things_gain_by_voting_together() -> None:
    comparison = compared(opposed(40, 24, 0), 12)
    assert comparison.arms["mixture"].allocation["m0"] in range(5, 8)
    gain, strict = comparison.gains["mixture"].honest["problems"], comparison.strict["mixture"]
    assert gain.sign > 0
    assert strict is not None
    assert strict.gain.sign > 0
    assert strict.is_complete


def test_where_policies_are_equal_naive_figures_flatter_and_nothing_is_claimed() -> None:
    """The truth is the vote of any five samples, since all policies are the same."""
    naive_error: list[float] = []
    honest_error: list[float] = []
    for seed in range(10):
        rates_MP = np.tile(np.random.default_rng(seed).beta(1, 1, 24), (3, 1))
        comparison, many = compared(drawn(rates_MP, 8, seed), 5), drawn(rates_MP[:1], 500, seed)
        truth = compared(many, 5).accuracy["mixture"].naive.value
        naive_error.append(comparison.accuracy["mixture"].naive.value - truth)
        honest_error.append(comparison.accuracy["mixture"].honest["problems"].value - truth)
        assert comparison.gains["mixture"].honest["problems"].sign <= 0
        assert not ((strict := comparison.strict["mixture"]) and strict.gain.sign > 0)
    assert np.mean(naive_error) > 0.005
    assert abs(np.mean(honest_error)) < np.mean(naive_error) / 2


def everything(comparison: VoteComparison) -> Iterator[float]:
    for name, estimates in comparison.accuracy.items():
        yield from (estimates.naive.value, estimates.honest["problems"].value)
        if name in comparison.gains:
            yield comparison.gains[name].honest["problems"].value


def test_the_order_of_rows_changes_nothing() -> None:
    table = opposed(12, 8, 1)
    shuffled = table.sample(frac=1, random_state=3)
    assert list(everything(compared(shuffled, 6))) == list(everything(compared(table, 6)))


def test_spaces_around_an_answer_mean_nothing_and_none_is_no_answer() -> None:
    answers = answers_from_table(
        frame([("p", "x", " 4\n", 1), ("p", "x", "4", 1), ("p", "x", None, 0), ("p", "x", "  ", 0), ("p", "x", 4, 1)]),
        "table",
    )
    assert answers.by_problem[0].num_given_MA.tolist() == [[2, 3]]
    assert answers.by_problem[0].num_correct_MA.tolist() == [[0, 3]]


def test_a_policy_with_few_samples_votes_in_mixtures_only() -> None:
    table = opposed(10, 8, 0)
    few = table[(table["policy"] == "m0") | (table.groupby(["problem", "policy"]).cumcount() < 3)]
    comparison = compared(few, 6)
    assert comparison.left_out == {"m1": 3}
    assert set(comparison.arms) == {"mixture", "equal", "best_single"}
    assert comparison.arms["mixture"].allocation.get("m1", 0) <= 3
    strict = comparison.strict["mixture"]
    assert strict is not None
    assert not strict.is_complete


def test_no_policy_alone_no_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answers.csv"
    opposed(10, 4, 0).to_csv(path, index=False)
    main(["vote", "--answers", str(path), "--budget", "8"])
    assert "What that gains over a single policy is unknown, since none has 8 samples on every problem." in " ".join(
        capsys.readouterr().out.split()
    )


def test_one_problem_has_a_naive_figure_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answers.csv"
    opposed(1, 4, 0).to_csv(path, index=False)
    main(["vote", "--answers", str(path), "--budget", "4"])
    out = " ".join(capsys.readouterr().out.split())
    assert "which flatters it. There is no honest figure: cross-fitting by problems needs at least 2 problems" in out


def test_one_policy_votes_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answers.csv"
    table = opposed(10, 8, 0)
    table[table["policy"] == "m0"].to_csv(path, index=False)
    main(["vote", "--answers", str(path), "--budget", "4"])
    assert "Let m0 vote alone: it is the best mixture" in capsys.readouterr().out
    main(["vote", "--answers", str(path), "--budget", "4", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["gain"]["honest"] == 0
    assert report["allocation"] == {"m0": 4}
    assert report["problems"] == 10


def test_many_policies_are_taken_in_pairs_at_least() -> None:
    rates_MP = np.random.default_rng(0).beta(1, 1, (24, 6))
    comparison = compared(drawn(rates_MP, 4, 0), 4)
    assert comparison.num_mixtures == 24 * 25 // 2 + 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("p", "x", "4", 2)], "correct = 2 for policy 'x' on problem 'p': each row is one sample, so write 0 or 1"),
        ([("p", "x", "4", 0.5)], "counts are whole numbers"),
        ([("p", "x", "4", "yes")], "correct = yes .* is not a number"),
        ([("p", "x", "4", None)], "correct = nothing"),
        ([("p", "x", None, 1)], "without an answer: fill in the answer, or write 0"),
        ([("p", None, "4", 1)], "has no policy in row 1"),
        ([("p", "x", "4", 1), ("q", "y", "4", 1)], "no samples of policy 'x' on problem 'q'"),
        ([], "has no rows"),
    ],
)
def test_impossible_tables_are_refused(rows: list[tuple[str, str, Any, Any]], message: str) -> None:
    with pytest.raises(OutcomesError, match=message):
        answers_from_table(frame(rows), "table")


def test_groups_are_checked_before_rows_are_counted() -> None:
    table = frame([("p", "x", "4", 1), ("p", "x", "5", 0)]).assign(group=["one", "two"])
    with pytest.raises(OutcomesError, match="problem 'p' into the groups 'one' and 'two'"):
        answers_from_table(table, "table")
    assert answers_from_table(table.assign(group="one"), "table").outcomes.groups == ("one",)


def test_holes_may_be_left_out() -> None:
    table = frame([("p", "x", "4", 1), ("q", "x", "4", 1), ("q", "y", "7", 0)])
    dropped = answers_from_table(table, "table", "drop-problems")
    assert (dropped.outcomes.problems, len(dropped.by_problem)) == (("q",), 1)
    dropped = answers_from_table(table, "table", "drop-policies")
    assert dropped.by_problem[1].num_given_MA.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("content", "budget", "message"),
    [
        ("problem,policy,n,c\np,x,4,1\n", "2", "lacks the columns answer, correct"),
        ("problem,policy,answer,correct\np,x,4,true\n", "2", "no mixture of 2 samples can be scored"),
        ("problem,policy,answer,correct\np,x,4,1,5\n", "1", "more cells than the first line has names"),
        ("\x00\xff", "1", "error"),
    ],
)
def test_hostile_files_end_in_one_line(
    content: str, budget: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answers.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SystemExit) as ended:
        main(["vote", "--answers", str(path), "--budget", budget])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_python_face_says_the_same_as_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answers.csv"
    opposed(20, 8, 0).to_csv(path, index=False)
    main(["vote", "--answers", str(path), "--budget", "4", "--json"])
    report = json.loads(capsys.readouterr().out)
    votes = alphamix.majority_vote(path, 4).set_index("arm")
    assert votes.loc["mixture", "allocation"] == report["allocation"]
    assert votes.loc["mixture", ["accuracy", "low", "high"]].tolist() == [
        report["accuracy"]["mixture"]["honest"],
        *report["accuracy"]["mixture"]["interval"],
    ]
    assert votes.loc["mixture", "gain"] == report["gain"]["honest"]
    assert np.isnan(votes.loc["best_single", "gain"])
    with pytest.raises(alphamix.AlphamixError, match="budget is 0: give a whole number of samples"):
        alphamix.majority_vote(path, 0)


def test_the_example_of_the_documentation_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    section = text.split("## Who should vote")[1]
    monkeypatch.chdir(tmp_path)
    exec(section.split("```python\n")[1].split("```")[0], {})
    command, _, shown = section.split("```console\n$ alphamix ")[1].split("```")[0].partition("\n")
    main(command.split())
    printed = " ".join(capsys.readouterr().out.split())
    for part in [*shown.splitlines()[1:4], shown[shown.index("Let ") :]]:
        assert " ".join(part.split()) in printed
