"""Text comes in whole characters and never runs into a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from alphamix.policies.engines.transformers.detokenise import TextStream, split_at_stop


def pushed(tokenizer: PreTrainedTokenizerFast, tokens: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(tokenizer.backend_tokenizer.decode, stop)
    pieces: list[str] = []
    for token in tokens:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.finish())
    assert "".join(pieces) == stream.text
    return pieces


@given(text=st.text(max_size=30))
def test_pieces_join_to_the_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    tokens = tokenizer(text)["input_ids"]
    assert "".join(pushed(tokenizer, tokens)) == text


@given(tokens=st.lists(st.integers(0, 287), max_size=30))
def test_any_tokens_give_what_decoding_them_at_once_gives(
    tokenizer: PreTrainedTokenizerFast, tokens: list[int]
) -> None:
    assert "".join(pushed(tokenizer, tokens)) == tokenizer.backend_tokenizer.decode(tokens)


@given(tokens=st.lists(st.integers(0, 287), max_size=30))
def test_the_text_is_the_same_where_nobody_wants_pieces(tokenizer: PreTrainedTokenizerFast, tokens: list[int]) -> None:
    stream = TextStream(tokenizer.backend_tokenizer.decode, in_pieces=False)
    assert [stream.push(token) for token in tokens] == [""] * len(tokens)
    assert stream.finish() == stream.text == "".join(pushed(tokenizer, tokens))


def test_a_character_of_four_bytes_comes_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer("🙂")["input_ids"]
    assert len(tokens) == 4
    assert pushed(tokenizer, tokens) == ["", "", "", "🙂", ""]


def test_a_torn_character_at_the_end_is_told_as_such(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer("a🙂")["input_ids"][:-1]
    assert "".join(pushed(tokenizer, tokens)) == "a\ufffd"


@given(
    text=st.text(alphabet="ab\n", max_size=20),
    stop=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_text_ends_before_the_first_stop_string(
    tokenizer: PreTrainedTokenizerFast, text: str, stop: tuple[str, ...]
) -> None:
    ids: dict[str, int] = tokenizer.get_vocab()
    tokens = [ids["Ċ" if letter == "\n" else letter] for letter in text]
    # With one letter a token, the stop string that is complete first ends the text.
    ends = [(text.find(string) + len(string), text.find(string)) for string in stop if string in text]
    expected = text
    if ends:
        first_end = min(ends)[0]
        expected = text[: min(start for end, start in ends if end == first_end)]
    assert "".join(pushed(tokenizer, tokens, stop)) == expected


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("abc", (), ("abc", "", False)),
        ("abcST", ("STOP",), ("abc", "ST", False)),
        ("abcSTOPdef", ("STOP",), ("abc", "", True)),
        ("abcSTOPdef", ("def", "bc"), ("a", "", True)),
        ("aa", ("aab",), ("", "aa", False)),
    ],
)
def test_what_may_begin_a_stop_string_is_held(
    text: str, stop: tuple[str, ...], expected: tuple[str, str, bool]
) -> None:
    assert split_at_stop(text, stop) == expected
