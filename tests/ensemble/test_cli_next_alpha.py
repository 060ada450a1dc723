"""`alphamix next-alpha`: a proposal, a refusal to go on, and one line for what does not hold."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from alphamix.ensemble.cli import main


def write(path: Path, alphas: list[float], peak: float, names: list[str] | None = None) -> Path:
    """Problems whose logits lie on one curve with the given peak, 20 samples each."""
    rng = np.random.default_rng(0)
    level_P = rng.normal(-3, 1.2, 80)
    names = names or [f"coverage@{alpha:+.2f}" for alpha in alphas]
    rows = [
        (f"p{p}", name, 20, rng.binomial(20, expit(level + peak * np.exp(-(((alpha - 1.5) / 0.7) ** 2)))))
        for alpha, name in zip(alphas, names, strict=True)
        for p, level in enumerate(level_P)
    ]
    pd.DataFrame(rows, columns=["problem", "policy", "n", "c"]).to_csv(path, index=False)
    return path


ALPHAS = [-0.5, 0.0, 0.5, 1.0, 2.0, 2.5]


def test_the_peak_between_is_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(write(tmp_path / "o.csv", ALPHAS, peak=4.0))
    main(["next-alpha", "--outcomes", table, "--budget", "8", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert 1 < report["next"] < 2
    assert report["verdict"] == "make"
    assert report["alphas"]["coverage@-0.50"] == -0.5
    first = report["candidates"][0]
    assert first["share"] + sum(first["allocation"].values()) == 8
    assert sum(report["without"]["allocation"].values()) == 8
    main(["next-alpha", "--outcomes", table, "--budget", "8"])
    assert f"Make α = {report['next']:g} next" in capsys.readouterr().out


def test_flat_policies_need_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(write(tmp_path / "o.csv", ALPHAS, peak=0.0))
    main(["next-alpha", "--outcomes", table, "--budget", "8", "--min-gain", "0.01"])
    assert "More α would not pay" in capsys.readouterr().out


def test_alphas_come_from_a_file_of_policies_and_from_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["low", "half", "high", "far"]
    table = str(write(tmp_path / "o.csv", [0.0, 0.5, 1.0, 2.0], 4.0, names))
    policies = tmp_path / "policies.toml"
    policies.write_text(
        '[policies.low]\ncheckpoint = "low"\n[policies.high]\ncheckpoint = "high"\n'
        '[policies.half]\nmerge = { low = "low", high = "high", alpha = 0.5 }\n'
    )
    given = ["--policies", str(policies), "--alpha", "far=2", "--from", "1.1", "--to", "1.9"]
    main(["next-alpha", "--outcomes", table, "--budget", "6", "--json", *given])
    report = json.loads(capsys.readouterr().out)
    assert report["alphas"] == {"low": 0.0, "half": 0.5, "high": 1.0, "far": 2.0}
    assert all(1.1 <= one["alpha"] <= 1.9 for one in report["candidates"])


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (["a", "b", "c"], [], "with a known α, and there are 0"),
        (["s@+0.00", "t@+1.00", "t@+2.00"], [], "choose one with --sweep"),
        (["s@+0.00", "s@+1.00", "s@+2.00"], ["--sweep", "t"], "unknown sweep 't'"),
        (["s@+0.00", "s@+1.00", "s@+2.00"], ["--alpha", "s"], "NAME=VALUE"),
        (["s@+0.00", "s@+1.00", "s@+2.00"], ["--alpha", "s@+0.00=inf"], "NAME=VALUE"),
        (["s@+0.00", "s@+1.00", "s@+2.00"], ["--budget", "0"], "--budget"),
        (["s@+0.00", "s@+1.00", "s@+2.00"], ["--min-gain", "nan"], "--min-gain"),
        (["s@+0.00", "s@+1.00", "s@+2.00"], ["--to", "inf"], "--to"),
        (["s@+0.00", "s@+1.00", "s@+2.00"], ["--from", "50", "--to", "60"], "half as far beyond"),
    ],
)
def test_what_does_not_hold_is_one_line(
    names: list[str], more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(write(tmp_path / "o.csv", [0.0, 1.0, 2.0], 1.0, names))
    with pytest.raises(SystemExit, match="2"):
        main(["next-alpha", "--outcomes", table, "--budget", "4", *more])
    assert message in capsys.readouterr().err.splitlines()[-1]
