import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.request_schema import CHANGES_NOTHING, ChatBody, CompletionBody, read_body
from alphamix.policies.types import SamplingParameters, TokenIds

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def chat(**changes: Any) -> ChatBody:
    return read_body(ChatBody, json.dumps({**CHAT, **changes}).encode())


def refused(**changes: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        chat(**changes)
    assert raised.value.status == 400
    return raised.value


def test_a_plain_chat_takes_the_defaults() -> None:
    body = chat()
    assert (body.n, body.stream, body.seed) == (1, False, None)
    assert body.parameters() == SamplingParameters()
    assert body.prompts() == [[{"role": "user", "content": "hi"}]]


def test_every_sampling_parameter_reaches_the_policy() -> None:
    body = chat(temperature=0.2, top_p=0.9, max_tokens=7, stop="\n", seed=5, n=3)
    assert body.parameters() == SamplingParameters(0.2, 0.9, 7, ("\n",))
    assert (body.seed, body.n) == (5, 3)


def test_the_newer_name_of_the_token_limit() -> None:
    assert chat(max_completion_tokens=9).parameters().max_tokens == 9
    assert chat(max_completion_tokens=9, max_tokens=9).parameters().max_tokens == 9
    assert "disagree" in refused(max_completion_tokens=9, max_tokens=8).message


def test_completions_take_one_text_or_several() -> None:
    one = read_body(CompletionBody, b'{"model": "m", "prompt": "a"}')
    two = read_body(CompletionBody, b'{"model": "m", "prompt": ["a", "b"], "max_tokens": 3}')
    assert (one.prompts(), one.parameters().max_tokens) == (["a"], 16)
    assert (two.prompts(), two.parameters().max_tokens) == (["a", "b"], 3)


@pytest.mark.parametrize(("prompt", "read"), [([5, 0], [(5, 0)]), ([[5], [6, 7]], [(5,), (6, 7)])])
def test_prompts_may_be_tokens(prompt: Any, read: Any) -> None:
    body = read_body(CompletionBody, json.dumps({"model": "m", "prompt": prompt}).encode())
    assert body.prompts() == read
    assert all(isinstance(one, TokenIds) for one in body.prompts())


@pytest.mark.parametrize("prompt", [[-1], [[]], [1, "a"], [1.5], [[1], "a"], [True], {}])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(ApiError) as raised:
        read_body(CompletionBody, json.dumps({"model": "m", "prompt": prompt}).encode())
    assert (raised.value.status, str(raised.value.param).startswith("prompt")) == (400, True)


def test_an_answer_can_be_sent_back() -> None:
    sent = {"role": "assistant", "content": "4", "refusal": None, "annotations": [], "tool_calls": None, "audio": None}
    body = chat(messages=[*CHAT["messages"], {**sent, "reasoning": "two and two"}])
    assert body.prompts()[0][1] == {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(("name", "value"), [("presence_penalty", 0.0), ("top_k", -1), ("repetition_penalty", 1.0)])
def test_numbers_that_change_nothing_are_accepted_in_either_form(name: str, value: float) -> None:
    chat(**{name: value})


def test_text_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = chat(messages=[{"role": "developer", "content": parts}])
    assert body.prompts() == [[{"role": "system", "content": "ab"}]]


def test_null_means_absent() -> None:
    nulls = dict.fromkeys(
        (
            "n",
            "temperature",
            "top_p",
            "max_tokens",
            "stop",
            "seed",
            "stream",
            "stream_options",
            "tools",
            "best_of",
        )
    )
    assert chat(**nulls) == chat()


@pytest.mark.parametrize("name", CHANGES_NOTHING)
def test_what_changes_nothing_is_accepted(name: str) -> None:
    for value in CHANGES_NOTHING[name] or ["anything"]:
        chat(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", True),
        ("logprobs", 0),  # in completions: the log-probabilities of the tokens drawn
        ("top_logprobs", 3),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("logit_bias", {"50": 1}),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("response_format", {"type": "json_object"}),
        ("top_k", 20),
        ("best_of", 4),
        ("store", True),
        ("temprature", 0.5),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(name: str, value: object) -> None:
    error = refused(**{name: value})
    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("model", 3),
        ("messages", "hi"),
        ("messages", []),
        ("n", 0),
        ("n", "2"),
        ("n", True),
        ("n", 1.5),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("max_completion_tokens", "many"),
        ("seed", -1),
        ("seed", 2**63),
        ("stop", ["a"] * 5),
        ("stop", 7),
        ("stream", "yes"),
    ],
)
def test_a_wrong_value_is_refused_by_name(param: str, value: object) -> None:
    error = refused(**{param: value})
    assert error.param == param
    assert f"got {value!r}" in error.message


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages[0].content"),
        ({"role": "wizard", "content": "hi"}, "messages[0].role"),
        ({"role": "tool", "content": "4", "tool_call_id": "x"}, "messages[0].role"),
        ({"role": "user", "content": 4}, "messages[0].content"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
            "messages[0].content",
        ),
        ({"role": "user", "content": "hi", "name": "ann"}, "messages[0].name"),
    ],
)
def test_a_message_that_cannot_be_answered_is_refused_with_its_place(message: Any, param: str) -> None:
    assert refused(messages=[message]).param == param


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"text"', b"\xff", b'{"model": NaN}', b'{"model": "\\ud800"}', b"[" * 100_000]
)
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        read_body(ChatBody, raw)
    assert (raised.value.status, raised.value.param) == (400, None)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(ApiError, match="'messages' is missing"):
        read_body(ChatBody, b'{"model": "m"}')


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(
    st.dictionaries(st.sampled_from([*ChatBody.model_fields, *CHANGES_NOTHING, "x"]), JSON_VALUES),
    st.booleans(),
)
def test_any_json_is_read_or_refused(fields: dict[str, Any], complete: bool) -> None:
    raw = json.dumps({**CHAT, **fields} if complete else fields).encode()
    try:
        body = read_body(ChatBody, raw)
    except ApiError as error:
        status = error.status
    else:
        status = 200
        assert body.prompts()
        assert body.parameters().max_tokens >= 1
    assert status in (200, 400)
