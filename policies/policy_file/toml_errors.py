"""Reading of TOML into typed tables. An error of a file is one line: where, what, and what to do.

Used for policies and for experiments; knows the keys of neither.
"""

import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from alphamix.wording import nearest, requirement, shown

Table = TypeVar("Table", bound=BaseModel)
Location: TypeAlias = Sequence[int | str]

_ORDER = {"extra_forbidden": 0, "missing": 2}
"""Of several errors an unknown key is reported first, since it often explains a key that is missing."""


def read_toml(path: Path, error: type[Exception]) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        error: there is no such file, or it is not TOML, as when a name is given twice.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"there is no file {path}: give the path of a TOML file.") from None
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason.strerror}): give the path of a TOML file.") from reason
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not UTF-8 text (byte {reason.start}): save it as UTF-8.") from reason
    except tomllib.TOMLDecodeError as reason:
        raise error(f"{path} is not valid TOML: {reason}; correct that place.") from reason


def validated(
    model: type[Table],
    data: object,
    source: str | Path,
    error: type[Exception],
    overrides: Mapping[str, str] | None = None,
) -> Table:
    """Check data against a pydantic model (with `extra="forbid"`) and return the model's instance.

    Args:
        model: what the data should be.
        data: as read.
        source: where the data come from.
        error: the class of errors.
        overrides: where single values come from instead, by dotted key.

    Raises:
        error: one line about the first fault, naming its source and the dotted key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as invalid:
        faults = sorted(invalid.errors(include_url=False), key=lambda fault: _ORDER.get(fault["type"], 1))
        raise error(_sentence(model, faults[0], _source_of(faults[0]["loc"], source, overrides or {}))) from None


def _source_of(location: Location, source: str | Path, overrides: Mapping[str, str]) -> str | Path:
    """Return where the value at a location comes from: a value that was given for it, or for a part of it."""
    place = f"{_dotted(location)}."
    return next(
        (given for key, given in overrides.items() if place.startswith(f"{key}.") or f"{key}.".startswith(place)),
        source,
    )


def _sentence(model: type[BaseModel], fault: Any, source: str | Path) -> str:
    location: tuple[int | str, ...] = fault["loc"]
    table = f"[{_dotted(location[:-1])}] of {source}" if location[:-1] else str(source)
    key = str(location[-1]) if location else ""
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r} in {table}: {nearest(key, _known_keys(model, location[:-1]))}"
    if fault["type"] == "missing":
        return f"key {key!r} is missing in {table}: add it."
    place = f"{_dotted(location)} of {source}" if location else str(source)
    if fault["type"] == "value_error":
        message = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
        return f"{place}: {message}" if message.endswith("?") else f"{place}: {message}."
    should = f"it should {requirement(fault)}."
    return f"{place} is {shown(fault['input'])}: {should}" if _may_be_shown(model, location) else f"{place}: {should}"


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def _known_keys(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys of the table at `location`, found by walking the annotations."""
    here: list[Any] = [model]
    for step in location:
        here = [inner for annotation in here for inner in _inside(annotation, step)]
    return [key for table in here if _is_model(table) for key in table.model_fields]


def _may_be_shown(model: type[BaseModel], location: Location) -> bool:
    """Return whether no value that leads to `location` has `repr=False`, which fields with secrets have."""
    here: list[Any] = [model]
    for step in location:
        if any(_is_model(table) and step in table.model_fields and not table.model_fields[step].repr for table in here):
            return False
        here = [inner for annotation in here for inner in _inside(annotation, step)]
    return True


def _inside(annotation: Any, step: int | str) -> Iterable[Any]:
    """Return the types one step down: behind a field, a key, an index, or pydantic's label of a union's member."""
    if not _is_model(annotation):
        return _members(get_args(annotation))
    if step == annotation.__name__:  # the label
        return [annotation]
    return _members(field.annotation for key, field in annotation.model_fields.items() if key == step)


def _members(annotations: Iterable[Any]) -> Iterator[Any]:
    """Yield the types, with the members of a union, or the type behind `Annotated`, in place of it."""
    for annotation in annotations:
        if get_origin(annotation) in (Annotated, Union, types.UnionType):
            yield from _members(get_args(annotation))
        else:
            yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
