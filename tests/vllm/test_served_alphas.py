"""Any α on request, through the served endpoint, on one real vLLM server whose weights are switched in place."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from openai import NotFoundError, OpenAI

from ensemble.serve.app import create_app
from policies.registry import Registry
from tests.vllm.conftest import CHAT, HIGH, LOW

POLICIES = f"""
[engine]
name = "vllm"
serve = "switch"
arguments = ["--enforce-eager", "--max-num-batched-tokens", "4096"]

[policies.low]
checkpoint = "{LOW}"

[policies.high]
checkpoint = "{HIGH}"

[sweeps.coverage]
merge = {{ low = "low", high = "high" }}
alphas = [0.0, 0.5, 1.5]
"""


@contextmanager
def served(registry: Registry) -> Iterator[OpenAI]:
    with socket.socket(proto=socket.IPPROTO_TCP) as door:
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(registry), log_level="error"))
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            url = f"http://127.0.0.1:{door.getsockname()[1]}/v1"
            with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(120)


def ask(client: OpenAI, model: str) -> Any:
    return client.chat.completions.create(
        model=model,
        messages=CHAT,  # pyright: ignore[reportArgumentType]
        temperature=0.0,
        max_tokens=48,
        seed=1,
    )


def test_a_switched_server_answers_at_any_alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "policies.toml"
    file.write_text(POLICIES)
    models = ["low", "coverage@+0.50", "coverage@1.3", "coverage@-0.1"]
    with Registry.load(file) as registry, served(registry) as client:
        alone = {model: ask(client, model) for model in models}
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda number: ask(client, models[number % 4]), range(16)))
        texts = {model: answer.choices[0].message.content for model, answer in alone.items()}
        assert [answer.choices[0].message.content for answer in together] == [texts[models[n % 4]] for n in range(16)]
        assert len(set(texts.values())) > 1
        assert alone["coverage@1.3"].choices[0].policy == {"name": "coverage@+1.30", "alpha": 1.3}
        with pytest.raises(NotFoundError, match=r"coverage@α with α from -0\.25 to 1\.75"):
            ask(client, "coverage@2.5")
        assert not (tmp_path / "cache" / "merges").exists()
