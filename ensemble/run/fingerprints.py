"""The identity of a run, and the check that a resumed run matches the experiment that planned it.

Samples and verdicts of two different experiments must never meet in one record. The identity is everything that they
depend on, mostly as hashes; hashes of single problems are stored beside it, so that a difference can be named.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import SamplingInputs
from alphamix.ensemble.experiment.schema import AgentSection, ReasoningSection, ToolSection
from alphamix.ensemble.settings.own_agent import short_reference, source_hash
from alphamix.ensemble.store import Store
from alphamix.grading.problems import fingerprint
from alphamix.grading.types import Problem
from alphamix.policies.registry import Registry

_PROBLEMS = "problem_hashes"
"""Key of a short hash of each problem, by which a changed one is found. Runs of early versions lack it."""
_DIGITS = 12
_MAX_NAMED = 4
"""Changes that one error shows."""
_MAX_SHOWN_CHARACTERS = 60
"""Length of the longest value that an error shows."""

_SAMPLES_DO_NOT_DEPEND_ON = {
    *("concurrency", "choices", "samples"),
    *("first_byte_timeout_s", "idle_timeout_s", "deadline_s"),
}
"""Keys of `sampling` that may change when a run is resumed."""

_ADDED_KEYS: dict[str, Any] = {
    "thinking": None,
    "reasoning": ReasoningSection().model_dump(mode="json", exclude_none=True),
    "tool": ToolSection().model_dump(mode="json", exclude_none=True),
    "agent": AgentSection().model_dump(mode="json", exclude_none=True),
}
"""Keys of `sampling` that runs of early versions do not have, with the value that they mean by that."""


def identity(inputs: SamplingInputs, packages: Sequence[str] = ()) -> dict[str, str]:
    """Return everything that samples and verdicts depend on, by name; `packages` are those of `grading`."""
    sampling = inputs.section.model_dump(mode="json", exclude=_SAMPLES_DO_NOT_DEPEND_ON)
    for key, value in sampling.items():  # a setting's section is what it was before keys were added to it
        if isinstance(value, dict):
            sampling[key] = _without_none(value)
    registry = inputs.registry
    engine = registry.engine
    own_agent: dict[str, str] = {}
    if (loop := inputs.section.agent.loop) is not None:
        sampling["agent"]["loop"] = short_reference(loop)
        own_agent["sampling.agent.source"] = source_hash(loop)
    return {
        "problems": fingerprint(inputs.problems),
        # Runs of early versions do not name their engine: it was always this one.
        **({"engine": engine.name} if engine.name != "transformers" else {}),
        **({"engine.dtype": engine.dtype} if engine.dtype else {}),
        **({"grading.packages": json.dumps(sorted(packages))} if packages else {}),
        **{
            f"sampling.{key}": json.dumps(value)
            for key, value in sampling.items()
            if key not in _ADDED_KEYS or value != _ADDED_KEYS[key]
        },
        **own_agent,
        **{f"policies.{name}": registry.fingerprint(name) for name in registry.names},
    }


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def problem_hashes(problems: Sequence[Problem]) -> dict[str, str]:
    """Return what is stored with a plan beside its identity, so that a changed problem can be named."""
    return {_PROBLEMS: json.dumps(_hashes(problems))}


def check_unchanged(store: Store, inputs: SamplingInputs, now: Mapping[str, str]) -> None:
    """Check that a resumed run matches the experiment that planned it.

    Args:
        store: the run's record, with a plan.
        inputs: of the experiment that resumes it.
        now: the identity of these inputs.

    Raises:
        ExperimentError: names each change, with the value then and now where that is short.
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
            changes.append(_change_of_policy(name, key in planned, key in now, store.path.parent, inputs.registry))
        else:
            changes.append(_change(key, planned.get(key), now.get(key)))
    named = "; ".join(changes[:_MAX_NAMED])
    more = f"; and {len(changes) - _MAX_NAMED} more" if len(changes) > _MAX_NAMED else ""
    raise ExperimentError(
        f"{store.path.parent} holds a run of another experiment ({named}{more}): restore what has changed, give "
        "another --output-dir (in Python: output_dir), or remove that folder to start over"
    )


def _hashes(problems: Sequence[Problem]) -> dict[str, str]:
    return {problem.id: fingerprint([problem])[:_DIGITS] for problem in problems}


def _change_of_problems(before: Mapping[str, str], problems: Sequence[Problem]) -> str:
    """Describe how problems differ. Of runs of early versions only the names are known; their hashes are empty."""
    now = _hashes(problems)
    kinds = {
        "new": [name for name in now if name not in before],
        "missing": [name for name in before if name not in now],
        "changed": [name for name in now if before.get(name) and before[name] != now[name]],
    }
    changes = [_some(kind, names) for kind, names in kinds.items() if names]
    if len(before) != len(now):
        changes.insert(0, f"{len(before)} problems then, {len(now)} now")
    if not changes:
        is_reordered = list(before) != list(now)
        changes = [
            "the order of the problems changed" if is_reordered else "the statement or tests of a problem changed"
        ]
    return ", ".join(changes)


def _some(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"problem {names[0]!r}{more} {'is' if len(names) == 1 else 'are'} {kind}"


def _change_of_policy(name: str, was_planned: bool, exists: bool, folder: Path, registry: Registry) -> str:
    """Describe how a policy differs from the copy of the policies file in the run's folder."""
    if not was_planned:
        return f"policy {name!r} is new"
    if not exists:
        return f"policy {name!r} is missing"
    before: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        before = tomllib.loads((folder / "policies.toml").read_text(encoding="utf-8")).get("policies", {})
    now: dict[str, Any] = registry.to_toml(folder)["policies"]
    old_entries, new_entries = dict(_flat(before.get(name, {}))), dict(_flat(now[name]))
    keys = [key for key in {**old_entries, **new_entries} if old_entries.get(key) != new_entries.get(key)]
    if not before:  # the run was killed before it wrote that file
        return f"policy {name!r} differs"
    if not keys:
        return f"policy {name!r} has other weights: files that it is made from have changed"
    return f"policy {name!r} differs: " + ", ".join(
        _change(key, _text(old_entries, key), _text(new_entries, key)) for key in keys
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
    """Return the old and the new value, unless one is long."""
    if max(len(before or ""), len(now or "")) > _MAX_SHOWN_CHARACTERS:
        return f"{key} differs"
    return f"{key} was {before or 'not given'}, is now {now or 'not given'}"
