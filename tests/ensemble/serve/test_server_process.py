"""`serve`, as the command calls it: a process of its own, with a policy behind a URL (no torch needed)."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from alphamix.ensemble.serve.server import serve
from alphamix.policies.types import PolicyError

POLICIES = """
[policies.far]
url = "{url}"
model = "near"
"""
START = "import sys, pathlib, alphamix.ensemble.serve.server as server; server.serve(pathlib.Path(sys.argv[1]), port=0)"


def test_a_policy_behind_a_url_is_served_until_interrupted(
    fake_registry: Any, script_engine: Any, serving: Any, tmp_path: Path
) -> None:
    engine = script_engine(lambda request: ["from ", "far ", str(request.seed)])
    file = tmp_path / "policies.toml"
    file.write_text(POLICIES.format(url=serving(fake_registry({"near": engine}))))
    command = [sys.executable, "-c", START, str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
        assert server.stderr is not None
        try:
            address = next(
                found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)) is not None
            )
            with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
                ask: dict[str, Any] = {"model": "far", "messages": [{"role": "user", "content": "hi"}]}
                whole = client.chat.completions.create(seed=4, n=2, **ask)
                streamed = client.chat.completions.create(seed=4, stream=True, **ask)
                assert whole.choices[0].message.content == "from far 4"
                assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "from far 4"
        finally:
            server.send_signal(signal.SIGINT)
            server.stderr.read()
        assert server.wait(timeout=60) == 0


def test_a_file_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="nowhere"):
        serve(tmp_path / "nowhere.toml")
