"""`alphamix policies merge`, on the ladder's checkpoints."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from alphamix.ensemble import cli

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"
LOW, HIGH, INIT = (str(CHECKPOINTS / name) for name in ("low", "high", "init"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    return {name: t.astype(float) for f in folder.glob("*.safetensors") for name, t in load_file(f).items()}


def test_one_alpha_is_the_folder_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "beyond"
    cli.main(["policies", "merge", "--low", LOW, "--high", HIGH, "--alpha", "1.3", "--out", str(out), "--json"])
    (made,) = json.loads(capsys.readouterr().out)["merges"]
    assert made["folder"] == str(out)
    assert made["alpha"] == 1.3
    assert made["alpha_effective"] == pytest.approx(1.3, abs=1e-6)
    low, high, merged = weights_of(Path(LOW)), weights_of(Path(HIGH)), weights_of(out)
    for name, tensor in merged.items():
        expected = (low[name] + 1.3 * (high[name] - low[name])).astype(np.float32)
        assert np.array_equal(tensor, expected)


def test_several_alphas_are_folders_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alphas = ["--alpha", "0", "--alpha", "-0.5", "--alpha", "1.375"]
    cli.main(["policies", "merge", "--low", LOW, "--high", HIGH, *alphas, "--out", str(tmp_path / "sweep")])
    assert "α = -0.5 (-0.5 after rounding)" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "sweep").iterdir())
    assert names == ["alpha_-0.50", "alpha_0.00", "alpha_1.375"]


def test_weights_combine_any_number(tmp_path: Path) -> None:
    out = tmp_path / "soup"
    weights = [f"--weight={INIT}=0.2", f"--weight={LOW}=0.3", f"--weight={HIGH}=0.5"]
    cli.main(["policies", "merge", *weights, "--out", str(out), "--quiet", "--shard-size", "200KB"])
    assert len(list(out.glob("model-*-of-*.safetensors"))) > 1
    init, low, high = (weights_of(Path(folder)) for folder in (INIT, LOW, HIGH))
    for name, tensor in weights_of(out).items():
        expected = 0.3 * (low[name] - init[name]) + 0.5 * (high[name] - init[name]) + init[name]
        assert np.array_equal(tensor, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --low, --high and --alpha, or --weight"),
        (["--low", LOW, "--high", HIGH], "give --low, --high and --alpha, or --weight"),
        (["--low", LOW, "--high", HIGH, "--alpha", "1", "--base", LOW], "give --low, --high and --alpha, or"),
        (["--low", LOW, "--high", HIGH, "--alpha", "nan"], "--alpha nan is not finite"),
        (["--low", LOW, "--high", "./nowhere", "--alpha", "1"], "there is no folder"),
        (["--low", LOW, "--high", HIGH, "--alpha", "1", "--shard-size", "5 apples"], "'5 apples' is not a size"),
        (["--weight", LOW], "is not CHECKPOINT=W"),
        (["--weight", f"{LOW}=1", "--weight", f"{LOW}=2"], "twice"),
        (["--weight", f"{LOW}=0.5", "--weight", f"{HIGH}=0.4"], "sum to 0.9"),
    ],
)
def test_wrong_input_is_told_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["policies", "merge", *options, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        cli.main(["policies", "merge", "--low", LOW, "--high", HIGH, "--alpha", "1", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "already exists: give another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("out", "message"), [("file/x", "is a file: give another folder"), ("n" * 300, "File name too long")]
)
def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, message: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        cli.main(["policies", "merge", "--low", LOW, "--high", HIGH, "--alpha", "1", "--out", str(tmp_path / out)])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
