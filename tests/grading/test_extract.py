import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.grading.programs.extract import extract_program
from alphamix.grading.types import Program

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
        f"```cpp\nint main() {{}}\n```\n```python\n{CODE}```",
        f"```python\n{CODE}```\n```java\nclass Main {{}}\n```",
        f"```python\n{CODE}```\nand then\n```python\nunfinished = (",
        f"1. Do this:\n   ```python\n   {CODE.splitlines()[0]}\n   {CODE.splitlines()[1]}\n   ```",
        CODE,
        f"\n\n{CODE}\n",
        f"<think>I add one.</think>\n{CODE}",
    ],
)
def test_finds_the_program(completion: str) -> None:
    program = extract_program(completion)
    assert program is not None
    assert program.source.split() == CODE.split()


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "I cannot solve this.",
        "yes",
        "42",
        "<think>```python\nprint(1)\n```",
        "```\n```",
        "```java\nclass Main {}\n```",
        "Write `#include <iostream>`,\n#include <vector>\nand go on.",
        "print(1",
        "(" * 100_000,
        "x = '\\ud800'\n\x00",
    ],
)
def test_finds_none(completion: str) -> None:
    assert extract_program(completion) is None


def test_a_longer_fence_may_contain_a_shorter_one() -> None:
    inner = "text = '''\n```\nnot the end\n```\n'''\nprint(text)\n"
    assert extract_program(f"````python\n{inner}````") == Program(inner)


def test_a_broken_program_in_a_fence_is_still_the_program() -> None:
    assert extract_program("```python\nprint(1\n```") == Program("print(1\n")


CPP = "#include <iostream>\nint main() { int n; std::cin >> n; std::cout << n + 1; }\n"


@pytest.mark.parametrize(
    "completion",
    [
        f"```cpp\n{CPP}```",
        f"```C++\n{CPP}```",
        f"```cc\n{CPP}```",
        f"```c++17\n{CPP}```",
        f"```\n{CPP}```",
        f"```python\n{CODE}```\nIn C++, which is faster:\n```cpp\n{CPP}```",
        f"```cpp\n{CPP}```\nand then\n```python\nunfinished = (",
        f"Here it is:\n```cpp\n{CPP}",
        CPP,
        f"// adds one\n{CPP}",
    ],
)
def test_finds_the_program_in_cpp(completion: str) -> None:
    program = extract_program(completion)
    assert program is not None
    assert program.language == "cpp"
    assert CPP in program.source


def test_python_that_quotes_a_header_is_python() -> None:
    text = "print('#include <vector>')\n"
    assert extract_program(text) == Program(text)
    marked = 'text = """\n#include <vector>\n"""\n'
    assert extract_program(f"```python\n{marked}```") == Program(marked)


@given(st.text())
def test_any_text_gives_a_program_or_none(text: str) -> None:
    program = extract_program(text)
    assert program is None or program.source.strip()


@given(st.text(alphabet="`~<>/think \npy\n", max_size=60))
def test_any_mess_of_fences_gives_a_program_or_none(text: str) -> None:
    program = extract_program(text)
    assert program is None or program.source.strip()
