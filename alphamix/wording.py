"""Words of errors: what a value should be where pydantic refuses it, and the nearest known name.

Pydantic names its own types and Python's; users know text, lists and tables.
"""

import difflib
from collections.abc import Callable, Sequence
from typing import Any

_TABLE = "be a table of keys and values"
_LIST = "be a list"
_TEXT = "be text"
_WHOLE = "be a whole number"
_NUMBER = "be a number"
_BOOL = "be true or false"
_PATH = "be the path of a file or a folder"

_REQUIREMENTS: dict[str, str] = {
    "bool_parsing": _BOOL,
    "bool_type": _BOOL,
    "dataclass_type": _TABLE,
    "dict_type": _TABLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "be a smaller number",
    "int_type": _WHOLE,
    "list_type": _LIST,
    "mapping_type": _TABLE,
    "model_attributes_type": _TABLE,
    "model_type": _TABLE,
    "path_type": _PATH,
    "string_type": _TEXT,
    "string_unicode": "be text in valid Unicode",
    "tuple_type": _LIST,
}
"""What a value should do, by the kind of error: the words that follow `it should`."""

_MEASURED: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than": lambda context: f"be above {_number(context['gt'])}",
    "greater_than_equal": lambda context: f"be {_number(context['ge'])} or more",
    "less_than": lambda context: f"be below {_number(context['lt'])}",
    "less_than_equal": lambda context: f"be {_number(context['le'])} or less",
    "string_pattern_mismatch": lambda context: f"match the pattern {context['pattern']}",
    "string_too_long": lambda context: f"have {context['max_length']} characters or fewer",
    "string_too_short": lambda context: _at_least(context["min_length"], "character"),
    "too_long": lambda context: f"have {context['max_length']} items or fewer",
    "too_short": lambda context: _at_least(context["min_length"], "item"),
}
"""The same for kinds of error with a bound, which pydantic gives as the error's context."""


def requirement(fault: Any) -> str:
    """Return what a refused value should do, as it follows the words `it should`.

    Args:
        fault: One of the errors of a pydantic `ValidationError`.
    """
    kind = fault["type"]
    if kind in _REQUIREMENTS:
        return _REQUIREMENTS[kind]
    if kind in _MEASURED:
        return _MEASURED[kind](fault["ctx"])
    return str(fault["msg"]).removeprefix("Input should ").rstrip(".")


def shown(value: object) -> str:
    """Return the value as an error shows it, on one line and cut if it is long."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the end of an error about an unknown name: the nearest known name, or else all of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known are {', '.join(map(repr, known))}." if known else "none are known here."


def _at_least(number: int, thing: str) -> str:
    return f"have at least {number} {thing}{'' if number == 1 else 's'}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
