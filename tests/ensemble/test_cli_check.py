"""`alphamix policies check`: table, JSON, exit codes, interruption. What is checked: tests/policies/test_check.py."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main

LADDER = Path(__file__).parents[2] / "examples" / "ladder" / "policies.toml"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[int], Path]:
    """Write a policies file with `here`, a checkpoint, and `far`, a URL at a port of this machine."""

    def write(port: int) -> Path:
        path = tmp_path / "policies.toml"
        path.write_text(
            f"[policies.here]\ncheckpoint = {str(LADDER.parent / 'checkpoints' / 'high')!r}\n"
            f"[policies.far]\nurl = 'http://127.0.0.1:{port}/v1'\nmodel = 'm'\n"
        )
        return path

    return write


def test_faults_are_told_and_exit_with_one(
    write: Callable[[int], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="1"):
        main(["policies", "check", str(write(1)), "--prompt", "[bold]Q[/bold]", "--max-tokens", "8"])
    lines = capsys.readouterr().out.splitlines()
    header, here, far = (next(line.split() for line in lines if word in line) for word in ("policy", "here", "far"))
    assert header == [
        "policy",
        "reach",
        "n",
        "text",
        "distinct",
        "seeds",
        "usage",
        "finish",
        "chat",
        "context",
        "fingerprint",
    ]
    assert here[1:-1] == ["✓", "✓", "!", *["✓"] * 5, "512"]  # one answer is empty
    assert far[1:] == ["✗"] + ["–"] * 9
    assert any(line.startswith("✗ far, reachable: http://127.0.0.1:1/v1: ") for line in lines)
    assert "[bold]Q[/bold]" in lines[-1]


def test_json_has_every_check_of_every_policy(write: Callable[[int], Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["policies", "check", str(write(1)), "--json", "--samples", "3"]
    with pytest.raises(SystemExit, match="1"):
        main(arguments)
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["question"] == {"prompt": report["question"]["prompt"], "chat": True, "samples": 3, "max_tokens": 64}
    assert {name: checks["reachable"]["state"] for name, checks in report["policies"].items()} == {
        "here": "ok",
        "far": "failure",
    }
    with pytest.raises(SystemExit, match="0"):
        main([*arguments, "--policy", "here"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["policies"]["here"]["context"] == {"state": "ok", "message": "512 tokens", "value": 512}
    assert list(report["policies"]) == ["here"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--policy", "fra"], "did you mean 'far'?"),
        (["--samples", "1"], "--samples"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_wrong_arguments_are_told(
    write: Callable[[int], Path], arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["policies", "check", str(write(1)), *arguments])
    assert told in capsys.readouterr().err


def test_an_interrupt_ends_a_check(write: Callable[[int], Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = write(silent.getsockname()[1])
        process = subprocess.Popen(
            [sys.executable, "-m", "alphamix", "policies", "check", path, "--policy", "far", "--timeout", "600"],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)  # a request is in flight
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in error
