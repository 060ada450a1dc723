"""Export of a run: all files show the same moment, even while the run goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from alphamix import _checks as checks
from alphamix.ensemble.interchange.count_outcomes import cells, count_outcomes
from alphamix.ensemble.interchange.record_files import write_records
from alphamix.ensemble.interchange.record_schema import (
    SAMPLE_COLUMNS,
    VERDICT_COLUMNS,
    SampleKey,
    sample_record,
    verdict_record,
)
from alphamix.ensemble.outcomes.files import Missing, write_outcomes, write_table
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.store import Store

Format = Literal["jsonl", "parquet"]


MissingInExport: TypeAlias = Literal["keep"] | Missing
"""What to do about cells that lack verdicts; `keep` writes the counts of what is there."""
MISSING: tuple[MissingInExport, ...] = ("keep", *get_args(Missing))


class Exported(NamedTuple):
    """Files of a run."""

    paths: list[Path]
    incomplete: int
    """Number of cells that lack verdicts in the outcomes."""
    outcomes: Outcomes | None
    """Outcomes from which such cells were left out; None where they were kept."""


def export(
    store: Store,
    folder: Path,
    level: float = 1.0,
    *,
    form: Format = "jsonl",
    verdict_set: str | None = None,
    missing: MissingInExport = "keep",
) -> Exported:
    """Write files of samples, verdicts and outcomes, replacing earlier ones.

    Args:
        store: of a run.
        folder: made if it does not exist.
        level: coverage level at which outcomes are counted (`count_outcomes`); verdicts always cover all tests.
        form: `jsonl` (outcomes in CSV), or `parquet` for all three.
        verdict_set: verdicts to write and count; None for the current ones.
        missing: what to do in the outcomes about cells that lack verdicts.

    Raises:
        StoreError, OutcomesError, GradingError: as `count_outcomes`.
        AlphamixError: the folder cannot be made or written.
        InterchangeError: Parquet cannot be written.
    """
    checks.folder(folder)
    table = "parquet" if form == "parquet" else "csv"
    samples, verdicts = (folder / f"{name}.{form}" for name in ("samples", "verdicts"))
    outcomes = folder / f"outcomes.{table}"
    with store.snapshot():
        for path, lines, columns in (
            (samples, sample_records(store), SAMPLE_COLUMNS),
            (verdicts, verdict_records(store, verdict_set), VERDICT_COLUMNS),
        ):
            write_records(path, map(_with_json, lines) if form == "parquet" else lines, columns)
        if missing != "keep":
            whole = count_outcomes(store, level, verdict_set, missing)
            write_outcomes(whole, outcomes)
            return Exported([samples, verdicts, outcomes], 0, whole)
        table = cells(store, level, verdict_set)
    known = [name for name in table.columns if name not in ("policy", "problem", "planned", "fixed")]
    write_table(table.loc[table["n"] > 0, ["problem", "policy", *known]], outcomes)
    return Exported([samples, verdicts, outcomes], int((table["n"] < table["fixed"]).sum()), None)


def sample_records(store: Store) -> Iterator[dict[str, Any]]:
    """Yield the record of every sample, as it stands in a line of `samples.jsonl`."""
    about = store.about()
    return (sample_record(sample, about, store.transcript(sample.slot)) for sample in store.samples())


def verdict_records(store: Store, verdict_set: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the record of every verdict of a set, None for the current one, as in a line of `verdicts.jsonl`."""
    for graded, judge in store.graded(verdict_set):
        key = SampleKey(graded.slot.problem, graded.slot.policy, graded.slot.index)
        yield verdict_record(key, graded.judgement, graded.failure, json.loads(judge))


def _with_json(line: dict[str, Any]) -> dict[str, Any]:
    """Return a record with text where its objects differ in their keys: a column of Parquet has one type."""
    return {key: json.dumps(value) if key in ("judge", "messages") else value for key, value in line.items()}
