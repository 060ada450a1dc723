"""Fenced code blocks, as models write them: Markdown, but with fences forgotten, glued to text, or followed by tokens.

`fenced_blocks` walks over the lines once. Outside of a block it looks for an opening fence, inside of one for the line
that closes it. Where CommonMark is silent or would cut a program short, Python's own grammar decides: a line of
backticks inside a string is code.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Callable
from typing import Final, NamedTuple

_OPENING = re.compile(r"(?P<before>[^`~]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)")
_ONE_LINE = re.compile(r"[ \t]*(?P<mark>`{3,})(?P<content>[^`]+)(?P=mark)[ \t]*")
_CLOSING = re.compile(r"[ \t>]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)")
_QUOTE = re.compile(r"[ \t]*>[ ]?")
_FILE_NAME = re.compile(r"\.(py|cpp|cc|cxx|rs)\b[^.]*$")
_NAME = re.compile(r"(?:lang(?:uage)?[-:=])?([a-z]+(?:\+\+)?)")
_CODE_ON_FENCE = re.compile(
    r"(?:(?:python|py)[\d.]*[ \t]+)?(?P<code>(?:async def|def|class|import) \w.*|from [\w.]+ import .*|@\w.*)"
)
"""The first line of a program, which stands where the language should stand alone."""
_PYTHON_TAG = re.compile(r"^[ \t]*\[(/?)PYTHON\][ \t]*$", re.MULTILINE)
"""Code Llama was trained to answer between these tags."""
_ANSWER_TAG = re.compile(r"^[ \t]*</?(?:answer|code|python|solution)>[ \t]*$", re.MULTILINE | re.IGNORECASE)
"""Lines that prompts ask for instead of fences."""

_PYTHON = ("python", "py", "pypy", "pycon", "cpython", "ipython", "sage")
_CPP = ("cpp", "c++", "cc", "cxx", "cplusplus")
_PLAIN = ("text", "txt", "plaintext", "plain", "code", "solution", "answer", "program", "script")
_MARKDOWN = ("markdown", "md")
_LANGUAGES = {
    **dict.fromkeys(map(str, _PYTHON), "python"),
    **dict.fromkeys(map(str, _CPP), "cpp"),
    **dict.fromkeys(("rust", "rs"), "rust"),
    **dict.fromkeys(map(str, _PLAIN), ""),
}
_OTHERS = re.compile(
    "bash|c|cs|csharp|console|css|go|golang|haskell|html|input|java|javascript|js|json|julia|kotlin|latex|lua|makefile|"
    "markdown|md|output|perl|php|powershell|r|ruby|rust|scala|sh|shell|sql|swift|ts|typescript|xml|yaml"
)
_MAX_STRINGS: Final = 64
"""Lines of backticks that one block may have inside strings; each costs a parse."""


class Block(NamedTuple):
    """One fenced block."""

    language: str
    """`python`, `cpp`, `rust`, another language as the fence names it, or an empty string where it names none."""
    code: str
    is_closed: bool
    lines: range
    """Line numbers of the code, from 0."""


class _Opening(NamedTuple):
    indent: str
    mark: str
    info: str

    @property
    def language(self) -> str:
        label = _label(self.info)
        return "python" if self.code else _LANGUAGES.get(label, label)

    @property
    def code(self) -> list[str]:
        """The code that stands on the line of the fence, which is none but by mistake."""
        code = _CODE_ON_FENCE.fullmatch(self.info)
        return [code["code"]] if code else []


def fenced_blocks(text: str, is_code: Callable[[str], bool], *, is_inside: bool = False) -> list[Block]:
    """Return the fenced blocks of a text, in order; those in a block of Markdown, if any, take its place.

    A bare fence under text for which `is_code` holds closes it: the prompt has opened that block.
    """
    if "PYTHON]" in text:
        text = _PYTHON_TAG.sub(lambda tag: "```" if tag[1] else "```python", text)
    if "```" not in text and "~~~" not in text and _ANSWER_TAG.search(text) and not is_code(text):
        text = _ANSWER_TAG.sub("```", text)
    lines, blocks, index = text.split("\n"), list[Block](), 0
    while index < len(lines):
        opening = _opening(lines[index])
        if opening is None and "```" in lines[index] and (one_line := _ONE_LINE.fullmatch(lines[index])):
            blocks.append(_block_on_one_line(one_line["content"], index))
        elif opening is not None and not blocks and not opening.language and is_code("\n".join(lines[:index])):
            blocks.append(Block("", _joined(lines[:index]), True, range(index)))
        elif opening is not None:
            block, index = _read_block(lines, index + 1, opening)
            is_markdown = block.language in _MARKDOWN and not is_inside
            inner = fenced_blocks(block.code, is_code, is_inside=True) if is_markdown else []
            blocks.extend(inside._replace(lines=block.lines) for inside in inner or [block])
            continue
        index += 1
    return blocks


def _read_block(lines: list[str], start: int, opening: _Opening) -> tuple[Block, int]:
    """Return the block whose code begins at line `start`, and the line at which to go on."""
    end = _closing_line(lines, start, opening)
    body = opening.code + [_unindented(line, opening.indent) for line in lines[start:end]]
    if end == len(lines) and body and not body[-1]:
        body.pop()  # what follows the last line end is no line
    glued = _glued_line(body, opening)
    if glued is not None:
        body = [*body[:glued], body[glued].rstrip().removesuffix(opening.mark)]
        after = start + glued + 1 - len(opening.code)
        return Block(opening.language, _joined(body), True, range(start, after)), after
    block = Block(opening.language, _joined(body), end < len(lines), range(start, end))
    reopens = end < len(lines) and _is_language(_CLOSING.fullmatch(lines[end]))
    return block, end if reopens else end + 1


def _closing_line(lines: list[str], start: int, opening: _Opening) -> int:
    """Return the number of the line that closes a block, or the number of lines if none does.

    A fence that names a language closes the block as well: its own closing fence was forgotten.
    """
    first = None
    num_strings = 0
    for index in range(start, len(lines)):
        closing = _CLOSING.fullmatch(lines[index]) if opening.mark in lines[index] else None
        if closing is None or not closing["mark"].startswith(opening.mark):
            continue
        first = index if first is None else first
        body = [_unindented(line, opening.indent) for line in lines[start:index]]
        if opening.language not in ("python", "") or not _ends_in_string("\n".join(body)):
            return index
        num_strings += 1
        if num_strings == _MAX_STRINGS:
            break
    return len(lines) if first is None else first


def _glued_line(body: list[str], opening: _Opening) -> int | None:
    """Return the line that ends with the closing fence, as in `print(n)` and a fence right after it."""
    for index, line in enumerate(body):
        if opening.mark in line and line.rstrip().endswith(opening.mark) and line.count(opening.mark) == 1:
            shortened = "\n".join([*body[:index], line.rstrip().removesuffix(opening.mark)])
            is_comment = line.lstrip().startswith(("#", "//"))
            if not is_comment and not _ends_in_string(shortened) and not _parses("\n".join(body)):
                return index
    return None


def _opening(line: str) -> _Opening | None:
    """Return the opening fence of a line, also behind text if it names a language or the text ends with a colon."""
    fence = _OPENING.fullmatch(line) if "```" in line or "~~~" in line else None
    if fence is None:
        return None
    before, info = fence["before"], fence["info"]
    if before.strip(" \t>") and _label(info) not in _LANGUAGES and not before.rstrip().endswith(":"):
        return None
    return _Opening("" if before.strip(" \t>") else before, fence["mark"], info)


def _block_on_one_line(content: str, index: int) -> Block:
    label, _, rest = content.strip().partition(" ")
    language = _LANGUAGES.get(_label(label)) if rest else None
    code = content.strip() if language is None else rest
    return Block(language or "", code + "\n", True, range(index, index + 1))


def _is_language(closing: re.Match[str] | None) -> bool:
    label = _label(closing["info"]) if closing else ""
    return label in _LANGUAGES or _OTHERS.fullmatch(label) is not None


def _label(info: str) -> str:
    """Return the name of the language that a fence is labelled with: that of `{.python}` or `python3.11` is `python`.

    A file name, as in `python:solve.py` or `main.cpp`, tells the language by its ending.
    """
    words = info.strip("{}.:[]()\"'* \t\r").lower().split()
    if not words:
        return ""
    if file_name := _FILE_NAME.search(words[0]):
        return file_name[1]
    name = _NAME.match(words[0])
    return name[1] if name else words[0]


def _unindented(line: str, indent: str) -> str:
    """Remove the indent of the fence, which a list item or a quotation gives to every line."""
    if ">" in indent:
        return _QUOTE.sub("", line, count=1)
    depth = len(line) - len(line.lstrip(" \t"))
    return line[min(depth, len(indent)) :]


def _joined(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _ends_in_string(code: str) -> bool:
    """Check whether Python code ends inside a string of several lines."""
    double, single = code.count('"""'), code.count("'''")
    if double % 2 == 0 and single % 2 == 0 and not (double and single):
        return False  # which saves nearly every program with docstrings from being parsed
    error = _syntax_error(code)
    return error is not None and "unterminated triple-quoted" in error


def _parses(code: str) -> bool:
    return _syntax_error(code) is None


def _syntax_error(code: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return str(error)
    return None
