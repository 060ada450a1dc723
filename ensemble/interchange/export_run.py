"""Export of a run: all files show the same moment, even while the run goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from alphamix import _checks as checks
from alphamix.ensemble.interchange.count_outcomes import count_outcomes
from alphamix.ensemble.interchange.record_files import write_records
from alphamix.ensemble.interchange.record_schema import (
    SAMPLE_COLUMNS,
    VERDICT_COLUMNS,
    SampleKey,
    sample_record,
    verdict_record,
)
from alphamix.ensemble.outcomes.files import write_outcomes
from alphamix.ensemble.store import Store

Format = Literal["jsonl", "parquet"]


def export(
    store: Store, folder: Path, level: float = 1.0, *, form: Format = "jsonl", verdict_set: str | None = None
) -> list[Path]:
    """Write files of samples, verdicts and outcomes, replacing earlier ones; return their paths.

    Args:
        store: of a run.
        folder: made if it does not exist.
        level: coverage level at which outcomes are counted (`count_outcomes`); verdicts always cover all tests.
        form: `jsonl` (outcomes in CSV), or `parquet` for all three.
        verdict_set: verdicts to write and count; None for the current ones.

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
        write_records(samples, sample_records(store), SAMPLE_COLUMNS)
        lines = verdict_records(store, verdict_set)
        if form == "parquet":  # a column has one type, and descriptions of judges differ in their keys
            lines = ({**line, "judge": json.dumps(line["judge"])} for line in lines)
        write_records(verdicts, lines, VERDICT_COLUMNS)
        write_outcomes(count_outcomes(store, level, verdict_set), outcomes)
    return [samples, verdicts, outcomes]


def sample_records(store: Store) -> Iterator[dict[str, Any]]:
    """Yield the record of every sample, as it stands in a line of `samples.jsonl`."""
    about = store.about()
    return (sample_record(sample, about) for sample in store.samples())


def verdict_records(store: Store, verdict_set: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the record of every verdict of a set, None for the current one, as in a line of `verdicts.jsonl`."""
    for graded, judge in store.graded(verdict_set):
        key = SampleKey(graded.slot.problem, graded.slot.policy, graded.slot.index)
        yield verdict_record(key, graded.judgement, graded.failure, json.loads(judge))
