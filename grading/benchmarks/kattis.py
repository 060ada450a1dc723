"""Problem packages of Kattis and ICPC, in the legacy format and in that of 2025-09, as folders or as zip files.

https://www.kattis.com/problem-package-format. Tests are those of `data/sample`, which are public, then those of
`data/secret`. Groups of tests become levels of coverage: where each group holds the tests of the one before it, as the
contents of files tell, these are the levels; else each level is the union of a group with all before it, and the
problem's metadata say so. Validators of output run in the sandbox, with their flags. Interactive problems, and others
that are not solved by one program from input to output, are refused.

A package is data: its programs run nowhere else, symbolic links may point to files of the package only, and files that
are too large are refused before they are read.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from alphamix.grading.benchmarks.kattis_validators import LANGUAGES, checker_of, validation_of
from alphamix.grading.benchmarks.packages import Package, each_package
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.benchmarks.yaml_values import number_of, table_of, words_of
from alphamix.grading.errors import GradingError, UnfitError
from alphamix.grading.problems import each_of
from alphamix.grading.types import Problem, Test

TIME_LIMIT_S = 10.0
"""The limit where a package states none: judges then derive one from their own runs of its solutions."""
_MULTIPLIER, _LEGACY_MULTIPLIER = 2.0, 5.0
MEMORY_LIMIT_MB = 2048.0
"""The limit where a package states none, as the format has it."""
_REFUSED = ("interactive", "multi-pass", "multipass", "submit-answer")
_NAME = re.compile(r"\\problemname\{(.*)\}|^#\s+(.*)$", re.MULTILINE)
_GROUP_FILES = ("testdata.yaml", "test_group.yaml")


class _Case(NamedTuple):
    """One test as the package has it."""

    group: str
    """Folder below `data/secret`, or `sample`."""
    digest: str
    """Hash of input and answer, by which equal tests of several groups are known."""
    test: Test


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the problems of a package, or of all packages below a folder, or why a package is none.

    Nothing can be selected. Raises GradingError if there is no package.
    """

    def parse(package: Package, where: str) -> Problem:
        try:
            return convert(package)
        except GradingError as error:
            raise type(error)(f"{where}: {error}") from None

    return each_of(each_package(path), parse)


def convert(package: Package) -> Problem:
    """Return the problem of a package. Raises GradingError, which names the file and its key."""
    about = package.yaml("problem.yaml")
    _refuse_other_kinds(about)
    cases, flags = _cases(package)
    if not cases:
        raise GradingError("data has no tests (NAME.in with NAME.ans): a package without them cannot be judged")
    samples = [case for case in cases if case.group == "sample"]
    order, levels, are_unions = _levels(cases)
    limits = table_of(about.get("limits"), "problem.yaml: limits")
    time_limit, is_stated = _time_limit(package, limits)
    title, text = _statement(package, about)
    metadata: dict[str, Any] = {"title": title}
    if are_unions:
        metadata["levels"] = "unions of each group with those before it: no chain of groups holds one another"
    if not is_stated:
        metadata |= {"time_limit": f"the package states none: {TIME_LIMIT_S:g} s", **_multiplier(limits)}
    shown = "".join(_sample(number, case.test) for number, case in enumerate(_unique(samples), start=1))
    return Problem(
        id=package.name,
        statement=f"{title}\n\n{text.strip()}\n{shown}",
        tests=order,
        time_limit_s=time_limit,
        memory_limit_mb=number_of(limits.get("memory"), "problem.yaml: limits.memory") or MEMORY_LIMIT_MB,
        checker=checker_of(package, about, flags),
        public_tests=len(_unique(samples)),
        test_order="given",
        levels=levels,
        reference=_reference(package),
        metadata=metadata,
    )


def _refuse_other_kinds(about: dict[str, Any]) -> None:
    words = {*words_of(about.get("type"), "problem.yaml: type"), *validation_of(about)}
    if refused := [word for word in _REFUSED if word in words]:
        raise UnfitError(f"is {refused[0]}, which cannot be judged: only programs from input to output are")


def _cases(package: Package) -> tuple[list[_Case], tuple[str, ...]]:
    """Return the tests in the order of their names, samples first, and the flags for the validator of their output."""
    found: list[_Case] = []
    flags_of_group: dict[str, tuple[str, ...]] = {}
    for part in ("data/sample", "data/secret"):
        for name in package.names(part, ".in"):
            stem = name.removesuffix(".in")
            group = Path(name).parent.as_posix()
            if not package.has(f"{stem}.ans"):
                raise GradingError(f"{name}: has no {Path(stem).name}.ans beside it: add the answer")
            own = package.yaml(f"{stem}.yaml") if package.has(f"{stem}.yaml") else {}
            if own.get("args"):
                raise UnfitError(f"{stem}.yaml: args: programs get no arguments here: leave this package out")
            if package.has(f"{stem}.files"):
                raise UnfitError(f"{stem}.files: programs get no files here: leave this package out")
            if group not in flags_of_group:
                flags_of_group[group] = _flags(package, group)
            given, expected = package.text(name), package.text(f"{stem}.ans")
            digest = hashlib.sha256(f"{len(given)} {given}{expected}".encode()).hexdigest()
            place = "sample" if part == "data/sample" else group.removeprefix("data/secret").strip("/")
            found.append(_Case(place, digest, Test(input=given, output=expected)))
    if len(distinct := set(flags_of_group.values())) > 1:
        raise UnfitError(f"data: groups give the validator different flags ({sorted(distinct)}): leave it out")
    return found, next(iter(distinct), ())


