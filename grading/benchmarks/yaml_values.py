"""Values of YAML files, which may be anything: numbers, words and tables, or an error that names the place."""

from typing import Any

from alphamix.grading.errors import GradingError
from alphamix.wording import shown

_SCALAR = (str, int, float)


def table_of(value: Any, where: str) -> dict[str, Any]:
    """Return a table, which is empty for no value. Raises GradingError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise GradingError(f"{where}: is {_said(value)}: it should be a table of keys and values")
    return value


def words_of(value: Any, where: str) -> tuple[str, ...]:
    """Return the words of a text, or the items of a list. Raises GradingError."""
    if value is None:
        return ()
    items = value if isinstance(value, list) else str(value).split() if isinstance(value, _SCALAR) else [value]
    if not all(isinstance(item, _SCALAR) for item in items):
        raise GradingError(f"{where}: is {_said(value)}: it should be text, or a list of texts")
    return tuple(map(str, items))


def number_of(value: Any, where: str) -> float | None:
    """Return a number above 0, or None for no value. Raises GradingError."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < float("inf"):
        raise GradingError(f"{where}: is {_said(value)}: it should be a number above 0")
    return number


def _said(value: Any) -> str:
    """Return a value as an error shows it; what is nested may be far longer than its file."""
    return shown(value) if isinstance(value, _SCALAR) else f"a {type(value).__name__}"
