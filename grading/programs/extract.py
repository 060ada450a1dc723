"""Extracting the program from a completion, without running anything.

Reasoning in <think> tags is dropped. The program is then the last closed code block marked as Python, C++ or Rust, else
the last closed block without a language that is a program, else a block that was never closed, else the last closed
block without a language, else the whole text if that is a program by itself. A block without a language is C++ if it
includes a header, Rust if it has `fn main()`, else Python. If the problem has a prologue, the whole text may also be
the body of a function.
"""

import re
from typing import NamedTuple

from alphamix.grading.programs.prologue import complete, does_something, is_body, parse
from alphamix.grading.types import Language, Program

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]", re.MULTILINE)
_RUST_MAIN = re.compile(r"^[ \t]*(?:pub )?fn main\(\)[^\n]*\{", re.MULTILINE)
_PYTHON = ("python", "py", "python3", "py3", "python2", "pypy", "pypy3", "pycon", "cpython", "sage")
_CPP = ("cpp", "c++", "cc", "cxx", "cplusplus", "c++11", "c++14", "c++17", "c++20", "cpp17", "cpp20")
_RUST = ("rust", "rs")
_LANGUAGES: dict[str, Language] = {
    **dict.fromkeys(_PYTHON, "python"),
    **dict.fromkeys(_CPP, "cpp"),
    **dict.fromkeys(_RUST, "rust"),
}


class _Block(NamedTuple):
    mark: str
    """Language that the fence names, in lower case, or an empty string."""
    code: str
    is_closed: bool


def extract_program(completion: str, prologue: str | None = None) -> Program | None:
    """Return the program in `completion`, or None if there is none. A `prologue` is joined with a Python program."""
    text = _END_OF_THOUGHT.sub("", _THOUGHT.sub("", completion))
    blocks = [block for block in _fenced_blocks(text) if block.code.strip()]
    program = _choose(blocks) if blocks else _bare_program(text, may_be_body=prologue is not None)
    if program is None or prologue is None or program.language != "python":
        return program
    return Program(complete(prologue, program.source))


def _bare_program(text: str, *, may_be_body: bool) -> Program | None:
    is_program = _is_program(text) or (may_be_body and is_body(text))
    return Program(text.strip("\n") + "\n", guess_language(text)) if is_program else None


def _choose(blocks: list[_Block]) -> Program | None:
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
    """Return the fenced blocks of Markdown; a fence is closed by one of the same kind, as long or longer."""
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
    """Remove the indent of the fence, which a list item, for example, gives to every line."""
    return "".join(line.removeprefix(indent) + "\n" for line in lines)


def program_of(text: str, prologue: str | None, *, is_code: bool) -> Program | None:
    """Return `text` as a program if it is code, else the program in the completion `text`."""
    return Program(text, guess_language(text)) if is_code else extract_program(text, prologue)


def guess_language(code: str) -> Language:
    """Return C++ for code that includes a header, Rust for code that has its `main`, else Python."""
    if _INCLUDE.search(code):
        return "cpp"
    return "rust" if _RUST_MAIN.search(code) else "python"


def _is_program(text: str) -> bool:
    """Check whether `text` is C++, or Python that parses and has an effect: a single word parses as Python, too."""
    if guess_language(text) != "python":  # prose that quotes a header, or `main`, starts otherwise
        return text.lstrip().startswith(("#", "/", "use ", "fn "))
    module = parse(text)
    return module is not None and does_something(module.body)
