"""Checks of what public functions are given: each returns the value in its plain type, or raises one line."""

import errno
import importlib
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from alphamix.errors import AlphamixError
from alphamix.wording import shown

_MOST_OF_PATH = 200
"""Characters of a path that an error shows."""
_CURES = {
    errno.EACCES: "give a folder that you may write to",
    errno.EPERM: "give a folder that you may write to",
    errno.EROFS: "give a folder that you may write to",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOSPC: "free some space, or give another folder",
    errno.EDQUOT: "free some space, or give another folder",
}


class MissingExtraError(AlphamixError):
    """A package of an extra is not installed."""


def whole_number(name: str, value: Any, least: int, most: int | None = None, thing: str = "number") -> int:
    """Return a whole number of any numeric kind (8, 8.0, `np.int64(8)`) as an `int`.

    Args:
        name: Name of the value in the error.
        value: What the caller gave.
        least: Least number that is accepted.
        most: Greatest number that is accepted; any if None.
        thing: What the number counts, such as `number of samples`.
    """
    number = int(value) if _is_whole(value) else None
    if number is None or number < least or (most is not None and number > most):
        bounds = f"{least:,} or more" if most is None else f"from {least:,} to {most:,}"
        raise AlphamixError(f"{name} is {_quoted(value)}: give a whole {thing}, {bounds}")
    return number


def finite(name: str, value: Any) -> float:
    """Return a finite number of any numeric kind as a `float`."""
    if not _is_number(value) or not _fits_float(value):
        raise AlphamixError(f"{name} is {_quoted(value)}: give a finite number")
    return float(value)


def between(name: str, value: Any, low: float, high: float, example: str) -> float:
    """Return a number strictly between two others as a `float`."""
    if not _is_number(value) or not low < value < high:
        raise AlphamixError(
            f"{name} is {_quoted(value)}: give a number between {low:g} and {high:g}, such as {example}"
        )
    return float(value)


def text(name: str, value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise AlphamixError(f"{name} is {shown(value)}: give text")
    return value


def texts(name: str, value: Any) -> list[str]:
    """Return several texts as a list. A single text is refused, since its letters would be taken for items."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise AlphamixError(f"{name} is {shown(value)}: give a list of texts")
    items: list[Any] = list(value)
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise AlphamixError(f"{name}[{index}] is {shown(item)}: give text")
    return items


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return a text that is one of several choices."""
    if not isinstance(value, str) or value not in choices:
        known = " or ".join(filter(None, [", ".join(map(repr, choices[:-1])), repr(choices[-1])]))
        raise AlphamixError(f"{name} is {shown(value)}: give {known}")
    return value


def mapping(name: str, value: Any) -> dict[Any, Any]:
    """Return a mapping as a dictionary."""
    if not isinstance(value, Mapping):
        raise AlphamixError(f"{name} is {shown(value)}: give a dictionary of names and numbers")
    return dict(value)


def path(name: str, value: Any, wanted: str = "the path of a file or a folder") -> Path:
    """Return a path that was given as text or as a `Path`."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise AlphamixError(f"{name} is {shown(value)}: give {wanted}")
    return Path(value)


def module(name: str, what: str, extra: str) -> Any:
    """Import a module of this package that needs an extra.

    Raises:
        MissingExtraError: a package of the extra is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{what} needs the package {error.name}: pip install 'alphamix[{extra}]'") from error


def folder(where: Path) -> Path:
    """Make a folder unless it exists, and check that files can be written to it.

    Raises:
        AlphamixError: the folder cannot be made, or cannot be written to.
    """
    try:
        where.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise AlphamixError(f"{where} cannot be made, since a file has that name: give another folder") from None
    except OSError as error:
        raise unwritable(where, error) from error
    try:
        with tempfile.TemporaryFile(dir=where):
            return where
    except OSError as error:
        raise unwritable(where, error) from error


def unwritable(where: Path, error: OSError) -> AlphamixError:
    """Return the error for a folder that the system refuses to make or to write to, with the cure for its cause."""
    name = str(where)
    name = name if len(name) <= _MOST_OF_PATH else f"{name[:_MOST_OF_PATH]}…"
    cure = _CURES.get(error.errno or 0, "give another folder")
    return AlphamixError(f"{name} cannot be written ({error.strerror}): {cure}")


def _is_number(value: Any) -> bool:
    """Return whether a value is one number. Truth values are none, though Python counts with them."""
    return not isinstance(value, bool) and isinstance(value, Real)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, Integral) or (math.isfinite(value) and value == int(value)))


def _fits_float(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _quoted(value: Any) -> str:
    """Return a value as an error shows it: numbers of numpy as those of Python, everything else as its literal."""
    return shown(value.item() if hasattr(value, "item") and _is_number(value) else value)
