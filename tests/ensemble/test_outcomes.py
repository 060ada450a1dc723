"""Tables of outcomes: what they keep through a file, and what is refused."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.ensemble.outcomes.files import outcomes_from_table, read_outcomes, write_outcomes
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.text_lines import zstd_module

zstd = zstd_module()

LIVECODEBENCH = Path(__file__).parents[2].parent / "shared/data/lcb_outcomes.csv"


def table(*rows, more=()):
    return pd.DataFrame(rows, columns=["problem", "policy", "n", "c", *more])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("p", "a", 4, 5)], r"c = 5 for policy 'a' on problem 'p', which is more than n"),
        ([("p", "a", 4, -1)], r"c = -1 .* whole numbers"),
        ([("p", "a", 4, 1.5)], r"c = 1\.5 .* whole numbers"),
        ([("p", "a", float("inf"), 1)], r"n = inf .* whole numbers"),
        ([("p", "a", 4, None)], r"c = nothing .* whole numbers"),
        ([("p", "a", 4, "many")], r"c = many .* not a number"),
        ([("p", "a", 0, 0)], r"no samples of policy 'a' on problem 'p' \(1 cell missing\)"),
        ([("p", "a", 4, 1), ("p", "a", 4, 1)], "two rows"),
        ([("p", "a", 4, 1), ("q", "b", 4, 1)], r"no samples of policy 'a' on problem 'q' \(2 cells missing\)"),
        ([("p", None, 4, 1)], "no policy in row 1"),
        ([("p", " ", 4, 1)], "no policy in row 1"),
        ([("p", "a", 1e300, 1)], r"n = 1e\+300 .* up to 1,000,000"),
        ([("p", "a", 10**18, 1)], "up to 1,000,000"),
        ([("p", "a", "1\n2", 1)], r"n = '1\\n2' .* not a number"),
        ([("p", "a", pd.Timestamp("2026-01-01"), 1)], "dates or durations in the column n"),
        ([], "no rows"),
    ],
)
def test_tables_that_do_not_hold_are_refused(rows, message):
    with pytest.raises(OutcomesError, match=message):
        outcomes_from_table(table(*rows), "the table")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("tokens", -1.0, "costs are 0 or more"),
        ("tokens", float("inf"), "costs are 0 or more"),
        ("format", 4, "less than accepted and failed"),
    ],
)
def test_what_stands_beside_the_counts_must_hold_as_well(column, value, message):
    with pytest.raises(OutcomesError, match=message):
        outcomes_from_table(table(("p", "a", 4, 1, value), more=[column]), "the table")


def test_missing_cells_are_left_out_only_where_that_was_asked():
    holes = table(("p", "a", 4, 1), ("q", "a", 4, 2), ("p", "b", 4, 3))
    by_problem = outcomes_from_table(holes, "the table", "drop-problems")
    assert (by_problem.policies, by_problem.problems, by_problem.left_out) == (("a", "b"), ("p",), ("q",))
    by_policy = outcomes_from_table(holes, "the table", "drop-policies")
    assert (by_policy.policies, by_policy.problems, by_policy.left_out) == (("a",), ("p", "q"), ("b",))
    diagonal = table(("p", "a", 4, 1), ("q", "b", 4, 1))
    with pytest.raises(OutcomesError, match="nothing would be left"):
        outcomes_from_table(diagonal, "the table", "drop-policies")


def test_problems_may_come_in_groups():
    """Names of groups are text like all others, and follow their problems."""
    grouped = table(*[(p, a, 4, 1, g) for a in "ab" for p, g in (("p", 1), ("q", 2), ("r", 1))], more=["group"])
    outcomes = outcomes_from_table(grouped, "the table")
    assert outcomes.groups == ("1", "2", "1")
    assert outcomes.group_P.tolist() == [0, 1, 0]
    assert outcomes.select(problems=np.array([2, 1])).groups == ("1", "2")
    assert outcomes.canonical().groups == ("1", "2", "1")
    assert outcomes_from_table(table(("p", "a", 4, 1)), "the table").group_P.tolist() == [0]
    assert outcomes_from_table(table(("p", "a", 4, 1, None), more=["group"]), "the table").groups is None


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["x", "y"], "puts problem 'p' into the groups 'x' and 'y': give each problem one group"),
        (["x", None], "no group for problem 'p': fill in the column group, or remove it"),
    ],
)
def test_a_group_column_that_splits_or_misses_a_problem_is_refused(groups, message):
    rows = [("p", policy, 4, 1, group) for policy, group in zip("ab", groups, strict=True)]
    with pytest.raises(OutcomesError, match=message):
        outcomes_from_table(table(*rows, more=["group"]), "the table")


def test_what_is_left_out_leaves_with_its_group():
    rows = [("p", "a", 4, 1, "x"), ("q", "a", 4, 1, "y"), ("q", "b", 4, 1, "y")]
    assert outcomes_from_table(table(*rows, more=["group"]), "the table", "drop-problems").groups == ("y",)


@pytest.mark.parametrize("name", ["o.csv", "o.parquet"])
def test_outcomes_survive_a_file(tmp_path, name):
    outcomes = Outcomes(
        problems=("NA", "01", "nan"),
        policies=("b", "a"),
        num_samples_MP=np.array([[4, 5, 6], [7, 8, 9]]),
        num_correct_MP=np.array([[0, 5, 2], [1, 2, 3]]),
        num_failures_MP={"format": np.array([[3, 0, 1], [1, 0, 0]])},
        costs_MP={"tokens": np.array([[1.5, np.nan, 3.0], [4.0, 5.0, 6.0]])},
        stopped_MP=np.array([[True, False, False], [False, False, True]]),
        groups=("nan", "01", "nan"),
    )
    write_outcomes(outcomes, tmp_path / name)
    again = read_outcomes(tmp_path / name)
    assert again.groups == outcomes.groups
    assert (again.policies, again.problems) == (outcomes.policies, outcomes.problems)
    np.testing.assert_array_equal(again.num_samples_MP, outcomes.num_samples_MP)
    np.testing.assert_array_equal(again.num_correct_MP, outcomes.num_correct_MP)
    np.testing.assert_array_equal(again.num_failures_MP["format"], outcomes.num_failures_MP["format"])
    np.testing.assert_array_equal(again.costs_MP["tokens"], outcomes.costs_MP["tokens"])
    np.testing.assert_array_equal(again.stopped_MP, outcomes.stopped_MP)


@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(1, 4), st.integers(1, 5)))
def test_the_order_of_rows_changes_no_cell(seed, shape):
    rng = np.random.default_rng(seed)
    rows = [(f"p{p}", f"m{m}", 9, int(rng.integers(10))) for m in range(shape[0]) for p in range(shape[1])]
    shuffled = outcomes_from_table(table(*(rows[r] for r in rng.permutation(len(rows)))), "the table")
    for problem, policy, n, c in rows:
        cell = shuffled.row(policy), shuffled.problems.index(problem)
        assert (shuffled.num_samples_MP[cell], shuffled.num_correct_MP[cell]) == (n, c)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "problem;policy;n;c\np;a;4;1\n",
            "lacks the columns problem, policy, n, c and has 'problem;policy;n;c'",
        ),
        (
            "Problem,policy,N,c\np,a,4,1\n",
            "lacks the columns problem, n and has 'Problem', 'policy', 'N', 'c'",
        ),
        ("problem,policy,n,c\np,a,4,1,9,9\n", "more cells than the first line"),
        ("problem,policy,n,c\np,a,4,1\nq,a,4,1,9\n", "cannot be read"),
        ("problem,policy,n,c\np,a,4\n", "c = nothing"),
        ('problem,policy,n,c\np,"a,4,1\n', "cannot be read"),
        ("problem,policy,n,c\n", "has no rows"),
        ("", "cannot be read"),
        ("problem,policy,n,c\np,a,4,1\n".encode("utf-16"), "CSV in UTF-8"),
        (bytes(range(256)) * 20, "cannot be read"),
        (bytes(100), "lacks the columns"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_line(tmp_path, data, message):
    (tmp_path / "o.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(OutcomesError, match=message) as refused:
        read_outcomes(tmp_path / "o.csv")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_compressed_csv_is_read(tmp_path, pack):
    (tmp_path / "o.csv").write_bytes(pack(b"\xef\xbb\xbfproblem,policy,n,c\np,a,4,1\nq,a,4,2\n"))
    assert read_outcomes(tmp_path / "o.csv").num_correct_MP.tolist() == [[1, 2]]
    (tmp_path / "o.csv").write_bytes(pack(bytes(1000))[:-4])
    with pytest.raises(OutcomesError, match=r"o\.csv cannot be read \(its .* content is damaged: "):
        read_outcomes(tmp_path / "o.csv")


@pytest.mark.parametrize("change", [("\n", "\r\n"), ("problem", "\ufeffproblem"), ("\n", ",\n")])
def test_csv_files_of_other_programs_are_read(tmp_path, change):
    (tmp_path / "o.csv").write_bytes("problem,policy,n,c\np,a,4,1\nq,a,4,2\n".replace(*change).encode())
    assert read_outcomes(tmp_path / "o.csv").num_correct_MP.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "kinds",
    [
        {"policy": "category", "problem": "category"},
        {"policy": "string[pyarrow]", "n": "int64[pyarrow]", "c": "double[pyarrow]"},
        {"n": "category", "c": "Int8"},
        {"n": "decimal", "c": "uint8"},
        {"problem": "datetime64[ns]"},
        {"problem": "binary[pyarrow]"},
    ],
)
def test_parquet_of_any_type_is_read(tmp_path, kinds):
    kinds = {name: pd.ArrowDtype(pa.decimal128(20, 0)) if kind == "decimal" else kind for name, kind in kinds.items()}
    days = ["2026-01-01", "2026-01-02"]
    given = table(*((day, policy, 4, c) for policy, c in (("b", 1), ("a", 2)) for day in days)).astype(kinds)
    given.to_parquet(tmp_path / "o.PARQUET")
    read = read_outcomes(tmp_path / "o.PARQUET")
    assert (read.policies, len(read.problems)) == (("b", "a"), 2)
    assert read.num_correct_MP.tolist() == [[1, 1], [2, 2]]


def test_names_that_differ_by_a_space_are_two():
    outcomes = outcomes_from_table(table(*(("p", name, 4, 1) for name in ("a", "a ", " a", "A"))), "the table")
    assert outcomes.policies == ("a", "a ", " a", "A")


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(OutcomesError, match="cannot be read"):
        read_outcomes(tmp_path / "none.csv")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(OutcomesError, match="cannot be read"):
        read_outcomes(tmp_path / "bad.parquet")


def test_costs_must_be_known_before_they_are_a_budget():
    known = outcomes_from_table(table(("p", "a", 4, 1, 10.0), ("q", "a", 4, 1, 20.0), more=["tokens"]), "the table")
    assert known.mean_cost_M("tokens").tolist() == [15.0]
    with pytest.raises(OutcomesError, match="no column 'seconds'"):
        known.mean_cost_M("seconds")
    with pytest.raises(OutcomesError, match="of policy 'a' are unknown"):
        replace(known, costs_MP={"tokens": np.array([[10.0, np.nan]])}).mean_cost_M("tokens")


def test_counts_that_depend_on_the_draws_are_refused_where_pass_at_k_is_meant():
    fixed = outcomes_from_table(table(("p", "a", 4, 1)), "the table")
    fixed.check_fixed_size()
    with pytest.raises(OutcomesError, match=r"stopped early in 1 cells \(first: policy 'a' on problem 'p'\)"):
        replace(fixed, stopped_MP=np.array([[True]])).check_fixed_size()


@pytest.mark.skipif(not LIVECODEBENCH.exists(), reason="the LiveCodeBench outcomes are not here")
def test_the_hole_in_a_real_table_is_found():
    with pytest.raises(OutcomesError, match=r"'Claude-Instant-1' on problem '1883_B' \(1 cell missing\)"):
        read_outcomes(LIVECODEBENCH)
    whole = read_outcomes(LIVECODEBENCH, "drop-problems")
    assert (len(whole.policies), len(whole.problems), whole.left_out) == (16, 348, ("1883_B",))


def test_problems_that_look_like_copies_are_counted_unless_a_group_joins_them() -> None:
    rng = np.random.default_rng(0)
    correct = {(p, policy): int(rng.binomial(8, rng.random())) for p in range(5) for policy in "abcdefgh"}
    rows = [(f"p{p}-{copy}", policy, 8, c) for (p, policy), c in correct.items() for copy in range(3)]
    table = pd.DataFrame(rows, columns=["problem", "policy", "n", "c"])
    assert outcomes_from_table(table, "copies").num_lookalikes == 15
    table["group"] = table["problem"].str.partition("-")[0]
    assert outcomes_from_table(table, "copies").num_lookalikes == 0
    assert outcomes_from_table(table[table["policy"] == "a"], "one policy").num_lookalikes == 0  # by chance
