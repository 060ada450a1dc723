"""`alphamix coverage`: tables, JSON, what is undefined, and what is refused. The figures: tests of the estimators."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.statistics.pass_at_k import coverage, pass_at_k

LADDER = Path(__file__).parents[2] / "results" / "quickstart" / "outcomes.csv"
LIVECODEBENCH = Path(__file__).parents[2].parent / "shared" / "data" / "lcb_outcomes.csv"

N_MP = np.array([[10, 12, 10], [4, 4, 5]])
C_MP = np.array([[3, 0, 10], [1, 2, 0]])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "outcomes.csv"
    rows = [f"p{p},{name},{N_MP[m, p]},{C_MP[m, p]}\n" for m, name in enumerate(("low", "high=1")) for p in range(3)]
    path.write_text("problem,policy,n,c\n" + "".join(rows))
    return path


def report_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    main(["coverage", "--json", *map(str, arguments)])
    return json.loads(capsys.readouterr().out)


def test_an_allocation_is_estimated_with_its_interval(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, "--outcomes", table, "--allocation", "high=1=2, low=3")
    covered_P = coverage(N_MP, C_MP, [3, 2])
    assert report["coverage"] == pytest.approx(covered_P.mean(), abs=1e-11)
    assert report["stderr"] == pytest.approx(covered_P.std(ddof=1) / np.sqrt(3), abs=1e-11)
    assert report["interval"][0] < report["coverage"] < report["interval"][1]
    assert (report["problems"], report["kind"], report["notes"]) == (3, "new problems", [])
    assert report["allocation"] == {"high=1": 2, "low": 3}


def test_pass_at_k_is_null_where_it_is_undefined(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, "--outcomes", table, "--pass-at", "5,1")
    low, high = report["pass_at_k"]["low"], report["pass_at_k"]["high=1"]
    assert low["5"]["value"] == pytest.approx(pass_at_k(N_MP[0], C_MP[0], 5).mean(), abs=1e-11)
    assert high["1"]["value"] == pytest.approx((C_MP[1] / N_MP[1]).mean(), abs=1e-11)
    assert high["5"] is None
    (note,) = report["notes"]
    assert note.startswith("n/a, pass@5 of high=1: k = 5 needs at least 5 samples everywhere, but one cell has 4")


def test_an_allocation_beyond_the_samples_is_null(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, "--outcomes", table, "--allocation", "low=11")
    assert [report[key] for key in ("coverage", "stderr", "interval")] == [None] * 3
    assert "k = 11" in report["notes"][0]


def test_a_fixed_benchmark_has_narrower_intervals_and_fewer_of_them(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["--outcomes", table, "--pass-at", "1,3"]
    new, fixed = report_of(capsys, *ask), report_of(capsys, *ask, "--fixed-benchmark")
    assert fixed["kind"] == "fixed benchmark"
    for k in ("1", "3"):
        assert fixed["pass_at_k"]["low"][k]["value"] == pytest.approx(new["pass_at_k"]["low"][k]["value"])
        assert fixed["pass_at_k"]["low"][k]["stderr"] < new["pass_at_k"]["low"][k]["stderr"]
    assert fixed["pass_at_k"]["high=1"]["3"]["value"] == pytest.approx(new["pass_at_k"]["high=1"]["3"]["value"])
    assert fixed["pass_at_k"]["high=1"]["3"]["interval"] is None
    assert "twice the size, and k = 6" in fixed["notes"][0]


def test_forecasts_are_of_models(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, "--outcomes", table, "--forecast", "11")
    assert "pass_at_k" not in report
    assert set(report["forecasts"]["low"]) == {"power law", "zero-inflated beta-binomial"}
    found = report["forecasts"]["low"]["power law"]
    assert (found["model"], found["k"]) == ("power law", 11)
    assert 0.5 < found["value"] <= 1
    inside = report_of(capsys, "--outcomes", table, "--forecast", "5")
    assert inside["forecasts"]["low"]["power law"] is None
    assert "needs no model" in inside["notes"][0]


def test_tables_say_the_same_in_words(
    table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    asked = ["--allocation", "low=3", "--pass-at", "1,4,5", "--fixed-benchmark", "--forecast", "50"]
    main(["coverage", "--outcomes", str(table), *asked])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 problems; 95 % intervals for other samples of these same problems (normal)."
    assert lines[1].startswith("3 × low covers 56.9 % [")
    low, high = (next(line.split() for line in lines if line.strip().startswith(name)) for name in ("low", "high=1"))
    assert low[1:3] == ["43.3", "%"]
    assert high[-1] == "n/a"
    assert any(line.startswith("pass@50 beyond the samples, as models predict it") for line in lines)
    assert any(line.startswith("n/a, pass@5 of high=1: k = 5") for line in lines)


@pytest.mark.parametrize(
    ("cells", "flags", "told"),
    [
        ("p,low,4,1\n", [], "a single problem has no interval"),
        ("p,low,4,0\nq,low,4,0\n", ["--fixed-benchmark"], "variance is estimated as 0 or less"),
    ],
)
def test_a_missing_interval_has_its_cause(
    tmp_path: Path, cells: str, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("problem,policy,n,c\n" + cells)
    report = report_of(capsys, "--outcomes", path, *flags)
    assert report["pass_at_k"]["low"]["1"]["interval"] is None
    assert told in report["notes"][0]
    main(["coverage", "--outcomes", str(path), *flags])
    assert "% [n/a]" in capsys.readouterr().out


HOSTILE = ["[bold]m[/bold]", "[/oops]", ":smile:", "new\nline", "ünï☃", "a", "a ", "\x1b[31mred"]


def test_names_are_never_markup_and_can_be_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outcomes.csv"
    cells = [(problem, name, 4, 1) for name in HOSTILE for problem in "pq"]
    pd.DataFrame(cells, columns=["problem", "policy", "n", "c"]).to_csv(path, index=False)
    main(["coverage", "--outcomes", str(path), "--allocation", "a=1,a =2,[/oops]=1"])
    assert "2 × 'a '; 1 each of a, [/oops] covers" in capsys.readouterr().out
    for command in (["coverage"], ["mix", "--budget", "4", "--repeats", "1"]):
        main([*command, "--outcomes", str(path)])
        said = capsys.readouterr().out
        lines = [line.strip() for line in said.splitlines()]
        for name in (*HOSTILE[:3], r"'new\nline'", "ünï☃", "a", "'a '", r"'\x1b[31mred'"):
            assert any(line.startswith(f"{name}  ") for line in lines)
        assert "\x1b" not in said


def test_many_columns_are_blocks_that_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outcomes.csv"
    long = "m" * 90
    path.write_text(
        "problem,policy,n,c\n" + "".join(f"{p},{m},8,{c}\n" for m in (long, "b") for c, p in enumerate("pqrs"))
    )
    main(["coverage", "--outcomes", str(path), "--pass-at", "1,2,3,4,5,6,7,8"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.split()[:1] == ["policy"] for line in lines) >= 3
    row = [line.split() for line in lines if line.split()[:1] == ["b"]]
    assert sum(cells.count("%") for cells in row) == 8
    assert "…" not in "".join(lines)


def test_without_a_question_it_answers_pass_at_1(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, "--outcomes", LADDER)
    assert all(list(by_k) == ["1"] for by_k in report["pass_at_k"].values())
    assert "coverage@+0.50" in report["pass_at_k"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--allocation", "lwo=1"], "unknown policy 'lwo' in these outcomes: did you mean 'low'?"),
        (["--allocation", "low"], "does not have the form POLICY=K"),
        (["--allocation", "low=1.5"], "does not have the form POLICY=K"),
        (["--allocation", "low=1,low=2"], "twice"),
        (["--allocation", "low=0"], "draws no sample"),
        (["--allocation", f"low={10**30}"], "does not have the form POLICY=K"),
        (["--pass-at", f"{10**30}"], "is not a number of samples"),
        (["--pass-at", "1,0"], "'0' is not a number of samples"),
        (["--pass-at", ""], "'' is not a number of samples"),
        (["--missing", "drop-problems", "--pass-at", "1e3"], "'1e3' is not a number of samples"),
    ],
)
def test_bad_questions_are_one_line(
    table: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["coverage", "--outcomes", str(table), *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_missing_cells_are_refused_or_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("problem,policy,n,c\np,low,4,1\nq,low,4,2\np,high,4,2\n")
    with pytest.raises(SystemExit, match="2"):
        main(["coverage", "--outcomes", str(path)])
    assert "no samples of policy 'high' on problem 'q'" in capsys.readouterr().err
    assert report_of(capsys, "--outcomes", path, "--missing", "drop-problems")["left_out"] == ["q"]
    main(["coverage", "--outcomes", str(path), "--missing", "drop-policies"])
    assert "Left out, since samples are missing: 1 policy (high)." in capsys.readouterr().out


def test_draws_that_stopped_early_have_no_pass_at_k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("problem,policy,n,c,stopped\np,low,4,1,1\nq,low,4,2,0\n")
    with pytest.raises(SystemExit, match="2"):
        main(["coverage", "--outcomes", str(path)])
    assert "stopped early" in capsys.readouterr().err


@pytest.mark.parametrize("level", ["nan", "0", "1"])
def test_a_level_is_between_0_and_1(table: Path, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["coverage", "--outcomes", str(table), "--level", level])
    assert "--level" in capsys.readouterr().err


@pytest.mark.skipif(not LIVECODEBENCH.exists(), reason="needs the LiveCodeBench outcomes")
def test_real_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, "--outcomes", LIVECODEBENCH, "--missing", "drop-problems", "--pass-at", "1,10,100")
    assert (report["problems"], report["left_out"]) == (348, ["1883_B"])
    passed = report["pass_at_k"]["GPT-4-Turbo-1106"]
    assert passed["1"]["value"] == pytest.approx(0.416, abs=0.001)
    assert passed["10"]["value"] > passed["1"]["value"]
    assert passed["100"] is None
