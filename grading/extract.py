"""Taking the program out of a completion, as models write it.

Reasoning in <think> tags is dropped; then the last closed block that is marked as Python or C++ counts, else the last
closed block without a language, else a block that was never closed, else the whole text if it is a program by itself.
A block is in the language that its fence names; without one, in C++ if it includes a header, else in Python. This
module looks at text only and runs nothing.
"""

import ast
import re
import warnings
from typing import NamedTuple

from grading.types import Language, Program

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]", re.MULTILINE)
_LANGUAGES: dict[str, Language] = {
    **dict.fromkeys(
        ("python", "py", "python3", "py3", "python2", "pypy", "pypy3", "pycon", "cpython", "sage"), "python"
    ),
    **dict.fromkeys(
        ("cpp", "c++", "cc", "cxx", "cplusplus", "c++11", "c++14", "c++17", "c++20", "cpp17", "cpp20"), "cpp"
    ),
}


class _Block(NamedTuple):
    mark: str
    """The language that the fence names, in lower case; may be empty."""
    code: str
    is_closed: bool


def extract_program(completion: str) -> Program | None:
    """Return the program in `completion`, or None where there is none."""
    text = _END_OF_THOUGHT.sub("", _THOUGHT.sub("", completion))
    blocks = [block for block in _fenced_blocks(text) if block.code.strip()]
    if not blocks:
        return Program(text.strip("\n") + "\n", guess_language(text)) if _is_program(text) else None
    closed = [block for block in blocks if block.is_closed]
    unclosed = [block for block in blocks if not block.is_closed]
    candidates = [block for block in closed if block.mark in _LANGUAGES]
    candidates = candidates or [block for block in closed if not block.mark and _is_program(block.code)]
    candidates = candidates or [block for block in unclosed if block.mark in _LANGUAGES or not block.mark]
    candidates = candidates or [block for block in closed if not block.mark]
    if not candidates:
        return None
    mark, code, _ = candidates[-1]
    return Program(code, _LANGUAGES.get(mark) or guess_language(code))


def _fenced_blocks(text: str) -> list[_Block]:
    """Split Markdown into its fenced blocks; a fence is closed by one of the same kind, as long or longer."""
    blocks: list[_Block] = []
    opening: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if opening is None:
            opening, lines = fence, []
        elif fence and fence["mark"].startswith(opening["mark"]) and not fence["info"].strip():
            blocks.append(_Block(_mark(opening["info"]), _unindent(lines, opening["indent"]), True))
            opening = None
        else:
            lines.append(line)
    if opening is not None:
        blocks.append(_Block(_mark(opening["info"]), _unindent(lines, opening["indent"]), False))
    return blocks


def _mark(info: str) -> str:
    words = info.strip("{}. \t").split()
    return words[0].strip("{}.,:").lower() if words else ""


def _unindent(lines: list[str], indent: str) -> str:
    """Take away the indent of the fence itself, as in a list item."""
    return "".join(line.removeprefix(indent) + "\n" for line in lines)


def guess_language(code: str) -> Language:
    """Take code that includes a header for C++, all other for Python."""
    return "cpp" if _INCLUDE.search(code) else "python"


def _is_program(text: str) -> bool:
    """Say whether `text` is C++, or Python that parses and does something: a lone word or number parses, too."""
    if guess_language(text) == "cpp":
        return text.lstrip().startswith(("#", "/"))  # not prose that quotes a header
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body)
