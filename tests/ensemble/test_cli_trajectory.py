"""`alphamix policies trajectory`: table, JSON, picture and checkpoint."""

import json
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main

LADDER = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"
RUN = [f"{step}={LADDER / name}" for step, name in ((0, "init"), (100, "low"), (200, "high"))]


def test_a_run_is_reported_drawn_and_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    followed = ["--step", "300", "--out", str(tmp_path / "later"), "--norms", "copy", "--method", "rank-1"]
    main(["policies", "trajectory", *RUN, "--json", "--plot", str(tmp_path / "r2.png"), *followed])
    report = json.loads(capsys.readouterr().out)
    assert 0 < report["overall"]["mean"] < 1
    assert "model.norm.weight" in report["tensors"]
    assert (tmp_path / "r2.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "later" / "trajectory.json").read_text())["norms"] == "copied"
    main(["policies", "trajectory", *RUN[:2]])
    assert "n/a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([*RUN, "--step", "3"], "go together"), (["init"], "STEP=CHECKPOINT"), ([RUN[0]], "two or more")],
)
def test_wrong_arguments_are_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["policies", "trajectory", *arguments])
    assert told in capsys.readouterr().err
