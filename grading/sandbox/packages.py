"""Installed packages that programs may import: which files they consist of, with those of their dependencies.

Only these files are visible in the sandbox. A program that names none of the packages runs in a sandbox without them.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from alphamix.grading.errors import GradingError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Packages:
    """Some distributions and their dependencies, as they are installed here."""

    names: tuple[str, ...]
    """Import names of the distributions that were asked for, which a sandbox imports before it runs programs."""
    location_of_name: dict[str, str]
    """File of each top-level module; for a package, that of its `__init__`."""
    readable: tuple[str, ...]
    """Directories and files that the modules consist of."""

    def are_named_in(self, source: bytes) -> bool:
        """Check whether a program contains the name of a module, without which it cannot import it."""
        words = "|".join(map(re.escape, self.location_of_name))
        return re.search(rf"\b(?:{words})\b".encode(), source) is not None

    def to_json(self) -> str:
        """Return what the process in the sandbox needs to know, as JSON."""
        return json.dumps([self.names, self.location_of_name, self.readable])


NO_PACKAGES = Packages((), {}, ())


def find_packages(distributions: Iterable[str]) -> Packages:
    """Return the files of distributions and of their dependencies.

    Raises GradingError for a distribution that is not installed.
    """
    return _find(tuple(sorted(set(distributions))))


def packages_for(source: bytes, distributions: Iterable[str]) -> Packages:
    """Return distributions if a Python program names any of their modules or their dependencies', else no packages.

    Raises GradingError for a distribution that is not installed.
    """
    packages = find_packages(distributions)
    return packages if packages.names and packages.are_named_in(source) else NO_PACKAGES


@cache
def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Return the version of each distribution. Raises GradingError if one is not installed."""
    return {name: _distribution(name).version for name in distributions}


@cache
def _find(wanted: tuple[str, ...]) -> Packages:
    location_of_name: dict[str, str] = {}
    readable: list[str] = []
    names: list[str] = []
    for distribution in _with_dependencies([_distribution(name) for name in wanted]):
        own_names: list[str] = []
        for entry in _top_level_entries(distribution):
            readable.append(str(entry))
            name, module = entry.name.partition(".")[0], entry / "__init__.py" if entry.is_dir() else entry
            if "." not in entry.name and not module.exists():
                continue  # a directory of data
            if entry.is_file() or "." not in entry.name:
                location_of_name[name] = str(module)
                own_names.append(name)
        if distribution.name in wanted or _normalised(distribution.name) in map(_normalised, wanted):
            if not own_names:
                raise GradingError(
                    f"the package {distribution.name} has no files of its own here, as after `pip install --editable`: "
                    "install it without that option"
                )
            names += own_names
    return Packages(tuple(names), location_of_name, tuple(readable))


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        meant = metadata.packages_distributions().get(name)
        cure = f"give {meant[0]}, which provides it" if meant else f"pip install {name}, or leave it out"
        raise GradingError(f"the package {name!r} is not installed: {cure}") from None


def _with_dependencies(distributions: Iterable[metadata.Distribution]) -> Iterator[metadata.Distribution]:
    """Yield distributions, and what they need without extras. A dependency that is absent is not needed here."""
    pending, seen = list(distributions), set[str]()
    while pending:
        distribution = pending.pop()
        if (key := _normalised(distribution.name)) in seen:
            continue
        seen.add(key)
        yield distribution
        for requirement in distribution.requires or ():
            match = _NAME.match(requirement)
            if match and "extra ==" not in requirement:
                pending += metadata.distributions(name=match[0])


def _top_level_entries(distribution: metadata.Distribution) -> Iterator[Path]:
    """Yield the directories and modules of a distribution in the directory where packages are installed."""
    tops = {file.parts[0]: file for file in distribution.files or () if ".." not in file.parts}
    for top in sorted(tops):
        is_file = len(tops[top].parts) == 1
        if top == "__pycache__" or top.endswith((".dist-info", ".egg-info", ".data")):
            continue
        if not is_file or top.endswith((".py", ".so")):
            entry = Path(str(distribution.locate_file(top))).resolve()
            if entry.exists():
                yield entry


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
