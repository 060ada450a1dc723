"""Who is answered: keys with models, budgets and rates, and without keys only what comes from this machine."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from alphamix.ensemble.serve.accounts import AccountBook, ClientKey, KeyAccount, tokens_by_key
from alphamix.ensemble.serve.app import Gateway, ServeOptions
from alphamix.ensemble.serve.protocol.api_errors import ApiError

from .conftest import FakeRegistry, ScriptEngine, logged, running

ASK = {"model": "low", "messages": [{"role": "user", "content": "hi"}]}
WAIT_S = 60
PAGE = "https://chat.example.org"

Ask = Callable[..., httpx.Response]


def registry() -> FakeRegistry:
    engines: dict[str, Any] = {name: ScriptEngine(lambda _: ["a ", "b ", "c"]) for name in ("low", "high")}
    return FakeRegistry(engines, mixtures={"both": {"low": 1, "high": 1}})


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Ask a server that has no keys."""
    with ExitStack() as stack:
        url = stack.enter_context(running(registry(), ServeOptions(hosts=("gpu-box",))))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=WAIT_S))
        yield lambda method="POST", path="/chat/completions", **headers: client.request(
            method, path, json=ASK if method == "POST" else None, headers=headers
        )


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "10.1.2.3:8000", "gpu-box", "GPU-Box"])
def test_our_own_names_are_answered(ask: Ask, host: str) -> None:
    assert ask(host=host).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "[", "a@localhost/b"])
def test_other_names_are_not_answered_without_a_key(ask: Ask, host: str) -> None:
    answer = ask(host=host)
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")
    assert ask("GET", "/models", host=host).status_code == 421


