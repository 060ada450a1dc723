"""Any α on request: names, bounds, room and turns with fake engines, and one real family of checkpoints."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.routing.alpha_on_request import AlphaLimits, AlphaPolicyCache
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.policy_file.recipes import alpha_suffix
from alphamix.policies.registry import Registry
from alphamix.policies.types import Completion, Delta, Engine, Request, SamplingParameters

from .conftest import FakeRegistry, ScriptEngine

Start = Callable[..., OpenAI]

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
LADDER = Path(__file__).parents[3] / "examples" / "ladder"


class Line:
    """One server that is switched between policies: two at once are an error, switches are counted."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holder: str | None = None
        self.users = 0
        self.switches = 0
        self.faults: list[str] = []

    def enter(self, name: str) -> None:
        with self.lock:
            if self.users and name != self.holder:
                self.faults.append(f"{name} beside {self.holder}")
            self.switches += name != self.holder
            self.holder = name
            self.users += 1

    def leave(self) -> None:
        with self.lock:
            self.users -= 1


class LineEngine(ScriptEngine):
    """Says its own name."""

    def __init__(self, name: str, line: Line, hold: threading.Event | None = None) -> None:
        super().__init__(lambda _: [name])
        self._name = name
        self._line = line
        self._hold = hold

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        *deltas, last = super().stream(requests)
        self._line.enter(self._name)
        try:
            if self._hold is not None:
                assert self._hold.wait(60)
            yield from deltas
        finally:
            self._line.leave()
        yield last  # the outcome: once it is known, the server may be switched to another policy


@dataclass
class Sweeping(FakeRegistry):
    """`coverage` has members at any α; `fixed` has those that are listed."""

    line: Line = field(default_factory=Line)
    makes: bool = False
    hold: threading.Event | None = None
    made: dict[str, LineEngine] = field(default_factory=dict)

    @property
    def open_sweeps(self) -> Mapping[str, tuple[float, ...]]:
        return {"coverage": (-0.5, 0.5, 1.5)}

    def at(self, sweep: str, alpha: float) -> str:
        return f"{sweep}@{alpha_suffix(alpha)}"

    def is_made(self, name: str) -> bool:
        return self.makes

    def open(self, name: str, options: EngineOptions) -> Engine:
        self.opened.append(name)
        if name not in self.engines:
            self.made[name] = LineEngine(name, self.line, self.hold)
            return self.made[name]
        return self.engines[name]


@pytest.fixture
def sweeping() -> Sweeping:
    line = Line()
    names = ["low", "coverage@-0.50", "coverage@+0.50", "coverage@+1.50", "fixed@+0.50"]
    engines: dict[str, Engine] = {name: LineEngine(name, line) for name in names}
    return Sweeping(engines, {"both": {"low": 1, "coverage@+0.50": 1}}, {"coverage@+0.50": 0.5}, line=line)


def ask(client: OpenAI, model: str, **more: Any) -> Any:
    return client.chat.completions.create(model=model, **ASK, **more)


@pytest.mark.parametrize("name", ["coverage@1.3", "coverage@1.30", "coverage@+1.30", "coverage@+1.300000"])
def test_a_policy_has_one_name(sweeping: Sweeping, client_of: Start, name: str) -> None:
    client = client_of(sweeping)
    answers = [ask(client, name), ask(client, "coverage@+1.30")]
    for answer in answers:
        assert answer.model == "coverage@+1.30"
        assert answer.choices[0].message.content == "coverage@+1.30"
        assert answer.choices[0].policy == {"name": "coverage@+1.30", "alpha": 1.3}
    assert sweeping.opened == ["coverage@+1.30"]


def test_a_listed_member_goes_by_its_other_names_too(sweeping: Sweeping, client_of: Start) -> None:
    client = client_of(sweeping)
    assert ask(client, "coverage@0.5").model == "coverage@+0.50"
    assert ask(client, "fixed@0.5").model == "fixed@+0.50"
    assert sweeping.made == {}


