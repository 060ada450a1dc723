"""Programs without a fence: the whole text, or the text without the prose around the program.

Models without instruction tuning continue a prompt, and go on after the function that it asks for. Other models write
a sentence above or below the program. Only lines at the left margin are ever cut off: a program with an error in it
stays whole, and is not a program.
"""

import ast
import re
import warnings
from collections.abc import Callable
from keyword import iskeyword
from math import isqrt

_PROSE = re.compile(r"[*_>#\-\s]*(?P<word>[A-Za-z][\w'’]*)[*_]*(?:[:.!]?[*_]*$|[,:]? [*_(`]*[A-Za-z])")
_COMMANDS = ("print", "exec")
"""Statements of Python 2, which look like prose."""
_MAX_TRIES = 20
_MAX_PARSED = 1 << 18
"""Characters that are parsed at most, about, in the search for a program."""
_COMPILED_START = re.compile(r"^[ \t]*(?:#[ \t]*include[ \t]*[<\"]|(?:use|fn) \w)", re.MULTILINE)
_COMPILED_END = re.compile(r"\}[ \t]*;?[ \t]*$", re.MULTILINE)


def bare_python(text: str, is_code: Callable[[str], bool], head: str = "", indent: str = "") -> str | None:
    """Return the program in a text without fences, or None. `is_code` tells whether a text is a program.

    The head and the indent are those of a function whose body the text may be.
    """
    text = text.strip("\n") + "\n"
    if is_code(text):
        return text
    for margin in dict.fromkeys(("", indent)):  # the first line loses its indent when a text is stripped
        if (start := without_text_below(margin + text, is_code, head)) is not None:
            return start
    lines = text.splitlines(keepends=True)
    for index in _paragraphs(lines)[: _num_tries(text)]:
        rest = "".join(lines[index:])
        if (program := rest if is_code(rest) else without_text_below(rest, is_code)) is not None:
            return program
    return None


def without_text_below(text: str, is_code: Callable[[str], bool], head: str = "") -> str | None:
    """Return a text up to the prose below its program, or None if nothing is left.

    Below the body of a function with this head, which is indented, anything at the left margin is cut off from the
    first error on.
    """
    is_body = text.lstrip("\n")[:1].isspace()
    head = head if is_body else ""
    lines = text.split("\n")
    for _ in range(_num_tries(text)):
        error = _line_of_error(head + "\n".join(lines)) - head.count("\n")
        margin = [index for index, line in enumerate(lines[:error]) if line[:1].strip()]
        if not margin or margin[-1] == 0 or not (is_body or _is_prose(lines[margin[-1]])):
            return None
        lines = lines[: margin[-1]]
        program = "\n".join(lines).rstrip() + "\n"
        if is_code(program):
            return program
    return None


def bare_compiled(text: str) -> str | None:
    """Return the C++ or Rust program in a text without fences, from its first header to its last brace, or None."""
    start, ends = _COMPILED_START.search(text), list(_COMPILED_END.finditer(text))
    if start is None or not ends or "main" not in text[start.start() : ends[-1].end()]:
        return None
    return text[start.start() : ends[-1].end()].rstrip() + "\n"


def _paragraphs(lines: list[str]) -> list[int]:
    """Return the numbers of the lines at the left margin that may begin a program below prose."""
    return [
        index
        for index in range(1, len(lines))
        if lines[index][:1].strip() and (not lines[index - 1].strip() or _is_prose(lines[index - 1]))
    ]


def _num_tries(text: str) -> int:
    """Return how many lines to try as the first one, and as many as the last one; none in a long text."""
    return min(_MAX_TRIES, isqrt(_MAX_PARSED // (len(text) + 1)))


def _is_prose(line: str) -> bool:
    prose = _PROSE.match(line.rstrip())
    return prose is not None and not iskeyword(prose["word"]) and prose["word"] not in _COMMANDS


def _line_of_error(source: str) -> int:
    """Return the number of the first line that is not valid Python, from 1; the last line if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, MemoryError, RecursionError):
        return 1
    return source.count("\n") + 1
