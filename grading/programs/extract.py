"""Extracting the program from a completion, without running anything.

The answer (`answer`) is cut into fenced blocks (`fences`); without any, the whole text may be a program (`bare`). Of
several blocks, `extract_program` takes the one that solves the task: a program that is valid, defines what the tests
call or reads and writes, and needs nothing else; of several such, the last. What it lacks is taken from earlier blocks.
"""

import ast
import html
import re
import textwrap
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from alphamix.grading.programs.answer import answer_of
from alphamix.grading.programs.bare import bare_compiled, bare_python, without_text_below
from alphamix.grading.programs.fences import Block, fenced_blocks
from alphamix.grading.programs.names import defined_names, identifiers, is_module, missing_names, tested_names
from alphamix.grading.programs.prologue import Prologue, complete, does_something, is_body, parse, read_prologue
from alphamix.grading.types import Language, Problem, Program

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]", re.MULTILINE)
_INCLUDE_ENTITY = re.compile(r"#[ \t]*include[ \t]*&lt;")
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#39);")
_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: |$)")
_READING = frozenset(["input", "stdin", "open", "fileinput", "read", "__stdin__"])
_WRITING = frozenset(["print", "stdout", "write", "writelines", "__stdout__"])
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_LABEL = re.compile(r"\A\s*(?:python3?|py)[ \t]*\n")
"""The label of a fence that was itself lost."""
_LANGUAGES: dict[str, Language] = {"python": "python", "cpp": "cpp", "rust": "rust"}
_RUST_MAIN = re.compile(r"^[ \t]*(?:pub )?fn main\(\)[^\n]*\{", re.MULTILINE)
_READING_COMPILED = re.compile(r"\b(?:cin|scanf|getline|getchar|gets|fread|read|stdin|read_line)\b")


class _Candidate(NamedTuple):
    """A block that may hold the program of the answer."""

    block: Block
    position: int
    program: Program
    is_program: bool


def program_of(text: str, problem: Problem, *, is_code: bool) -> Program | None:
    """Return `text` as a program if it is code, else the program in the completion `text`; None if there is none."""
    if is_code:
        return Program(text, guess_language(text)) if text.strip() else None
    return extract_program(text, problem.prologue, tested_names(problem))


def extract_program(completion: str, prologue: str | None = None, names: Collection[str] = ()) -> Program | None:
    """Return the program in `completion`, or None if there is none.

    Args:
        completion: What the model wrote.
        prologue: Code that the model was asked to continue; it is joined with a Python program.
        names: Names by which the tests call the program, if they do.
    """
    opened = read_prologue(prologue or "")
    is_code = partial(_is_code, prologue=opened)
    answer = answer_of(completion, is_code)
    blocks = [block for block in fenced_blocks(answer, is_code) if block.code.strip()]
    if len(blocks) == 1 and _is_plain(blocks[0]):
        return _complete(Program(blocks[0].code), opened)
    candidates = [
        _candidate(position, block, is_code, opened)
        for position, block in enumerate(blocks)
        if block.language in ("python", "cpp", "rust", "")
    ]
    if not any(candidate.is_program for candidate in candidates):
        first_fence = min((block.lines.start - 1 for block in blocks), default=None)
        bare = _bare_program("\n".join(answer.split("\n")[:first_fence]), names, is_code, opened)
        if bare is not None or not candidates:
            return bare and _complete(bare, opened)
    possible = [candidate for candidate in candidates if candidate.is_program] or candidates
    best = max(possible, key=partial(_rank, names=names, prologue=opened)) if len(possible) > 1 else possible[0]
    if not names:
        best = _call_of(best, candidates)
    earlier = [candidate for candidate in candidates if candidate.position < best.position and candidate.is_program]
    return _complete(_with_helpers(best.program, earlier, opened), opened)


def _call_of(best: _Candidate, candidates: list[_Candidate]) -> _Candidate:
    """Return the block that calls what a block only defines, if there is one; else that block itself."""
    module = parse(best.program.source) if best.program.language == "python" else None
    if module is None or not all(isinstance(node, _DEFINITIONS) for node in module.body):
        return best
    defined = defined_names(best.program.source)
    for candidate in candidates:
        is_later = candidate.position > best.position and candidate.program.language == "python"
        if is_later and candidate.is_program and defined & missing_names(candidate.program.source):
            return candidate
    return best


def guess_language(code: str) -> Language:
    """Return C++ for code that includes a header, Rust for code that has its `main`, else Python."""
    if _INCLUDE.search(code):
        return "cpp"
    return "rust" if _RUST_MAIN.search(code) else "python"