def test_it_streams_and_is_the_best_of_its_own(sweeping: Sweeping, client_of: Start) -> None:
    client = client_of(sweeping)
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(client, "coverage@1.1", stream=True)]
    assert "".join(pieces) == "coverage@+1.10"
    wanted = {"budget": 2, "select": "majority", "tests": [{"input": ""}]}
    best = ask(client, "coverage@1.1", extra_body={"ensemble": wanted})
    assert best.ensemble["winners"][0]["policy"] == {"name": "coverage@+1.10", "alpha": 1.1}


@pytest.mark.parametrize(
    "name",
    [
        *("coverage@1.76", "coverage@-0.76", "coverage@1.305", "coverage@", "coverage@x", "coverage", "coverage@1e0"),
        *("fixed@0.7", "nothing@1.0", "low@1.0", "coverage@nan", "coverage@+1.30@+1.30", "coverage@٣", "@1.0"),
    ],
)
def test_what_is_not_served_lists_what_is(sweeping: Sweeping, client_of: Start, name: str) -> None:
    with pytest.raises(openai.NotFoundError, match=r"coverage@α with α from -0\.75 to 1\.75 in steps of 0\.01") as told:
        ask(client_of(sweeping), name)
    assert (told.value.code, told.value.param) == ("model_not_found", "model")
    assert "fixed@+0.50, both" in told.value.message
    assert sweeping.opened == []


def test_none_are_made_where_none_may_be(sweeping: Sweeping, client_of: Start, fake_registry: Any) -> None:
    closed = ServeOptions(alphas=AlphaLimits(held=0))
    for client in (client_of(sweeping, closed), client_of(fake_registry(sweeping.engines))):
        with pytest.raises(openai.NotFoundError):
            ask(client, "coverage@1.3")


def test_models_can_be_looked_up_and_listed(sweeping: Sweeping, client_of: Start) -> None:
    client = client_of(sweeping)
    shown: Any = client.models.retrieve("coverage@1.3")
    assert (shown.id, shown.alpha) == ("coverage@+1.30", 1.3)
    assert sweeping.opened == []
    ask(client, "coverage@1.3")
    assert [model.id for model in client.models.list()] == [*sweeping.names, "both"]


def test_the_least_recently_asked_goes(sweeping: Sweeping, client_of: Start) -> None:
    client = client_of(sweeping, ServeOptions(alphas=AlphaLimits(held=2)))
    for alpha in ("1.1", "1.2", "1.1", "1.3"):
        ask(client, f"coverage@{alpha}")
    assert sweeping.opened == ["coverage@+1.10", "coverage@+1.20", "coverage@+1.30"]
    metrics = httpx.get(str(client.base_url).replace("/v1/", "/metrics")).text
    assert 'alphamix_policy_in_flight{policy="coverage@+1.20"}' not in metrics
    assert 'alphamix_policy_in_flight{policy="coverage@+1.10"} 0.0' in metrics
    ask(client, "coverage@1.2")
    assert sweeping.opened[3:] == ["coverage@+1.20"]


def test_what_is_made_is_closed(sweeping: Sweeping, client_of: Start, serving: Any) -> None:
    client = client_of(sweeping, ServeOptions(alphas=AlphaLimits(held=1)))
    ask(client, "coverage@1.1")
    first = sweeping.made["coverage@+1.10"]
    ask(client, "coverage@1.2")
    ask(client, "coverage@1.1")
    assert first.closed == 1


def test_there_is_room_for_some_at_once(sweeping: Sweeping, client_of: Start) -> None:
    sweeping.hold = threading.Event()
    client = client_of(sweeping, ServeOptions(alphas=AlphaLimits(held=1)))
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(ask, client, "coverage@1.1")
        while not sweeping.line.users:
            assert not under_way.done()
        with pytest.raises(openai.RateLimitError, match=r"ask for one of coverage@\+1.10, or try again later"):
            ask(client, "coverage@1.2")
        sweeping.hold.set()
        assert under_way.result().model == "coverage@+1.10"


