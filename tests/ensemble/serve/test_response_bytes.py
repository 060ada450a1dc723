import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.raw_request import Part
from alphamix.ensemble.serve.protocol.response_bytes import ResponseReader, merge_responses, sum_usage
from alphamix.ensemble.serve.protocol.responses import PolicyInfo

USAGES = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), st.integers(0, 10**6), min_size=3
)


def marking(first: int = 0, n: int = 1, *, of: int = 8, prompts: int = 1) -> ResponseReader:
    return ResponseReader(PolicyInfo("low", 0.5), Part("low", first, n), of, prompts)


def answer(*indices: int, **fields: Any) -> bytes:
    choices = [{"index": index, "text": f"t{index}", "finish_reason": "stop"} for index in indices]
    return json.dumps({"choices": choices, **fields}).encode()


def test_choices_are_put_in_their_places_and_named() -> None:
    body = marking(first=5, n=2).complete(answer(1, 0, x=[1.50]))
    written = json.loads(merge_responses([body]).as_bytes())
    assert [(choice["index"], choice["text"]) for choice in written["choices"]] == [(5, "t0"), (6, "t1")]
    assert all(choice["policy"] == {"name": "low", "alpha": 0.5} for choice in written["choices"])
    assert b"[1.5]" in body.as_bytes()


def test_a_choice_without_an_index_stands_where_it_stands() -> None:
    body = marking(first=2, n=2).complete(b'{"choices": [{"text": "a"}, {"text": "b"}]}')
    assert [place for place, _ in body.choices] == [2, 3]


def test_a_stream_must_bring_every_choice_to_its_end() -> None:
    stream = marking(n=2)
    stream.chunk(b'{"choices": [{"index": 0, "finish_reason": "stop"}, {"index": 1, "finish_reason": null}]}')
    with pytest.raises(ApiError, match=r"\[1\]"):
        stream.end()
    stream.chunk(b'{"choices": [{"index": 1, "finish_reason": "length"}]}')
    stream.end()


@settings(deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode) | st.binary(max_size=3).map(b'{"%b": 0}'.__mod__))
def test_garbage_is_an_error_of_the_policy(data: bytes) -> None:
    for read in (marking().complete, marking().chunk):
        with pytest.raises(ApiError) as raised:
            read(data)
        assert raised.value.is_server_error


@pytest.mark.parametrize(
    "data",
    [
        *(b'{"\xff": 1}', b'{"choices": [{"\xff": 1}]}', b'{"choices": [{"index": 0, "text": "", "\xff": 1}]}'),
        *(b'{"choices": [{"index": 0, "text": "\xff"}]}', b'{"x": "\xff", "choices": [{"index": 0, "text": ""}]}'),
    ],
)
def test_bytes_that_are_no_text_are_an_error_of_the_policy(data: bytes) -> None:
    with pytest.raises(ApiError):
        marking().complete(data)


@pytest.mark.parametrize("said", [*('"message": null', '"message": {}', '"message": "x"'), '"text": null', '"text": 5'])
def test_a_choice_with_nothing_in_it_is_an_error_of_the_policy(said: str) -> None:
    with pytest.raises(ApiError, match="neither a message nor a text") as raised:
        marking().complete(b'{"choices": [{"index": 0, %s}]}' % said.encode())
    assert raised.value.is_server_error


@pytest.mark.parametrize("usage", [b"null", b"5", b"[]", b'"x"'])
def test_unreadable_usage_becomes_null(usage: bytes) -> None:
    body = marking().complete(b'{"choices": [{"index": 0, "text": ""}], "usage": %s}' % usage)
    assert json.loads(merge_responses([body, body]).as_bytes())["usage"] is None


@pytest.mark.parametrize("index", ["-1", "1", "1.0", "true", '"0"', "null", "99999999999999999999999"])
def test_a_wrong_index_is_an_error_of_the_policy(index: str) -> None:
    with pytest.raises(ApiError):
        marking().complete(b'{"choices": [{"index": %s, "text": ""}]}' % index.encode())


@settings(deadline=None)
@given(st.lists(USAGES, min_size=1, max_size=4))
def test_usage_is_summed(usages: list[dict[str, int]]) -> None:
    total = sum_usage(usages)
    assert total is not None
    assert all(total[key] == sum(usage[key] for usage in usages) for key in usages[0])


def test_usage_is_summed_in_detail_and_only_where_all_tell() -> None:
    one = {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}, "cost": 0.5, "by": "a"}
    other = {"prompt_tokens": 2, "prompt_tokens_details": None, "cost": 0.25, "by": "b"}
    assert sum_usage([one, other, one]) == {
        "prompt_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2},
        "cost": 1.25,
        "by": "a",
    }
    assert sum_usage([one, None]) is None
