"""From a run's record to files: all of them of one moment, also while the run goes on."""

import json
from pathlib import Path
from typing import Literal

from alphamix.ensemble.interchange.count_outcomes import count_outcomes
from alphamix.ensemble.interchange.record_files import ExchangeError, write_records
from alphamix.ensemble.interchange.record_schema import SAMPLE_COLUMNS, VERDICT_COLUMNS, sample_record, verdict_record
from alphamix.ensemble.outcomes.files import write_outcomes
from alphamix.ensemble.store import Store

Format = Literal["jsonl", "parquet"]


def export(
    store: Store, folder: Path, level: float = 1.0, *, form: Format = "jsonl", verdict_set: str | None = None
) -> list[Path]:
    """Write files of samples, verdicts and outcomes in place of such files; return their paths.

    Args:
        store: of a run.
        folder: where to; it is made.
        level: coverage level that outcomes are counted at (`count_outcomes`); verdicts are those of all tests.
        form: `jsonl` (outcomes in CSV), or `parquet` for all three.
        verdict_set: the verdicts that are written and counted [the current].

    Raises:
        StoreError, OutcomesError, GradingError: as `count_outcomes`.
        ExchangeError: the folder cannot be one, or Parquet cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ExchangeError(f"{folder} cannot be a folder, since a file is there: name another to export to") from None
    table = "parquet" if form == "parquet" else "csv"
    samples, verdicts = (folder / f"{name}.{form}" for name in ("samples", "verdicts"))
    outcomes = folder / f"outcomes.{table}"
    with store.snapshot():
        about = store.about()
        write_records(samples, (sample_record(sample, about) for sample in store.samples()), SAMPLE_COLUMNS)
        lines = (verdict_record(*graded) for graded in store.graded(verdict_set))
        if form == "parquet":  # descriptions of judges differ in their keys
            lines = ({**line, "judge": json.dumps(line["judge"])} for line in lines)
        write_records(verdicts, lines, VERDICT_COLUMNS)
        write_outcomes(count_outcomes(store, level, verdict_set), outcomes)
    return [samples, verdicts, outcomes]
