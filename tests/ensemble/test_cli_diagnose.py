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
