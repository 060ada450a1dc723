import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest, read_request

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
READ = ("model", "n", "seed", "stream", "stream_options", "user")
OTHER_NAMES = st.text(max_size=8).filter(lambda name: name not in READ)


def ask(**fields: Any) -> RawRequest:
    return read_request("completions", json.dumps({"model": "m", "prompt": "a", **fields}).encode())


def refused(raw: bytes) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read_request("chat/completions", raw)
    assert raised.value.status == 400
    return raised.value


def test_what_routing_reads() -> None:
    read = ask(n=3, seed=-1, stream=True, stream_options={"include_usage": True}, user="ann")
    assert (read.model, read.n, read.seed, read.stream, read.include_usage, read.session) == (
        "m",
        3,
        -1,
        True,
        True,
        "ann",
    )


def test_null_means_absent() -> None:
    assert ask(n=None, seed=None, stream=None, stream_options=None, user=None).n == 1


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (None, 1)],
)
def test_prompts_are_counted(prompt: Any, count: int) -> None:
    assert ask(prompt=prompt, n=2).num_choices == 2 * count


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 0), ("n", -3), ("n", "2"), ("n", True), ("n", 1.5), ("seed", "x"), ("stream", 1), ("stream_options", []),
     ("model", 5), ("user", {}), ("prompt", [])],
)  # fmt: skip
def test_what_routing_cannot_read_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ApiError) as raised:
        ask(**{field: value})
    assert (raised.value.status, raised.value.param) == (400, field)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b'"x"', b'{"model": NaN}', b'{"model": "m", "x": ' + b"[" * 10**5, b"\xff\xfe"]
)
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    refused(raw)


def test_a_missing_model_is_named() -> None:
    assert refused(b"{}").param == "model"


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_break_it(raw: bytes) -> None:
    refused(raw)  # nothing so short that hypothesis finds is an object with a model


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(READ) | st.text(max_size=3), JSON_VALUES, max_size=8))
def test_every_object_is_read_or_refused(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields).encode()
    try:
        read = read_request("chat/completions", raw)
    except ApiError:
        assert refused(raw).param in READ
    else:
        assert read.model == fields["model"]


@settings(deadline=None)
@given(st.dictionaries(OTHER_NAMES, JSON_VALUES, max_size=6), st.integers(1, 9), st.integers(0, 2**63 - 1))
def test_only_model_n_and_seed_change(fields: dict[str, Any], n: int, seed: int) -> None:
    raw = json.dumps({"model": "both", "n": n, "seed": seed, **fields}).encode()
    read = read_request("chat/completions", raw)
    assert json.loads(read.body("low", Part("low", 0, n))) == {"model": "low", "n": n, "seed": seed, **fields}
    part = json.loads(read.body("low", Part("low", 2, n + 1)))
    assert part.pop("seed") != seed
    assert part == {"model": "low", "n": n + 1, **fields}
