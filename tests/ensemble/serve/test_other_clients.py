"""Clients that nobody here wrote, where they are installed: what docs/serving.md says of them is run here."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from alphamix.policies.registry import Registry

from .conftest import running
from .upstreams import FakeUpstream

ASK: list[Any] = [{"role": "user", "content": "hi"}]

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