@pytest.mark.parametrize("origin", [PAGE, "null", "http://localhost:3000", "file://"])
def test_a_foreign_page_cannot_post_without_a_key(ask: Ask, origin: str) -> None:
    answer = ask(origin=origin, **{"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "unknown_origin")


def test_a_page_of_ours_may_post(ask: Ask) -> None:
    assert ask(origin="http://localhost:8000", host="localhost:8000").status_code == 200


def test_head_and_options(ask: Ask) -> None:
    got, head = ask("GET", "/models"), ask("HEAD", "/models")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    options = ask("OPTIONS")
    assert (options.status_code, options.headers["allow"]) == (204, "POST, OPTIONS")
    assert ask("HEAD").status_code == 405


@pytest.mark.parametrize("path", ["/embeddings", "/audio/speech", "/x"])
def test_an_unknown_endpoint_lists_the_known_ones(ask: Ask, path: str) -> None:
    answer = ask(path=path)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "unknown_endpoint")
    assert "/v1/chat/completions" in error["message"]


def test_a_page_that_is_named_may_use_the_server(serving: Any) -> None:
    url = serving(registry(), ServeOptions(keys=(ClientKey("k", "secret"),), origins=(PAGE,)))
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = httpx.options(f"{url}/chat/completions", headers=asked, timeout=WAIT_S)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
    for headers, status in (({}, 401), ({"authorization": "Bearer secret"}, 200)):
        answer = httpx.post(f"{url}/chat/completions", json=ASK, headers={"origin": PAGE, **headers}, timeout=WAIT_S)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
    other = httpx.options(f"{url}/chat/completions", headers={**asked, "origin": "https://evil"}, timeout=WAIT_S)
    assert "access-control-allow-origin" not in other.headers


def test_a_key_allows_its_models_its_tokens_and_its_rate(serving: Any) -> None:
    keys = (
        ClientKey("models", "m", models=frozenset({"low"})),
        ClientKey("tokens", "t", tokens=26),
        ClientKey("rate", "r", requests_per_minute=2),
    )
    url = serving(registry(), ServeOptions(keys=keys))

    def post(key: str, **changes: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}"}
        answer = httpx.post(f"{url}/chat/completions", json={**ASK, **changes}, headers=headers, timeout=WAIT_S)
        return answer.status_code, answer.json().get("error", {}).get("code")

    assert [post("m"), post("m", model="both")] == [(200, None), (403, "model_not_allowed")]
    # An answer takes 10 + 3 tokens.
    assert [post("t") for _ in range(3)] == [(200, None), (200, None), (429, "insufficient_quota")]
    assert [post("r") for _ in range(3)] == [(200, None), (200, None), (429, "rate_limit")]
    metrics = httpx.get(url.replace("/v1", "/metrics"), headers={"authorization": "Bearer m"}, timeout=WAIT_S).text
    assert 'alphamix_tokens_total{key="tokens",kind="prompt",policy="low"} 20.0' in metrics
    assert 'alphamix_tokens_total{key="rate",kind="completion",policy="low"} 6.0' in metrics


def test_a_rate_fills_up_evenly() -> None:
    now = [0.0]
    account = KeyAccount(ClientKey("k", "s", requests_per_minute=6), lambda: now[0])
    admitted, waits = 0, list[float | None]()
    for second in range(600):
        now[0] = second
        for _ in range(3):
            try:
                account.admit("low")
                admitted += 1
            except ApiError as error:
                waits.append(error.retry_after_s)
    assert admitted == 6 + 59
    assert all(wait is not None and 0 < wait <= 10 for wait in waits)


def test_an_account_outlives_changes_of_its_key() -> None:
    book = AccountBook({"ann": 5, "bob": 7})
    ann = book.open(ClientKey("ann", "s", tokens=20, requests_per_minute=2))
    ann.admit("low")
    ann.admit("low")
    assert book.open(ClientKey("ann", "new", tokens=9, requests_per_minute=2)) is ann
    with pytest.raises(ApiError, match="2 requests a minute"):
        ann.admit("low")
    book.open(ClientKey("ann", "new", tokens=9, requests_per_minute=3)).admit("low")
    ann.tokens += 4  # of a request that began before the change
    with pytest.raises(ApiError, match="has spent its 9 tokens"):
        ann.admit("low")
    assert book.open(ClientKey("bob", "b")).tokens == 7
    options = ServeOptions(keys=(ClientKey("ann", "s"),))
    before = Gateway(registry(), options)
    assert Gateway(registry(), options, before).accounts == before.accounts


def test_each_request_has_an_id_and_a_line(serving: Any, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    options = ServeOptions(keys=(ClientKey("ann", "a"), ClientKey("bob", "b")), request_log=log)
    url = serving(registry(), options)

    def post(key: str, **changes: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", **changes.pop("headers", {})}
        return httpx.post(f"{url}/chat/completions", json={**ASK, **changes}, headers=headers, timeout=WAIT_S)

    answers = [
        post("a", model="both", n=4, headers={"x-request-id": "mine"}),
        post("b", stream=True),
        post("b", model="hihg"),
        post("a", headers={"x-request-id": "x" * 200}),
        post("b", n="two"),
    ]
    records = logged(log, 5)
    assert [answer.headers["x-request-id"] for answer in answers] == [record["id"] for record in records]
    assert records[0]["id"] == "mine"
    assert len({record["id"] for record in records}) == 5
    first, streamed, unknown, _, refused = records
    assert (first["key"], first["model"], first["n"], first["status"]) == ("ann", "both", 4, 200)
    assert first["policies"].keys() == {"low", "high"}
    share = first["policies"]["low"]
    assert (share["calls"], share["choices"], share["prompt_tokens"], share["completion_tokens"]) == (1, 2, 10, 6)
    assert (share["tokens"], share["estimated_tokens"]) == (16, 0)
    assert streamed["policies"]["low"]["completion_tokens"] == 3  # though the client did not ask for it
    assert b'"usage":{' not in answers[1].content
    assert 0 < streamed["first_token_s"] <= streamed["seconds"]
    assert (unknown["model"], unknown["status"], unknown["error"]) == (None, 404, "model_not_found")
    assert (refused["key"], refused["status"], refused["error"]) == ("bob", 400, "invalid_request_error")
    assert tokens_by_key(records) == {"ann": 32 + 13, "bob": 13}


def test_refusals_and_pages_have_an_id_too(serving: Any) -> None:
    root = serving(registry(), ServeOptions(keys=(ClientKey("ann", "a"),), origins=(PAGE,))).removesuffix("/v1")
    key = {"authorization": "Bearer a", "x-request-id": "mine"}
    preflight = {"origin": PAGE, "access-control-request-method": "POST", "x-request-id": "mine"}
    answers = [
        httpx.get(f"{root}/v1/models", headers={"x-request-id": "mine"}, timeout=WAIT_S),
        httpx.get(f"{root}/v1/embeddings", headers=key, timeout=WAIT_S),
        httpx.get(f"{root}/v1/responses", headers=key, timeout=WAIT_S),
        httpx.get(f"{root}/v1/models", headers=key, timeout=WAIT_S),
        httpx.options(f"{root}/v1/models", headers=preflight, timeout=WAIT_S),
    ]
    assert [answer.status_code for answer in answers] == [401, 404, 405, 200, 200]
    assert [answer.headers.get_list("x-request-id") for answer in answers] == [["mine"]] * 5


def test_spending_is_read_back_from_the_log(serving: Any, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    share = {"calls": 1, "choices": 1, "prompt_tokens": 20, "completion_tokens": None, "tokens": 20, "seconds": 1}
    log.write_text(json.dumps({"key": "ann", "policies": {"low": share}}) + '\n{"key": "an')
    url = serving(registry(), ServeOptions(keys=(ClientKey("ann", "a", tokens=20),), request_log=log))
    answer = httpx.post(f"{url}/chat/completions", json=ASK, headers={"authorization": "Bearer a"}, timeout=WAIT_S)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")


def test_the_page_tells_people_what_is_served_and_spent(serving: Any) -> None:
    keys = (ClientKey("<ann>", "a", tokens=1000), ClientKey("bob", "b", models=frozenset({"low"})))
    url = serving(registry(), ServeOptions(keys=keys))
    root = url.removesuffix("v1")
    httpx.post(f"{url}/chat/completions", json=ASK, headers={"authorization": "Bearer a"}, timeout=WAIT_S)
    refused = httpx.get(root, timeout=WAIT_S)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Basic realm="alphamix"')
    assert httpx.get(root, auth=("any", "wrong"), timeout=WAIT_S).status_code == 401
    page = httpx.get(root, auth=("any", "a"), timeout=WAIT_S)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<td>low</td><td></td><td>in service</td><td>0</td><td>1</td><td>0</td><td>10</td><td>3</td>" in page.text
    assert "<td>both</td><td>low 50%, high 50%</td>" in page.text
    assert "<td>&lt;ann&gt;</td><td>all</td><td>1</td><td>13</td><td>1,000</td><td>any</td>" in page.text
    assert httpx.get(f"{url}/models", auth=("any", "a"), timeout=WAIT_S).status_code == 401
