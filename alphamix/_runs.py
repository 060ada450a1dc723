"""Runs: start one from a file or from keyword arguments, and open its folder as pandas frames."""

import warnings
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from alphamix import _checks as checks
from alphamix._outcomes import OutcomesTable
from alphamix.ensemble.experiment.config import load_with
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.interchange.export_run import sample_records, verdict_records
from alphamix.ensemble.interchange.record_schema import SAMPLE_COLUMNS, VERDICT_COLUMNS
from alphamix.ensemble.outcomes.files import Missing
from alphamix.ensemble.run.pipeline import Result, run
from alphamix.ensemble.run.progress_events import Unobserved
from alphamix.ensemble.run.spend_limit import spent_limits
from alphamix.ensemble.run.status import remarks_on
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.errors import AlphamixError
from alphamix.wording import shown

_MAX_CAUSES = 3
"""Causes that one error shows."""
_SELDOM = {"usage", "code", "kind", "forgeable", "passed_tests"}
"""Columns of files that frames have only where a sample or a verdict has such a value."""


class Run:
    """The folder of a run. Reading it changes nothing, and works while the run goes on.

    `Run(folder)` does the same as `open_run(folder)`. Frames hold everything at once: of a run with millions of
    samples, use `alphamix export --format parquet`.

    Example:
        >>> run = alphamix.open_run("results/tiny")
        >>> len(run.samples()), run.owed
        (8, 0)
        >>> sorted(run.verdicts()["verdict"].unique())[0] in {"AC", "WA", "RE", "TLE", "FE", "CE"}
        True
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = checks.path("folder", folder, "the path of the folder of a run")
        """Folder of the run."""
        with _open(self.folder):  # refuses a folder without a run
            pass

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def samples(self) -> pd.DataFrame:
        """Return one row per sample, with the columns of `samples.jsonl`; tokens have columns of their own."""
        with _open(self.folder) as store, store.snapshot():
            records = [{**record.pop("usage", {}), **record} for record in sample_records(store)]
        return _frame(records, [*SAMPLE_COLUMNS["usage"], *SAMPLE_COLUMNS])

    def verdicts(self, verdict_set: str | None = None) -> pd.DataFrame:
        """Return one row per verdict, with the columns of `verdicts.jsonl`.

        Args:
            verdict_set: Name of a set that `alphamix regrade` made; the current one if None.

        Raises:
            StoreError: there is no such set.
        """
        with _open(self.folder) as store, store.snapshot():
            records = list(verdict_records(store, verdict_set))
        return _frame(records, list(VERDICT_COLUMNS))

    def outcomes(
        self, *, level: float = 1.0, verdict_set: str | None = None, missing: Missing = "error"
    ) -> OutcomesTable:
        """Count outcomes; the table can be asked for pass@k and more, and `.frame` is it as a pandas frame.

        Args:
            level: Coverage level x: a sample counts as accepted if it passed the first ⌈x·T⌉ of T tests.
            verdict_set: Name of a set that `alphamix regrade` made; the current one if None.
            missing: What to do where a policy lacks verdicts on a problem: `error`, or leave out all problems
                (`drop-problems`) or policies (`drop-policies`) that lack any.

        Raises:
            OutcomesError: a cell has no verdict yet, or nothing would be left.
        """
        checks.one_of("missing", missing, get_args(Missing))
        with _open(self.folder) as store, store.snapshot():
            return OutcomesTable(count_outcomes(store, level, verdict_set, missing))

    @property
    def owed(self) -> int:
        """Number of planned samples that are missing or have no verdict, without those that were rejected."""
        with _open(self.folder) as store:
            return remarks_on(store).owed

    @property
    def rejected(self) -> int:
        """Number of planned samples that cannot be drawn, since the policy refused the request or is gone."""
        with _open(self.folder) as store:
            return remarks_on(store).rejected


def open_run(folder: str | Path) -> Run:
    """Open the folder of a run, finished or not.

    Raises:
        StoreError: the folder holds no run.

    Example:
        >>> alphamix.open_run("results/tiny").outcomes().policies
        ('low', 'high')
    """
    return Run(folder)


def run_experiment(
    experiment: str | Path | None = None, *, output_dir: str | Path | None = None, **sections: Any
) -> Run:
    """Run an experiment: make the policies, sample, judge, and report. Called again, it resumes an interrupted run.

    Environment variables override nothing here, as they do for the command.

    Args:
        experiment: Experiment file (TOML); docs/experiments.md has all keys. None if the keywords say everything.
        output_dir: Folder of the run; `results/NAME` if None.
        **sections: Sections and keys as in the file, which they override: `name="trial"`, `budget={"samples": 16}`.

    Returns:
        The run. Where some samples are missing, because an engine or the judge failed or a limit is spent, a warning
        says how many and why, and `owed` or `rejected` is above 0; the same call asks for them again. There is no
        report then, unless `analysis={"missing": "drop-problems"}` (or `"drop-policies"`) says what to leave out of it.
        Figures need the extra `report`.

    Raises:
        AlphamixError: the experiment does not hold together, the folder cannot be written or holds another run, or no
            policy could be finished; what was sampled is kept then, and the same call goes on.

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
    file = None if experiment is None else checks.path("experiment", experiment, "the path of an experiment file")
    settings = load_with(file, sections)
    folder = Path("results") / settings.name if output_dir is None else checks.path("output_dir", output_dir)
    result = run(read_inputs(settings), folder, Unobserved())
    if result.left.is_anything:
        _tell(folder, result, spent_limits(result.left.owed, settings.budget.run.amounts))
    return Run(folder)


def _tell(folder: Path, result: Result, spent: list[str]) -> None:
    """Warn of what a run lacks, counted by cause.

    Raises:
        AlphamixError: no policy has all its verdicts, although no limit of the run is spent, and there is no report.
    """
    owed = result.left.owed + result.left.rejected
    causes = "; ".join(f"{count:,} × {' '.join(cause.split())}" for cause, count in owed.most_common(_MAX_CAUSES))
    more = f"; and {len(owed) - _MAX_CAUSES} more causes" if len(owed) > _MAX_CAUSES else ""
    cure = f"give a higher {spent[0]}" if spent else "mend the cause"
    without = "" if result.report else "; or give analysis={'missing': 'drop-problems'} to leave out what lacks them"
    message = (
        f"{owed.total():,} samples or verdicts of {folder} are missing ({causes}{more}): {cure}, then the same call "
        f"goes on with what is stored{without}"
    )
    with _open(folder) as store:
        progress = store.progress()
    if not spent and result.report is None and not (progress["graded"] == progress["planned"]).any():
        raise AlphamixError(message)
    warnings.warn(message, stacklevel=3)


def _frame(records: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Return records as a frame, which has its columns even where there is no record yet."""
    if records:
        return pd.DataFrame(records)
    return pd.DataFrame(columns=[name for name in columns if name not in _SELDOM])


def _open(folder: Path) -> Store:
    try:
        return Store(folder / STORE_NAME, read_only=True, create=False)
    except OSError as error:  # the name is too long, or the folder may not be read
        raise AlphamixError(
            f"folder {shown(str(folder))} cannot be read ({error.strerror}): give that of a run"
        ) from error
