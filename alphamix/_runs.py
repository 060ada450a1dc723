"""Runs: start one from a file or from keyword arguments, and open its folder as pandas frames."""

from pathlib import Path
from typing import Any

import pandas as pd

from alphamix._outcomes import OutcomesTable
from alphamix.ensemble.experiment.config import load_with
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.interchange.export_run import sample_records, verdict_records
from alphamix.ensemble.run import pipeline
from alphamix.ensemble.run.progress_events import Unobserved
from alphamix.ensemble.store import STORE_NAME, Store


class Run:
    """The folder of a run. Reading it changes nothing, and works while the run goes on.

    Frames hold everything at once: of a run with millions of samples, use `alphamix export --format parquet`.

    Example:
        >>> run = alphamix.open_run("results/tiny")
        >>> len(run.samples()), run.owed
        (8, 0)
        >>> sorted(run.verdicts()["verdict"].unique())[0] in {"AC", "WA", "RE", "TLE", "FE", "CE"}
        True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Folder of the run."""

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def samples(self) -> pd.DataFrame:
        """Return one row per sample, with the columns of `samples.jsonl`; tokens have columns of their own."""
        with _open(self.folder) as store, store.snapshot():
            return pd.DataFrame([{**record.pop("usage", {}), **record} for record in sample_records(store)])

    def verdicts(self, verdict_set: str | None = None) -> pd.DataFrame:
        """Return one row per verdict, with the columns of `verdicts.jsonl`.

        Args:
            verdict_set: Name of a set that `alphamix regrade` made; the current one if None.

        Raises:
            StoreError: there is no such set.
        """
        with _open(self.folder) as store, store.snapshot():
            return pd.DataFrame(list(verdict_records(store, verdict_set)))

    def outcomes(self, *, level: float = 1.0, verdict_set: str | None = None) -> OutcomesTable:
        """Count outcomes; the table can be asked for pass@k and more, and `.frame` is it as a pandas frame.

        Args:
            level: Coverage level x: a sample counts as accepted if it passed the first ⌈x·T⌉ of T tests.
            verdict_set: Name of a set that `alphamix regrade` made; the current one if None.

        Raises:
            OutcomesError: a cell has no verdict yet.
        """
        with _open(self.folder) as store, store.snapshot():
            return OutcomesTable(count_outcomes(store, level, verdict_set))

    @property
    def owed(self) -> int:
        """Number of planned samples that are missing or have no verdict."""
        with _open(self.folder) as store:
            return pipeline.num_owed(store)


def open_run(folder: str | Path) -> Run:
    """Open the folder of a run, finished or not.

    Raises:
        StoreError: the folder holds no run.

    Example:
        >>> alphamix.open_run("results/tiny").outcomes().policies
        ('low', 'high')
    """
    with _open(Path(folder)):  # refuses a folder without a run
        return Run(Path(folder))


def run_experiment(
    experiment: str | Path | None = None, *, output_dir: str | Path | None = None, **sections: Any
) -> Run:
    """Run an experiment: make the policies, sample, judge, and report. Called again, it resumes an interrupted run.

    Args:
        experiment: Experiment file (TOML); docs/experiments.md has all keys. None if the keywords say everything.
        output_dir: Folder of the run; `results/NAME` if None.
        **sections: Sections and keys as in the file, which they override: `name="trial"`, `budget={"samples": 16}`.

    Returns:
        The run; its `owed` is above 0 where an engine or the judge failed, and the same call asks again.

    Raises:
        AlphamixError: the experiment does not hold together, a policy cannot be opened, or the folder holds another
            run.

    Example:
        >>> run = alphamix.run_experiment(
        ...     name="tiny",
        ...     problems={"file": "examples/ladder/problems.jsonl", "limit": 2},
        ...     policies={"file": "examples/ladder/policies.toml", "use": ["low", "high"]},
        ...     sampling={"max_tokens": 128},
        ...     budget={"samples": 2},
        ... )
        >>> run.folder.as_posix(), run.owed
        ('results/tiny', 0)
    """
    settings = load_with(None if experiment is None else Path(experiment), sections)
    folder = Path("results") / settings.name if output_dir is None else Path(output_dir)
    pipeline.run(read_inputs(settings), folder, Unobserved())
    return Run(folder)


def _open(folder: Path) -> Store:
    return Store(folder / STORE_NAME, read_only=True, create=False)
