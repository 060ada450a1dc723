"""The benchmarks that users can name: what each is, under which licence, where its files are, and what reads them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from alphamix.grading.benchmarks import (
    apps,
    codecontests,
    codecontests_plus,
    humaneval,
    kattis,
    livecodebench,
    mbpp,
    plus,
    taco,
)
from alphamix.grading.benchmarks.hub import HubFiles, fetch
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError, UnfitError
from alphamix.grading.problems import each_problem, parse_problem
from alphamix.grading.types import Problem
from alphamix.wording import nearest


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One published benchmark, or a format that many problems are published in."""

    name: str
    summary: str
    paper: str
    licence: str
    files: str
    """What `--path` has to be."""
    read: Callable[[Path, Selection], Iterator[Problem | GradingError]]
    selects: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Keys of a `Selection` that apply, and the values that each may have; empty if they are not listed."""
    num_errata: int = 0
    """Number of problems with a fault that is known."""
    hub: HubFiles | None = None
    """Where the files can be fetched; None if only a local copy can be read."""

    def facts(self) -> dict[str, str]:
        """Return what a person wants to know before using it, by the name of the fact."""
        options = [
            f"--{key.replace('_', '-')}" + (f" ({', '.join(values)})" if values else "")
            for key, values in self.selects.items()
        ]
        facts = {
            "name": self.name,
            "summary": self.summary,
            "paper": self.paper,
            "licence": self.licence,
            "--path": self.files,
            "fetched": "no: give --path",
            "selected by": ", ".join(options) or "nothing",
            "known faults": f"{self.num_errata} problems" if self.num_errata else "none listed here",
        }
        if self.hub is not None:
            size = self.hub.size(Selection())
            facts["fetched"] = f"{self.hub.repository} at {self.hub.revision}, {size}, if --path is not given"
        return facts


def _own_problems(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    for problem in each_problem(path, parse_problem):
        if isinstance(problem, GradingError) or selection.admits(
            difficulty=problem.difficulty,
            platform=problem.metadata.get("platform"),
            erratum=problem.metadata.get("erratum"),
        ):
            yield problem


_NO_VALUES: Sequence[str] = ()

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "livecodebench",
            "1,055 dated contest tasks of AtCoder, LeetCode and Codeforces, in releases v1 to v6",
            "Jain et al. 2024, arXiv 2403.07974",
            "the data card says CC without a version; the statements belong to the contest sites",
            "the folder with test.jsonl to test6.jsonl, a folder with Parquet files, or one such file",
            livecodebench.each,
            {
                "release": _NO_VALUES,
                "difficulty": get_args(livecodebench.Difficulty),
                "platform": get_args(livecodebench.Platform),
                "after": _NO_VALUES,
                "before": _NO_VALUES,
                "without_errata": _NO_VALUES,
            },
            len(livecodebench.ERRATA),
            HubFiles(
                "livecodebench/code_generation_lite",
                "0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
                dict(zip(livecodebench.FILES, (1250, 713, 623, 1200, 558, 134), strict=True)),
                lambda selection: livecodebench.names_of(selection.release),
            ),
        ),
        Benchmark(
            "mbpp",
            "974 short Python tasks with three assertions each",
            "Austin et al. 2021, arXiv 2108.07732",
            "CC BY 4.0",
            "the published mbpp.jsonl, sanitized-mbpp.json, or a folder with Parquet files",
            mbpp.each,
            {"split": tuple(mbpp.SPLITS), "without_errata": _NO_VALUES},
            len(mbpp.ERRATA),
            HubFiles(
                "google-research-datasets/mbpp",
                "4bb6404fdc6cacfda99d4ac4205087b89d32030c",
                dict(zip(mbpp.FILES, (0.01, 0.09, 0.02, 0.07), strict=True)),
                lambda _: mbpp.FILES,
            ),
        ),
        Benchmark(
            "mbppplus",
            "378 tasks of MBPP with about 100 tests each",
            "Liu et al. 2023, arXiv 2305.01210",
            "Apache 2.0, with the tasks of MBPP under CC BY 4.0",
            "the released MbppPlus.jsonl.gz, or a file whose name ends in OriginFmt",
            plus.reader("MbppPlus"),
            {},
            0,
            HubFiles(
                "evalplus/mbppplus",
                "8a14ef6256e2d9ba80a03e9ce57ee349a69e6399",
                {"data/test-00000-of-00001-d5781c9c51e02795.parquet": 1},
                lambda _: ["data/test-00000-of-00001-d5781c9c51e02795.parquet"],
            ),
        ),
        Benchmark(
            "humaneval",
            "164 Python functions to complete",
            "Chen et al. 2021, arXiv 2107.03374",
            "MIT",
            "the published HumanEval.jsonl.gz, or a file of the same form",
            humaneval.each,
            {"without_errata": _NO_VALUES},
            len(humaneval.ERRATA),
            HubFiles(
                "openai/openai_humaneval",
                "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
                {"openai_humaneval/test-00000-of-00001.parquet": 0.08},
                lambda _: ["openai_humaneval/test-00000-of-00001.parquet"],
            ),
        ),
        Benchmark(
            "humanevalplus",
            "the 164 functions of HumanEval with about 760 tests each",
            "Liu et al. 2023, arXiv 2305.01210",
            "Apache 2.0, with the tasks of HumanEval under MIT",
            "the released HumanEvalPlus.jsonl.gz, or a file whose name ends in OriginFmt",
            plus.reader("HumanEvalPlus"),
            {"without_errata": _NO_VALUES},
            len(humaneval.ERRATA),
            HubFiles(
                "evalplus/humanevalplus",
                "084b2ab17b4c045817861dd12e8d2fc7cb6c4f85",
                {"data/test-00000-of-00001-5973903632b82d40.parquet": 3},
                lambda _: ["data/test-00000-of-00001-5973903632b82d40.parquet"],
            ),
        ),
        Benchmark(
            "codecontests",
            "13,610 contest tasks of six sites, of which 165 are meant for tests",
            "Li et al. 2022, arXiv 2203.07814",
            "CC BY 4.0; the statements belong to the contest sites",
            "the folder with data/test-….parquet, or one such file",
            codecontests.each,
            {
                "split": tuple(codecontests.FILES),
                "difficulty": codecontests.DIFFICULTIES,
                "platform": codecontests.PLATFORMS,
                "without_errata": _NO_VALUES,
            },
            0,
            HubFiles(
                "deepmind/code_contests",
                "802411c3010cb00d1b05bad57ca77365a3c699d6",
                dict(zip(codecontests.FILES.values(), (63, 52, 7510), strict=True)),
                lambda selection: [codecontests.FILES[selection.split or "test"]],
            ),
        ),
        Benchmark(
            "codecontests-plus",
            "11,690 tasks of CodeContests with new tests and a checker each",
            "Wang et al. 2025, arXiv 2506.05817",
            "CC BY 4.0; the statements belong to the contest sites",
            "the folder with ccplus_1x (46 GB) to ccplus_5x of ByteDance-Seed/Code-Contests-Plus, with testlib.h in it",
            codecontests_plus.each,
            {"release": codecontests_plus.RELEASES, "platform": _NO_VALUES, "without_errata": _NO_VALUES},
        ),
        Benchmark(
            "apps",
            "10,000 coding tasks, of which 5,000 are meant for tests",
            "Hendrycks et al. 2021, arXiv 2105.09938",
            "MIT; the statements belong to the contest sites",
            "the folder with test.jsonl and train.jsonl, the folder of the original release, or one file",
            apps.each,
            {"split": apps.SPLITS, "difficulty": apps.DIFFICULTIES, "without_errata": _NO_VALUES},
            0,
            HubFiles(
                "codeparrot/apps",
                "21e74ddf8de1a21436da12e3e653065c5213e9d1",
                {"test.jsonl": 1292, "train.jsonl": 107},
                lambda selection: [f"{selection.split or 'test'}.jsonl"],
            ),
        ),
        Benchmark(
            "taco",
            "26,443 coding tasks, of which 1,000 are meant for tests",
            "Li et al. 2023, arXiv 2312.14852",
            "Apache 2.0, parts CC BY 4.0 and MIT; the statements belong to the contest sites",
            "the folder with ALL/test-….parquet of BAAI/TACO (2,420 MB), or one such file",
            taco.each,
            {
                "split": taco.SPLITS,
                "difficulty": taco.DIFFICULTIES,
                "platform": _NO_VALUES,
                "without_errata": _NO_VALUES,
            },
            len(taco.ERRATA),
        ),
        Benchmark(
            "kattis",
            "problem packages of Kattis and ICPC: kattis:PATH names a package, a zip file of one, or a folder of them",
            "https://www.kattis.com/problem-package-format",
            "that of each package",
            "a package, a zip file of one, or a folder of them",
            kattis.each,
            {"without_errata": _NO_VALUES},
        ),
        Benchmark(
            "jsonl",
            "problems in our own form: jsonl:PATH names a file of JSON lines",
            "docs/grading.md",
            "that of the file",
            "a file of JSON lines",
            _own_problems,
            dict.fromkeys(("difficulty", "platform", "without_errata"), _NO_VALUES),
        ),
    )
}


def benchmark_of(name: str) -> Benchmark:
    """Return a benchmark. Raises GradingError if none has this name."""
    if name not in BENCHMARKS:
        raise GradingError(f"no benchmark is called {name!r}: {nearest(name, list(BENCHMARKS))}")
    return BENCHMARKS[name]


def split_name(text: str) -> tuple[str, Path | None]:
    """Return the name of a benchmark, and the path behind it where it is written `kattis:PATH`."""
    name, colon, path = text.partition(":")
    return (name, Path(path)) if colon and path and name in BENCHMARKS else (text, None)


def each_problem_of(
    name: str, path: Path | None, selection: Selection, announce: Callable[[str], None]
) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a benchmark, or why a record is no problem.

    Args:
        name: of the benchmark.
        path: its published files; None fetches them from the hub.
        selection: which problems are wanted.
        announce: is told what is fetched, and under which licence, before it is.

    A problem that cannot be judged here is an error, unless the selection is without errata.

    Raises:
        GradingError: there is no such benchmark, it cannot be selected from in this way, or its files cannot be read.
    """
    benchmark = benchmark_of(name)
    _check_selection(benchmark, selection)
    if path is None:
        if benchmark.hub is None:
            raise GradingError(f"{name} is read from a local copy: give {benchmark.files} with --path")
        path = fetch(benchmark.hub, selection, benchmark.licence, announce)
    return _fit(benchmark.read(path, selection), selection)


def _fit(each: Iterator[Problem | GradingError], selection: Selection) -> Iterator[Problem | GradingError]:
    """Leave out what cannot be judged here, or say how to leave it out."""
    for one in each:
        if not isinstance(one, UnfitError):
            yield one
        elif not selection.without_errata:
            yield UnfitError(f"{one} (without_errata leaves such problems out)")


def _check_selection(benchmark: Benchmark, selection: Selection) -> None:
    if foreign := [key for key in selection.given() if key not in benchmark.selects]:
        raise GradingError(f"{benchmark.name} cannot be selected by {' or '.join(foreign)}: leave that out")
    for key, values in benchmark.selects.items():
        value = getattr(selection, key)
        if values and value is not None and value not in values:
            raise GradingError(f"{benchmark.name} has no {key} {value!r}: {nearest(value, values)}")
