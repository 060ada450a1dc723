"""Clients that nobody here wrote, where they are installed: what docs/serving.md says of them is run here.

Libraries are looked for in this environment. Programs are looked for on the PATH, so that they may be installed in
environments of their own: `PATH=~/lm-eval/bin:$PATH python -m pytest tests/ensemble/serve/test_other_clients.py`.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from alphamix.policies.registry import Registry

from .conftest import running
from .upstreams import FakeUpstream

ASK: list[Any] = [{"role": "user", "content": "hi"}]
HERE = Path(__file__).parent

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ExitStack() as stack:
        fakes = [stack.enter_context(FakeUpstream(name)) for name in ("low", "high")]
        file = tmp_path_factory.mktemp("clients") / "policies.toml"
        lines = [f'[policies.{fake.name}]\nurl = "{fake.url}"\nmodel = "m"\n' for fake in fakes]
        file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 1 }"]))
        yield stack.enter_context(running(Registry.load(file)))


def test_litellm(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    how: dict[str, Any] = {"api_base": url, "api_key": "none"}
    whole = litellm.completion(model="openai/both", messages=ASK, n=2, **how)
    assert [choice.message.content for choice in whole.choices] == ["low 0", "high 0"]
    assert whole.usage.total_tokens == 26
    stream = litellm.completion(model="openai/low", messages=ASK, stream=True, **how)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "low goes on"
    assert litellm.responses(model="openai/low", input="hi", **how).output[0].content[0].text == "low 0"
    assert litellm.text_completion(model="text-completion-openai/low", prompt="hi", **how).choices[0].text == "low 0"


@pytest.mark.parametrize("more", [{}, {"use_responses_api": True}], ids=["chat", "responses"])
def test_langchain(url: str, more: dict[str, Any]) -> None:
    langchain_openai = pytest.importorskip("langchain_openai")
    chat = langchain_openai.ChatOpenAI(model="low", base_url=url, api_key="none", **more)
    answer = chat.invoke("hi")
    assert "low 0" in str(answer.content)
    assert answer.usage_metadata["total_tokens"] == 13
    assert all(word in "".join(str(chunk.content) for chunk in chat.stream("hi")) for word in ("low", " goes", " on"))
    assert "low 0" in str(chat.invoke([("user", "hi"), answer, ("user", "again")]).content)


def run(command: Sequence[str], folder: Path, **environment: str) -> str:
    """Run a client; what it downloads by itself is nothing that a test may need."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **offline, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


@pytest.mark.parametrize("how", [[], ["-M", "stream=true"], ["-M", "responses_api=true"]], ids=["", "stream", "resp"])
def test_inspect(url: str, how: list[str], which: Callable[[str], str], tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.py"
    tasks.write_text((HERE / "inspect_tasks.py").read_text())
    command = [which("inspect"), "eval", tasks.name, "--model", "openai-api/alphamix/both", "--log-format", "json"]
    command += ["--display", "plain", "--epochs", "4", "--log-dir", "logs", *how]
    run(command, tmp_path, ALPHAMIX_BASE_URL=url, ALPHAMIX_API_KEY="none")
    logs = [json.loads(log.read_text()) for log in (tmp_path / "logs").glob("*.json")]
    told = {log["eval"]["task"]: log for log in logs}
    assert {log["status"] for log in logs} == {"success"}
    assert {sample["output"]["completion"].split()[0] for sample in told["says"]["samples"]} == {"low", "high"}
    assert {"tool", "assistant"} <= {message["role"] for message in told["calls"]["samples"][0]["messages"]}


@pytest.mark.parametrize("kind", ["local-completions", "local-chat-completions"])
def test_lm_eval(url: str, kind: str, which: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text('{"question": "hi"}\n{"question": "ho"}\n')
    task = {
        "task": "says",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "questions.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "low 0",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16, "do_sample": True, "temperature": 0.7},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "says.yaml").write_text(json.dumps(task))  # JSON is YAML
    path, template = ("chat/completions", ["--apply_chat_template"]) if "chat" in kind else ("completions", [])
    model = f"model=both,base_url={url}/{path},num_concurrent=2,tokenizer_backend=None,tokenized_requests=False"
    command = [which("lm_eval"), "run", "--model", kind, "--model_args", model, "--tasks", "says", *template]
    command += ["--include_path", str(tmp_path), "--output_path", "results", "--log_samples"]
    run(command, tmp_path, OPENAI_API_KEY="none")
    (samples,) = (tmp_path / "results").rglob("samples_says_*.jsonl")
    said = [json.loads(line)["resps"][0][0] for line in samples.read_text().splitlines()]
    assert len(said) == 2
    assert set(said) <= {"low 0", "high 0"}
