"""Validators of output in packages of Kattis: the format's own with its flags, or a program of the package."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alphamix.grading.benchmarks.packages import Package
from alphamix.grading.benchmarks.yaml_values import number_of, words_of
from alphamix.grading.checkers.interfaces import runnable_source
from alphamix.grading.errors import GradingError, UnfitError
from alphamix.grading.types import Checker, FloatTolerance, Language, Program, ProgramChecker, TokenRules, TokensChecker

LANGUAGES: dict[str, Language] = {".py": "python", ".py3": "python", ".cc": "cpp", ".cpp": "cpp", ".rs": "rust"}
"""Languages of programs, by the end of their file's name, in the order in which a reference is looked for."""
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"[^\n]*$', re.MULTILINE)
_TOLERANCES = {
    "float_tolerance": ("abs", "rel"),
    "float_absolute_tolerance": ("abs",),
    "float_relative_tolerance": ("rel",),
}


def validation_of(about: dict[str, Any]) -> tuple[str, ...]:
    """Return the words of the key `validation`: `default`, or `custom` with what else it is."""
    return words_of(about.get("validation"), "problem.yaml: validation")


def checker_of(package: Package, about: dict[str, Any], flags: Sequence[str]) -> Checker:
    """Return the checker of a package whose groups give these flags. Raises GradingError, which names the file."""
    flags = (*words_of(about.get("validator_flags"), "problem.yaml: validator_flags"), *flags)
    is_custom = "custom" in validation_of(about)
    folder = "output_validators" if is_custom else "output_validator"
    if is_custom or package.names(folder, ""):
        checker = ProgramChecker(program=_validator(package, folder), interface="kattis", arguments=tuple(flags))
        runnable_source(checker)  # raises for a language that it cannot be in
        return checker
    return default_validator(flags)


def default_validator(flags: Sequence[str]) -> TokensChecker:
    """Return the checker that is the format's own validator with some flags. Raises GradingError for an unknown one."""
    tolerances: dict[str, float] = {"abs": 0.0, "rel": 0.0}
    words, given = iter(flags), set[str]()
    for word in words:
        given.add(word)
        if word in _TOLERANCES:
            value = number_of(next(words, None), f"validator flag {word}")
            if value is None:
                raise GradingError(f"validator flag {word}: has no number behind it: add one")
            tolerances |= dict.fromkeys(_TOLERANCES[word], value)
        elif word not in ("case_sensitive", "space_change_sensitive"):
            raise GradingError(f"validator flag {word!r}: the default validator has none of this name: correct it")
    return TokensChecker(
        tokens=TokenRules(
            ignore_case="case_sensitive" not in given,
            keep_spaces="space_change_sensitive" in given,
            floats=FloatTolerance(**tolerances) if given & _TOLERANCES.keys() else None,
        )
    )


def _validator(package: Package, folder: str) -> Program:
    """Return the one program of a folder, with the headers that stand beside it in its source."""
    names = package.names(folder, "")
    sources = [name for name in names if Path(name).suffix in LANGUAGES]
    if len(sources) != 1:
        raise UnfitError(
            f"{folder}: has {len(sources)} files of Python, C++ or Rust ({', '.join(names)}): one is needed"
        )
    (name,) = sources
    return Program(_with_includes(package, name, []), LANGUAGES[Path(name).suffix])


def _with_includes(package: Package, name: str, above: list[str]) -> str:
    source = package.text(name)
    if LANGUAGES.get(Path(name).suffix, "cpp") != "cpp":
        return source

    def included(found: re.Match[str]) -> str:
        header = (Path(name).parent / found[1]).as_posix()
        if header in above or not package.has(header):
            return "" if header in above else found[0]
        above.append(header)
        return _with_includes(package, header, above)

    return _INCLUDE.sub(included, source)
