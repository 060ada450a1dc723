"""The commands for adapters: what they write, print and refuse."""

import json
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main

LADDER = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"


def test_two_extracted_adapters_merge_into_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for end in ("low", "high"):
        extract = ["policies", "extract-adapter", str(LADDER / "init"), str(LADDER / end), "--rank", "4"]
        main([*extract, "--out", str(tmp_path / end), "--json"])
        report = json.loads(capsys.readouterr().out)
        assert 0 < report["kept"] < 1
        lost = [entry["tensor"] for entry in report["tensors"] if entry["how"] == "lost"]
        assert "model.embed_tokens.weight" in lost
    merge = ["policies", "merge-adapters", str(tmp_path / "low"), str(tmp_path / "high"), "--alpha", "1.5"]
    main([*merge, "--out", str(tmp_path / "beyond")])
    assert json.loads((tmp_path / "beyond" / "adapter_config.json").read_text())["r"] == 8
    assert json.loads((tmp_path / "beyond" / "adapter.json").read_text())["alpha"] == 1.5
    with pytest.raises(SystemExit, match="2"):
        main([*merge, "--out", str(tmp_path / "beyond")])
    assert "already exists: give another folder" in capsys.readouterr().err
    main([*extract, "--out", str(tmp_path / "table")])
    assert "% kept" in capsys.readouterr().out