def _flags(package: Package, group: str) -> tuple[str, ...]:
    """Return the flags that a group, or the nearest folder above it, gives the validator of its output."""
    folder = Path(group)
    while folder.as_posix() != ".":
        for name in _GROUP_FILES:
            file = f"{folder.as_posix()}/{name}"
            about = package.yaml(file) if package.has(file) else {}
            for key in ("output_validator_flags", "output_validator_args"):
                if key in about:
                    return words_of(about[key], f"{file}: {key}")
        folder = folder.parent
    return ()


def _levels(cases: Sequence[_Case]) -> tuple[list[Test], dict[str, int], bool]:
    """Return distinct tests in nested order, the number of tests of each level, and whether levels are unions."""
    digests_of_group: dict[str, set[str]] = {}
    for case in cases:
        for group in _with_those_above(case.group):
            digests_of_group.setdefault(group, set()).add(case.digest)
    secret = [group for group in digests_of_group if group not in ("sample", "")]
    by_size = sorted(secret, key=lambda group: (len(digests_of_group[group]), group))
    is_chain = all(digests_of_group[one] <= digests_of_group[other] for one, other in pairwise(by_size))
    names = ["sample", *(by_size if is_chain else secret), ""]
    case_of_digest: dict[str, _Case] = {}
    levels: dict[str, int] = {}
    for name in names:
        before = len(case_of_digest)
        for case in cases:
            if case.digest in digests_of_group.get(name, ()):
                case_of_digest.setdefault(case.digest, case)
        if len(case_of_digest) > before:
            levels[name or "secret"] = len(case_of_digest)
    tests = [case.test for case in case_of_digest.values()]
    return tests, levels if len(levels) > 1 else {}, not is_chain


def _with_those_above(group: str) -> Iterator[str]:
    """Yield a group and the groups that it is within; the empty name is all secret tests."""
    yield group
    if group not in ("sample", ""):
        yield from _with_those_above(group.rpartition("/")[0])


def _unique(cases: Sequence[_Case]) -> list[_Case]:
    return list({case.digest: case for case in cases}.values())


def _time_limit(package: Package, limits: dict[str, Any]) -> tuple[float, bool]:
    """Return the limit in seconds, and whether the package states it."""
    stated = number_of(limits.get("time_limit"), "problem.yaml: limits.time_limit")
    if stated is None and package.has(".timelimit"):
        stated = number_of(package.text(".timelimit").strip(), ".timelimit")
    return (TIME_LIMIT_S, False) if stated is None else (stated, True)


def _multiplier(limits: dict[str, Any]) -> dict[str, float]:
    """Return how the limit follows from the time of the slowest solution: `verification.with_measured_limit`."""
    newer = limits.get("time_multipliers")
    if isinstance(newer, dict):  # some legacy packages have a number here, which means nothing
        multiplier = number_of(newer.get("ac_to_time_limit"), "problem.yaml: limits.time_multipliers.ac_to_time_limit")
        return {"time_multiplier": multiplier or _MULTIPLIER}
    stated = number_of(limits.get("time_multiplier"), "problem.yaml: limits.time_multiplier")
    return {"time_multiplier": stated or _LEGACY_MULTIPLIER}


def _reference(package: Package) -> str | None:
    """Return an accepted solution in one file, in Python if there is one; None where solutions get more files."""
    if package.has("include"):
        return None
    folder = "submissions/accepted"
    for suffix in LANGUAGES:
        for name in package.names(folder, suffix):
            if Path(name).parent.as_posix() == folder:
                return package.text(name)
    return None


def _statement(package: Package, about: dict[str, Any]) -> tuple[str, str]:
    """Return the title and the text, in English if there is one."""
    names = [
        name
        for folder in ("statement", "problem_statement")
        for suffix in (".md", ".tex")
        for name in package.names(folder, suffix)
        if Path(name).name.startswith("problem.")
    ]
    if not names:
        raise GradingError("has no statement/problem.en.tex or problem.en.md: add the statement")
    name = next((name for name in names if ".en." in name), names[0])
    text = package.text(name)
    stated = about.get("name")
    if isinstance(stated, dict):
        stated = stated.get("en") or next(iter(stated.values()), None)
    heading = _NAME.search(text)
    in_text = next(filter(None, heading.groups()), None) if heading else None
    title = stated if isinstance(stated, str) and stated.strip() else in_text or package.name
    return title, _NAME.sub("", text, count=1) if heading else text


def _sample(number: int, test: Test) -> str:
    return (
        f"\nSample Input {number}:\n```\n{test.input.rstrip()}\n```\n"
        f"Sample Output {number}:\n```\n{test.output.rstrip()}\n```\n"
    )
