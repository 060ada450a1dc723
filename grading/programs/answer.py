"""The part of a completion that is the answer: without reasoning, and without what follows the end of the turn.

Reasoning stands in tags such as `<think>`. Where the chat template has opened it, the completion has the closing tag
alone. A tag inside a program is part of the program: outside of strings and comments it would not be valid Python.
"""

import re
from bisect import bisect_right
from collections.abc import Callable

from alphamix.grading.programs.fences import fenced_blocks

_MARKER = re.compile(
    r"(?P<begin><(?:think|thinking|thought|reasoning)>|\[THINK\]|<\|begin_of_thought\|>|◁think▷"
    r"|<\|channel\|>(?:analysis|commentary)<\|message\|>)"
    r"|(?P<end></(?:think|thinking|thought|reasoning)>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷"
    r"|<\|channel\|>final<\|message\|>)"
    r"|(?P<stop><\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end|return|user|start_header_id|EOT|eom_id)\|>"
    r"|</s>|<end_of_turn>|<start_of_turn>|<eos>|<｜end▁of▁sentence｜>|<[|]file_separator[|]>|\[/INST\])",
    re.IGNORECASE,
)
"""Where reasoning begins and ends, and where the turn ends, in the templates of common models."""


def answer_of(completion: str, is_code: Callable[[str], bool]) -> str:
    """Return the answer in a completion, with `\\n` as the end of every line.

    `is_code` tells whether a text is a program; see `fenced_blocks`. Unfinished reasoning leaves an empty answer, or
    what came before it.
    """
    text = completion.removeprefix("\ufeff").replace("\r\n", "\n")
    markers = list(_MARKER.finditer(text)) if any(sign in text for sign in "<[◁") else []
    if not markers:
        return text
    code = _lines_of_code(text, is_code)
    line_starts = [0, *(end.end() for end in re.finditer("\n", text))]
    kept: list[str] = []
    start, is_reasoning = 0, False
    for marker in markers:
        if bisect_right(line_starts, marker.start()) - 1 in code:
            continue
        if marker["end"]:
            kept = kept if is_reasoning else []
            start, is_reasoning = marker.end(), False
        elif not is_reasoning:
            kept.append(text[start : marker.start()])
            if marker["stop"] and kept[-1].strip():
                return "".join(kept)
            start, is_reasoning = marker.end(), bool(marker["begin"])
    return "".join(kept if is_reasoning else [*kept, text[start:]])


def _lines_of_code(text: str, is_code: Callable[[str], bool]) -> set[int]:
    """Return the numbers of the lines whose tags belong to a program."""
    if is_code(text):
        return set(range(text.count("\n") + 1))
    found: set[int] = set()
    lines = text.split("\n")
    for block in fenced_blocks(text, is_code):
        if block.language == "cpp":  # which is not parsed here
            found |= {number for number in block.lines if '"' in lines[number]}
        elif is_code(block.code):
            found |= set(block.lines)
    return found