def _candidate(position: int, block: Block, is_code: Callable[[str], bool], prologue: Prologue) -> _Candidate:
    source, is_python = _repaired(block, is_code, prologue)
    language = _LANGUAGES.get(block.language) or guess_language(source)
    return _Candidate(block, position, Program(source, language), language != "python" or is_python)


def _is_plain(block: Block) -> bool:
    """Check for a block that needs no repair, as far as can be told without parsing, which costs a millisecond."""
    code = block.code
    has_margin = not code.lstrip("\n")[:1].isspace()
    return block.language == "python" and block.is_closed and has_margin and ">>>" not in code and "&" not in code


def _rank(candidate: _Candidate, names: Collection[str], prologue: Prologue) -> tuple[bool | int, ...]:
    """Return what decides between two candidates: the one with the greater rank is the better answer."""
    block, position, program, _ = candidate
    found = identifiers(program.source) if program.language == "python" else _WRITING
    is_complete = _solves(program, found, names, prologue)
    return is_complete, bool(found & _WRITING), block.language != "", block.is_closed, position


def _repaired(block: Block, is_code: Callable[[str], bool], prologue: Prologue) -> tuple[str, bool]:
    """Return the code of a block as it was meant, and whether it is valid Python.

    Common indent, prompts, HTML entities and prose below are removed, but only if the code becomes valid by that.
    """
    code = block.code
    if block.language in ("cpp", "rust"):
        return (html.unescape(code) if _INCLUDE_ENTITY.search(code) else code), False
    if is_code(code):
        return code, True
    repairs: list[Callable[[str], str | None]] = [textwrap.dedent]
    if _ENTITY.search(code):
        repairs.append(html.unescape)
    if ">>>" in code:
        repairs.append(_without_prompts)
    if not block.is_closed:
        repairs.append(partial(without_text_below, is_code=is_code, head=prologue.head))
    repaired = [text for repair in repairs if (text := repair(code)) is not None]
    return next(((text, True) for text in repaired if is_code(text)), (code, False))


def _without_prompts(code: str) -> str:
    """Return the lines behind the prompts of an interactive session."""
    lines = [line for line in code.split("\n") if _PROMPT.match(line)]
    return "".join(_PROMPT.sub("", line) + "\n" for line in lines)


def _bare_program(
    text: str, names: Collection[str], is_code: Callable[[str], bool], prologue: Prologue
) -> Program | None:
    text = _LABEL.sub("", text)
    if (language := guess_language(text)) != "python" and not is_code(text):
        source = bare_compiled(text)
        return Program(source, language) if source is not None else None
    if is_code(text):
        return Program(text.strip("\n") + "\n")

    def is_answer(part: str) -> bool:
        return is_code(part) and (_is_body(part, prologue) or _is_whole_answer(part, names))

    source = bare_python(text, is_answer, prologue.head, prologue.indent)
    return Program(source) if source is not None else None


def _is_whole_answer(source: str, names: Collection[str]) -> bool:
    """Check that a program cut out of prose does what the task asks: prose may happen to be Python."""
    return bool(names and defined_names(source) & set(names)) or bool(identifiers(source) & _WRITING)


def _solves(program: Program, found: Collection[str], names: Collection[str], prologue: Prologue) -> bool:
    """Check whether a program defines what the tests call; without names, whether it reads, writes and is complete."""
    source = program.source
    if program.language != "python":
        return not names and _READING_COMPILED.search(source) is not None
    if names:
        return _is_body(source, prologue) or not defined_names(source).isdisjoint(names)
    return not _READING.isdisjoint(found) and not _WRITING.isdisjoint(found) and not missing_names(source)


def _with_helpers(program: Program, earlier: list[_Candidate], prologue: Prologue) -> Program:
    """Put earlier blocks above a program that uses what they define, such as imports or a helper function."""
    if program.language != "python" or not earlier:
        return program
    source = program.source
    missing = missing_names(source) - defined_names(prologue.above)
    for candidate in reversed(earlier):
        helper = candidate.program.source
        if candidate.program.language == "python" and missing & defined_names(helper):
            source = f"{helper.rstrip()}\n\n\n{source}"
            missing = missing_names(source)
    return Program(source)


def _complete(program: Program, prologue: Prologue) -> Program:
    return Program(complete(prologue, program.source)) if program.language == "python" else program


def _is_body(source: str, prologue: Prologue) -> bool:
    """Check for the body of a function: it is no module, or returns outside functions."""
    return is_body(source, prologue) and not is_module(source)


def _is_code(text: str, prologue: Prologue) -> bool:
    """Check for Python that parses and has an effect: a single word parses as Python, too."""
    module = parse(text)
    return (module is not None and does_something(module.body)) or is_body(text, prologue)
