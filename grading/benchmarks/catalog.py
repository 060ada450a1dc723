"""The benchmarks that users can name: what each is, under which licence, where its files are, and what reads them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alphamix.grading.benchmarks import humaneval, livecodebench, mbpp
from alphamix.grading.benchmarks.hub import HubFiles, fetch
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import each_problem
from alphamix.grading.types import Problem
from alphamix.wording import nearest


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One published benchmark."""

    name: str
    summary: str
    paper: str
    licence: str
    files: str
    """What `--path` has to be."""
    read: Callable[[Path, Selection], Iterator[Problem | GradingError]]
    selects: tuple[str, ...] = ()
    """Keys of a `Selection` that apply."""
    num_errata: int = 0
    """Number of problems with a fault that is known."""
    hub: HubFiles | None = None
    """Where the files can be fetched; None if only a local copy can be read."""

    def facts(self) -> dict[str, str]:
        """Return what a person wants to know before using it, by the name of the fact."""
        options = [f"--{key.replace('_', '-')}" for key in self.selects]
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
            megabytes = self.hub.total_mb(self.hub.names_of(None))
            facts["fetched"] = f"{self.hub.repository} at {self.hub.revision}, {megabytes:,} MB, if --path is not given"
        return facts


def _lines(parse: Callable[[str, str], Problem]) -> Callable[[Path, Selection], Iterator[Problem | GradingError]]:
    return lambda path, _: each_problem(path, parse)


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
            ("release", "difficulty", "platform", "after", "before", "without_errata"),
            len(livecodebench.ERRATA),
            HubFiles(
                "livecodebench/code_generation_lite",
                "0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
                dict(zip(livecodebench.FILES, (1250, 713, 623, 1200, 558, 134), strict=True)),
                livecodebench.names_of,
            ),
        ),
        Benchmark(
            "mbpp",
            "974 short Python tasks with three assertions each",
            "Austin et al. 2021, arXiv 2108.07732",
            "CC BY 4.0",
            "the published mbpp.jsonl",
            _lines(mbpp.parse),
        ),
        Benchmark(
            "humaneval",
            "164 Python functions to complete",
            "Chen et al. 2021, arXiv 2107.03374",
            "MIT",
            "the published HumanEval.jsonl, or a file of the same form, such as HumanEval+ with a column `test`",
            _lines(humaneval.parse),
        ),
    )
}


def benchmark_of(name: str) -> Benchmark:
    """Return a benchmark. Raises GradingError if none has this name."""
    if name not in BENCHMARKS:
        raise GradingError(f"no benchmark is called {name!r}: {nearest(name, list(BENCHMARKS))}")
    return BENCHMARKS[name]


def each_problem_of(
    name: str, path: Path | None, selection: Selection, announce: Callable[[str], None]
) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a benchmark, or why a record is no problem.

    Args:
        name: of the benchmark.
        path: its published files; None fetches them from the hub.
        selection: which problems are wanted.
        announce: is told what is fetched, and under which licence, before it is.

    Raises:
        GradingError: there is no such benchmark, it cannot be selected from in this way, or its files cannot be read.
    """
    benchmark = benchmark_of(name)
    if foreign := [key for key in selection.given() if key not in benchmark.selects]:
        raise GradingError(f"{name} cannot be selected by {' or '.join(foreign)}: leave that out")
    if path is None:
        if benchmark.hub is None:
            raise GradingError(f"{name} is read from a local copy: give {benchmark.files} with --path")
        path = fetch(benchmark.hub, selection.release, benchmark.licence, announce)
    return benchmark.read(path, selection)
