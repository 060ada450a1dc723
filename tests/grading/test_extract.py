import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.extract import extract_code

CODE = "n = int(input())\nprint(n + 1)\n"


@pytest.mark.parametrize(
    "completion",
    [
        f"```python\n{CODE}```",
        f"```py\n{CODE}```\n",
        f"```Python3\n{CODE}```",
        f"``` python\n{CODE}```",
        f"```{{.python}}\n{CODE}```",
        f"```python title='main.py'\n{CODE}```",
        f"~~~\n{CODE}~~~",
        f"~~~python\n{CODE}~~~",
        f"````python\n{CODE}````",
        f"```\n{CODE}```",
        f"Here it is:\n\n```python\n{CODE}```\n\nIt adds one.",
        f"Here it is:\n```python\n{CODE}",
        f"```python\r\n{CODE}```\r\n",
        f"<think>first ```python\nwrong\n``` hm</think>\n```python\n{CODE}```",
        f"first ```python\nwrong\n``` hm</think>\n```python\n{CODE}```",
        f"```python\n{CODE}```\n<think>or ```python\nwrong\n```",
        f"```python\nprint('draft')\n```\nBetter:\n```python\n{CODE}```",
        f"```python\n{CODE}```\nFor example:\n```\n3\n```\nprints\n```\n4\n```",
        f"```\n{CODE}```\nFor example:\n```\n3\n```",
        f"```python\n{CODE}```\n```cpp\nint main() {{}}\n```",
        f"```python\n{CODE}```\nand then\n```python\nunfinished = (",
        f"1. Do this:\n   ```python\n   {CODE.splitlines()[0]}\n   {CODE.splitlines()[1]}\n   ```",
        CODE,
        f"\n\n{CODE}\n",
        f"<think>I add one.</think>\n{CODE}",
    ],
)
def test_finds_the_program(completion: str) -> None:
    found = extract_code(completion)
    assert found is not None
    assert found.split() == CODE.split()


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "I cannot solve this.",
        "yes",
        "42",
        "<think>```python\nprint(1)\n```",
        "```\n```",
        "```cpp\nint main() {}\n```",
        "print(1",
        "(" * 100_000,
        "x = '\\ud800'\n\x00",
    ],
)
def test_finds_none(completion: str) -> None:
    assert extract_code(completion) is None


def test_a_longer_fence_holds_a_shorter_one() -> None:
    inner = "text = '''\n```\nnot the end\n```\n'''\nprint(text)\n"
    assert extract_code(f"````python\n{inner}````") == inner


def test_a_broken_program_in_a_fence_is_still_the_program() -> None:
    assert extract_code("```python\nprint(1\n```") == "print(1\n"


@given(st.text())
def test_any_text_gives_a_program_or_none(text: str) -> None:
    found = extract_code(text)
    assert found is None or found.strip()


@given(st.text(alphabet="`~<>/think \npy\n", max_size=60))
def test_any_mess_of_fences_gives_a_program_or_none(text: str) -> None:
    found = extract_code(text)
    assert found is None or found.strip()