def test_so_many_checkpoints_are_made_and_no_more(sweeping: Sweeping, client_of: Start) -> None:
    sweeping.makes = True
    client = client_of(sweeping, ServeOptions(alphas=AlphaLimits(held=1, made=2)))
    for alpha in ("1.1", "1.2", "1.1"):
        ask(client, f"coverage@{alpha}")
    with pytest.raises(openai.RateLimitError, match="2 checkpoints have been built"):
        ask(client, "coverage@1.3")


def test_what_is_refused_for_want_of_room_counts_as_no_checkpoint(sweeping: Sweeping, client_of: Start) -> None:
    sweeping.makes, sweeping.hold = True, threading.Event()
    client = client_of(sweeping, ServeOptions(alphas=AlphaLimits(held=1, made=2)))
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(ask, client, "coverage@1.1")
        while not sweeping.line.users:
            assert not under_way.done()
        for alpha in ("1.2", "1.3"):
            with pytest.raises(openai.RateLimitError, match="1 others are in use"):
                ask(client, f"coverage@{alpha}")
        sweeping.hold.set()
        assert under_way.result().model == "coverage@+1.10"
    assert ask(client, "coverage@1.4").model == "coverage@+1.40"


def test_the_very_ends_are_served(sweeping: Sweeping) -> None:
    class Wide(Sweeping):
        @property
        def open_sweeps(self) -> Mapping[str, tuple[float, ...]]:
            return {"coverage": (-0.42, 0.42)}

    wide = Wide(sweeping.engines)
    alphas = AlphaPolicyCache(wide, {}, {}, lambda origin: pytest.fail(f"{origin} is opened"), AlphaLimits())
    for end in ("-0.67", "0.67"):
        _, origin = alphas.find(f"coverage@{end}")
        assert origin is not None
        assert origin.alpha == float(end)


def test_requests_for_one_alpha_go_together(sweeping: Sweeping, client_of: Start) -> None:
    """Each client asks for another α every time; one after the other that would be a switch per request."""
    sweeping.is_switched = True
    client = client_of(sweeping)
    models = ["coverage@+0.50", "coverage@1.1", "coverage@1.2", "coverage@1.3"]

    def work(number: int) -> list[str]:
        return [ask(client, models[(number + step * (number % 3 + 1)) % 4]).model for step in range(12)]

    with ThreadPoolExecutor(16) as pool:
        answered = [model for models in pool.map(work, range(16)) for model in models]
    assert len(answered) == 192
    assert sweeping.line.faults == []
    assert sweeping.line.switches < len(answered) / 2


def test_an_ensemble_over_one_switched_server_takes_turns(sweeping: Sweeping, client_of: Start) -> None:
    sweeping.is_switched = True
    client = client_of(sweeping)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(client, "both", n=4), range(24)))
        streams = list(pool.map(lambda _: list(ask(client, "both", n=4, stream=True)), range(8)))
    assert {choice.policy["name"] for answer in answers for choice in answer.choices} == {"low", "coverage@+0.50"}
    assert all(len({chunk.choices[0].index for chunk in stream}) == 4 for stream in streams)
    assert sweeping.line.faults == []


def test_real_checkpoints_at_an_alpha_that_is_not_listed(
    client_of: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="embedded policies need alphamix[local]")
    if not (LADDER / "checkpoints" / "high").is_dir():
        pytest.skip("the ladder's checkpoints are not here: make them with examples/ladder/train.py")
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path))
    registry = Registry.load(LADDER / "policies.toml")
    client = client_of(registry, ServeOptions(alphas=AlphaLimits(made=1)))
    settings: dict[str, Any] = {"max_tokens": 24, "seed": 1, "temperature": 0.0}
    answer = ask(client, "coverage@1.3", **settings)
    assert answer.choices[0].policy == {"name": "coverage@+1.30", "alpha": 1.3}
    engine = registry.open(registry.at("coverage", 1.3), EngineOptions())
    prompt: Any = ASK["messages"]
    (reply,) = engine.sample([Request(prompt, 1, SamplingParameters(0.0, max_tokens=24))])
    assert isinstance(reply.outcome, Completion)
    assert answer.choices[0].message.content == reply.outcome.text
    engine.close()
    with pytest.raises(openai.RateLimitError):
        ask(client, "coverage@1.31", **settings)
