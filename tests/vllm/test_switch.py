"""Weights switched in place are those of the merged checkpoint, and a switch that went wrong is found out."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from openai import NotFoundError, OpenAI

from alphamix.ensemble.serve.app import create_app
from alphamix.policies.engines.vllm.family import Member, VllmEngine, VllmFamily
from alphamix.policies.engines.vllm.members import PolicyFileFamily
from alphamix.policies.engines.vllm.switch import SwitchedServer
from alphamix.policies.merging.merge import combine
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError
from tests.vllm.conftest import CHAT, CHECKPOINTS, HIGH, LOW, complete, logprobs, options, requests

INIT = CHECKPOINTS / "init"
POLICIES = {
    "low": Member(LOW),
    "high": Member(LOW, ((HIGH, 1.0),)),
    "beyond": Member(LOW, ((HIGH, 1.5),)),
    "three": Member(LOW, ((HIGH, 0.75), (INIT, -0.5))),
}
SWEEP = f"""
[engine]
name = "vllm"
serve = "switch"

[policies.low]
checkpoint = "{LOW}"

[policies.high]
checkpoint = "{HIGH}"

[sweeps.coverage]
merge = {{ low = "low", high = "high" }}
alphas = [0.0, 0.5, 1.5]
"""


@pytest.fixture(scope="module")
def family() -> Iterator[VllmFamily]:
    family = VllmFamily(POLICIES, options("switch"))
    yield family
    family.close()


def sampled(family: VllmFamily, name: str) -> tuple[list[str], list[float]]:
    """Completions of a policy, and the log-probabilities of a text."""
    engine = family.open(name)
    texts = [c.text for c in complete(engine, requests(3))]
    scored = logprobs(engine)
    engine.close()
    return texts, scored


def test_a_way_there_and_back_gives_the_same_log_probabilities(family: VllmFamily) -> None:
    low, beyond, again = (sampled(family, name) for name in ("low", "beyond", "low"))
    assert again == low
    assert beyond[1] != low[1]


def test_switched_weights_score_as_a_server_of_the_merged_checkpoint(family: VllmFamily, engine: VllmEngine) -> None:
    reference = [c.text for c in complete(engine, requests(3))], logprobs(engine)
    assert sampled(family, "beyond") == reference


def test_the_workers_checksum_is_that_of_the_merged_checkpoint(
    family: VllmFamily, beyond: Path, tmp_path: Path
) -> None:
    combine({"low": LOW, "high": HIGH, "init": INIT}, {(0.75, -0.5): tmp_path / "three"})
    switched = family.shared
    assert isinstance(switched, SwitchedServer)
    for name, folder in {"high": HIGH, "beyond": beyond, "three": tmp_path / "three"}.items():
        assert switched.digest(LOW, POLICIES[name].terms) == switched.digest(folder, ()), name


def test_a_policy_waits_for_the_other_and_refuses_where_that_would_be_for_ever(family: VllmFamily) -> None:
    low, beyond = family.open("low"), family.open("beyond")
    answers = low.sample(requests(2))
    next(answers)
    with pytest.raises(PolicyError, match="waits for the server that another one has in this thread"):
        next(beyond.sample(requests(1)))
    list(answers)
    assert complete(beyond, requests(1))


def test_other_weights_under_a_known_name_are_found_out(family: VllmFamily, tmp_path: Path) -> None:
    changing = shutil.copytree(HIGH, tmp_path / "changing")
    switched = family.shared
    assert isinstance(switched, SwitchedServer)
    terms = ((changing, 0.5),)
    with switched.holding("changing", terms):
        pass
    with switched.holding("low", ()):
        pass
    shutil.copyfile(INIT / "model.safetensors", changing / "model.safetensors")
    with pytest.raises(PolicyError, match="after the switch to 'changing' the canary's log-probabilities are"):
        switched.holding("changing", terms).__enter__()
    assert sampled(family, "low")[0]


def test_a_switch_that_changes_nothing_is_found_out(family: VllmFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the weights were loaded where nothing reads them: the checksum is new and the scores are not."""
    switched = family.shared
    assert isinstance(switched, SwitchedServer)
    call = switched._call
    monkeypatch.setattr(switched, "_call", lambda _, base, terms: call("alphamix_digest", base, terms))
    with pytest.raises(PolicyError, match="after the switch to 'new' the canary scores as with other weights"):
        switched.holding("new", ((HIGH, 0.3),)).__enter__()


def test_what_cannot_be_merged_is_told_and_the_server_goes_on(family: VllmFamily, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    switched = family.shared
    assert isinstance(switched, SwitchedServer)
    with pytest.raises(PolicyError, match=r"has no model\.safetensors"):
        switched.holding("broken", ((tmp_path, 1.0),)).__enter__()
    assert sampled(family, "high")[0]


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


def test_the_served_endpoint_answers_at_any_alpha(
    family: VllmFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(client: OpenAI, model: str) -> Any:
        settings: dict[str, Any] = {"messages": CHAT, "temperature": 0.0, "max_tokens": 24}
        return client.chat.completions.create(model=model, **settings)

    (tmp_path / "policies.toml").write_text(SWEEP)
    registry = Registry.load(tmp_path / "policies.toml")
    monkeypatch.setattr(family, "_serve", "switch", raising=False)
    monkeypatch.setattr(family, "join", partial(PolicyFileFamily.join, family), raising=False)
    registry._family = family  # which runs already: another server would take half a minute
    models = ["low", "coverage@1.3"]
    with served(registry) as client:
        alone = [ask(client, model) for model in models]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda number: ask(client, models[number % 2]), range(6)))
        texts = [answer.choices[0].message.content for answer in alone]
        assert texts[0] != texts[1]
        assert [answer.choices[0].message.content for answer in together] == texts * 3
        assert alone[1].choices[0].policy == {"name": "coverage@+1.30", "alpha": 1.3}
        with pytest.raises(NotFoundError, match=r"coverage@α with α from -0\.25 to 1\.75"):
            ask(client, "coverage@2.5")
    assert family.shared is not None
    assert complete(family.open("coverage@+1.30"), requests(1, 24, 0.0))[0].text == texts[1]
