"""`alphamix diagnose` and `alphamix power`: a sentence to act on, JSON, and one line for what does not hold."""

import json
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main

TABLE = str(Path(__file__).parents[2] / "results/quickstart/outcomes.csv")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments])
    return " ".join(capsys.readouterr().out.split())


def test_the_quickstart_is_said_to_have_no_contrast(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "diagnose", "--outcomes", TABLE, "--budget", "16")
    assert "There is hardly a gain to exploit: whatever the budget, the model expects no more than" in text
    assert "coverage@-0.50" in text


def test_diagnosis_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(printed(capsys, "diagnose", "--outcomes", TABLE, "--json"))
    assert report["place"] == "no contrast"
    assert report["budget"] == 32  # samples in the table
    assert report["peak"] in [point["samples"] for point in report["gains"]]
    assert report["gains"][0]["held_out"]["value"] == 0
    assert report["gains"][-1]["held_out"] is None
    assert set(report["contrast"]) == set(report["sharing"])


def test_power_says_what_could_be_seen_and_what_to_buy(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "power", "--outcomes", TABLE, "--budget", "16", "--gain", "5")
    assert "With 40 problems and 16 samples of each policy, a gain must be" in text
    assert "80 problems lower that to" in text
    assert "32 samples lower that to" in text


def test_power_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--problems", "100", "--samples", "16", "--json")
    report = json.loads(printed(capsys, "power", "--outcomes", TABLE, "--budget", "16", *asked))
    assert [(design["problems"], design["samples"]) for design in report["designs"]] == [(100, 16)]


def table(tmp_path: Path, cells: list[tuple[int, int, int]]) -> str:
    """A table of two policies with n, and c of either, of each problem."""
    rows = [
        f"p{p},{policy},{n},{c}" for p, (n, *both) in enumerate(cells) for policy, c in zip("ab", both, strict=True)
    ]
    path = tmp_path / "outcomes.csv"
    path.write_text("\n".join(["problem,policy,n,c", *rows]))
    return str(path)


@pytest.mark.parametrize("command", [("diagnose",), ("power", "--budget", "2")])
@pytest.mark.parametrize(
    ("cells", "cure"),
    [
        ([(1, 0, 1), (1, 1, 0), (1, 1, 1)], "draw 2 or more samples of each"),
        ([(4, 0, 3)], "add problems"),
        ([(4, 4, 4)] * 5, "take harder problems"),
        ([(4, 0, 0)] * 5, "take easier problems"),
    ],
)
def test_a_table_that_says_nothing_about_gains_is_refused(
    command: tuple[str, ...],
    cells: list[tuple[int, int, int]],
    cure: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The model's word would be where its fit started, with an interval of no width."""
    with pytest.raises(SystemExit):
        main([*command, "--outcomes", table(tmp_path, cells)])
    assert cure in capsys.readouterr().err


def test_no_policy_is_to_be_tried_against_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sample per problem goes to a single policy, whatever the contrast."""
    cells = [(6, 6, 0), (6, 0, 6), (6, 5, 0), (6, 0, 4)] * 4
    text = printed(capsys, "diagnose", "--outcomes", table(tmp_path, cells), "--budget", "1")
    assert "A budget of 1 sample per problem is before the bump" in text
    assert "Try" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("power", "--budget", "16", "--samples", "8"), "give 16 samples or more, or lower the budget"),
        (("power", "--budget", "16", "--gain", "0"), "0<x<=100"),
        (("diagnose", "--budget", "0"), "x>=1"),
    ],
)
def test_wrong_options_are_named(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([arguments[0], "--outcomes", TABLE, *arguments[1:]])
    assert message in capsys.readouterr().err
