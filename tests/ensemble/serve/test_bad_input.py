"""Whatever a client sends, it gets the choices that it asked for, or 4xx with an OpenAI error object."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphamix.ensemble.serve.accounts import ClientKey
from alphamix.ensemble.serve.app import RequestLimits, ServeOptions
from alphamix.ensemble.serve.protocol.request_schema import CHANGES_NOTHING

from .conftest import FakeRegistry, ScriptEngine, running

WAIT_S = 60
LIMITS = RequestLimits(choices=8, body_bytes=4000)
KEY = "sk-right"
ROUTES = ("chat/completions", "completions")
TEXTS = st.text(st.characters(), max_size=8) | st.text(st.characters(categories=["Cs", "Cc", "Lu"]), max_size=4)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
KNOWN = [
    *("model", "messages", "prompt", "n", "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop"),
    *("seed", "stream", "stream_options", "ensemble", *CHANGES_NOTHING),
]
CHANGES = st.dictionaries(st.sampled_from(KNOWN) | TEXTS, JSON_VALUES, min_size=1, max_size=4)
SETTINGS = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

Post = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    """Post to a server of two policies and their mixture, with the right key unless told otherwise."""
    engines: dict[str, Any] = {name: ScriptEngine(lambda _: ["fine"]) for name in ("low", "high")}
    registry = FakeRegistry(engines, mixtures={"both": {"low": 1, "high": 1}})
    with ExitStack() as stack:
        url = stack.enter_context(running(registry, ServeOptions(limits=LIMITS, keys=(ClientKey("k", KEY),))))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=WAIT_S))

        def send(route: str, content: Any, key: bytes = KEY.encode()) -> httpx.Response:
            return client.post(route, content=content, headers={"authorization": (b"Bearer " + key).strip()})

        yield send


def asked(route: str, **changes: Any) -> bytes:
    """A body for a route, as it should be but for the changes."""
    content = {"prompt": "hi"} if route == "completions" else {"messages": [{"role": "user", "content": "hi"}]}
    return json.dumps({"model": "both", "n": 2, **content, **changes}).encode()


def is_text(characters: str) -> bool:
    """Whether JSON that spells them spells a text: no half of a surrogate pair stands alone."""
    try:
        json.loads(json.dumps(characters)).encode()
    except UnicodeEncodeError:
        return False
    return True


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error object, found to have the form that clients read."""
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code"))
    return error


def check(answer: httpx.Response) -> None:
    """An answer that is whole, or an error of the client's."""
    if answer.status_code != 200:
        assert answer.status_code in (400, 404, 413), answer.text
        assert error_of(answer)["type"] == "invalid_request_error"
    elif answer.headers["content-type"] == "application/json":
        assert answer.json()["choices"]
    else:
        assert answer.text.endswith("data: [DONE]\n\n")
        assert '"finish_reason":"stop"' in answer.text


@SETTINGS
@given(st.sampled_from(ROUTES), st.binary(max_size=60) | TEXTS.map(lambda text: text.encode(errors="replace")))
def test_no_bytes_break_it(post: Post, route: str, raw: bytes) -> None:
    answer = post(route, raw)
    assert answer.status_code == 400
    error_of(answer)


@SETTINGS
@given(st.sampled_from(ROUTES), st.data())
def test_no_slip_in_a_body_breaks_it(post: Post, route: str, data: st.DataObject) -> None:
    raw = asked(route, temperature=0.5, stop=["x"])
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    check(post(route, raw[:start] + data.draw(st.binary(max_size=4)) + raw[end:]))


@SETTINGS
@given(st.sampled_from(ROUTES), CHANGES)
def test_no_value_of_any_parameter_breaks_it(post: Post, route: str, changes: dict[str, Any]) -> None:
    check(post(route, asked(route, **changes)))


@SETTINGS
@given(st.sampled_from(ROUTES), TEXTS.filter(lambda name: name not in ("low", "high", "both")), st.booleans())
def test_the_error_for_an_unknown_model_lists_the_served_ones(post: Post, route: str, model: str, stream: bool) -> None:
    answer = post(route, asked(route, model=model, stream=stream))
    error = error_of(answer)
    if not is_text(model):
        assert answer.status_code == 400
        return
    assert (answer.status_code, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert "low, high, both" in error["message"]


@SETTINGS
@given(st.sampled_from(ROUTES), st.integers(), st.booleans())
def test_n_is_bounded(post: Post, route: str, n: int, stream: bool) -> None:
    answer = post(route, asked(route, n=n, stream=stream))
    if 1 <= n <= LIMITS.choices:
        assert answer.status_code == 200
        assert stream or len(answer.json()["choices"]) == n
    else:
        assert (answer.status_code, error_of(answer)["param"]) == (400, "n")


@SETTINGS
@given(st.sampled_from(ROUTES), st.integers(0, 3 * LIMITS.body_bytes), st.booleans())
def test_a_body_that_is_too_large_is_not_read(post: Post, route: str, padding: int, has_length: bool) -> None:
    raw = asked(route, n=1, user="x" * padding)
    answer = post(route, raw if has_length else iter([raw[:100], raw[100:]]))
    if len(raw) > LIMITS.body_bytes:
        assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")
    else:
        assert answer.status_code == 200


@SETTINGS
@given(st.sampled_from(ROUTES), st.binary(max_size=12).filter(lambda key: not set(key) & {*range(32), 127}))
def test_only_the_key_opens_it(post: Post, route: str, key: bytes) -> None:
    answer = post(route, asked(route), key=key)
    if key.strip() == KEY.encode():
        check(answer)
    else:
        assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("route", ROUTES)
def test_a_long_name_is_not_sent_back(post: Post, route: str) -> None:
    answer = post(route, asked(route, model="x" * 3000))
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith(f"unknown model '{'x' * 200}…'")
