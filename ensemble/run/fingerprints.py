"""Whether a run is gone on with by the experiment that planned it, and if not, what has changed since.

Samples and verdicts of two different things must never stand in one record. What they depend on is
`Inputs.identity`, hashes for the most part: this module keeps what it takes to name a difference, and names it.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import Inputs
from alphamix.ensemble.store import Store
from alphamix.grading.problems import fingerprint
from alphamix.grading.types import Problem

_PROBLEMS = "problem_hashes"
"""Key of what older runs do not hold: a short hash of each problem, by which a changed one is found."""
_DIGITS = 12
_MOST_NAMED = 4
_LONGEST = 60
"""Characters of a value that are shown."""


def problem_hashes(problems: Sequence[Problem]) -> dict[str, str]:
    """What is kept with a plan beside `Inputs.identity`, so that a problem that has changed can be named."""
    return {_PROBLEMS: json.dumps(_hashes(problems))}


def check_unchanged(store: Store, inputs: Inputs, now: Mapping[str, str]) -> None:
    """Refuse to go on with a run whose plan was made from something else.

    Args:
        store: the run's record, with a plan.
        inputs: what it is to be gone on with.
        now: their identity.

    Raises:
        ExperimentError: names each thing that changed, with its value then and now where that is short.
    """
    planned = store.about()
    before = planned.pop(_PROBLEMS, None)
    keys = [key for key in {**planned, **now} if planned.get(key) != now.get(key)]
    if not keys:
        return
    changes: list[str] = []
    for key in keys:
        section, _, name = key.partition(".")
        if key == "problems":
            hashes = dict.fromkeys(dict.fromkeys(problem for _, problem in store.cells()), "")
            changes.append(_change_of_problems(json.loads(before) if before else hashes, inputs.problems))
        elif section == "policies":
            changes.append(_change_of_policy(name, key in planned, key in now, store.path.parent, inputs))
        else:
            changes.append(_change(key, planned.get(key), now.get(key)))
    named = "; ".join(changes[:_MOST_NAMED])
    more = f"; and {len(changes) - _MOST_NAMED} more" if len(changes) > _MOST_NAMED else ""
    raise ExperimentError(
        f"{store.path.parent} holds a run of something else ({named}{more}): restore what it was, give another "
        "--output-dir, or remove that folder to start over"
    )


def _hashes(problems: Sequence[Problem]) -> dict[str, str]:
    return {problem.id: fingerprint([problem])[:_DIGITS] for problem in problems}


def _change_of_problems(before: Mapping[str, str], problems: Sequence[Problem]) -> str:
    """Say how problems differ; those of older runs are known by their names only, with empty hashes."""
    now = _hashes(problems)
    kinds = {
        "new": [name for name in now if name not in before],
        "missing": [name for name in before if name not in now],
        "changed": [name for name in now if before.get(name) and before[name] != now[name]],
    }
    found = [_some(kind, names) for kind, names in kinds.items() if names]
    if len(before) != len(now):
        found.insert(0, f"{len(before)} problems then, {len(now)} now")
    if not found:
        order = list(before) != list(now)
        found = ["the problems are in another order" if order else "the statement or the tests of a problem changed"]
    return ", ".join(found)


def _some(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"problem {names[0]!r}{more} {'is' if len(names) == 1 else 'are'} {kind}"


def _change_of_policy(name: str, was_planned: bool, is_there: bool, folder: Path, inputs: Inputs) -> str:
    """Say how a policy differs from what the run's own file says of it."""
    if not was_planned:
        return f"policy {name!r} is new"
    if not is_there:
        return f"policy {name!r} is missing"
    before: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        before = tomllib.loads((folder / "policies.toml").read_text(encoding="utf-8")).get("policies", {})
    now: dict[str, Any] = inputs.registry.to_toml(folder)["policies"]
    then_entries, now_entries = dict(_flat(before.get(name, {}))), dict(_flat(now[name]))
    keys = [key for key in {**then_entries, **now_entries} if then_entries.get(key) != now_entries.get(key)]
    if not before:  # it was killed before it wrote that file
        return f"policy {name!r} differs"
    if not keys:
        return f"policy {name!r} has other weights: files that it is made from have changed"
    return f"policy {name!r} differs: " + ", ".join(
        _change(key, _text(then_entries, key), _text(now_entries, key)) for key in keys
    )


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _text(entries: Mapping[str, Any], key: str) -> str | None:
    return json.dumps(entries[key]) if key in entries else None


def _change(key: str, before: str | None, now: str | None) -> str:
    """Say what a value was and is, unless it is long."""
    if max(len(before or ""), len(now or "")) > _LONGEST:
        return f"{key} differs"
    return f"{key} was {before or 'not given'}, is {now or 'not given'}"
