"""Import into a run: samples and verdicts that were made elsewhere, each into its planned slot.

A file is imported whole or not at all. What the run already has stays; a line that contradicts it is refused.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from alphamix.ensemble.interchange.record_files import InterchangeError, Record, listed, read_records
from alphamix.ensemble.interchange.record_schema import SampleRecord, VerdictRecord, first_error
from alphamix.ensemble.store import RUN_SET, Slot, Store
from alphamix.grading.types import Verdict

_Outcome = Literal["added", "present", "left out"]


class Imported(NamedTuple):
    """Numbers of records of a file, by what was done with them."""

    added: int
    present: int
    """Records that the run already had."""
    left_out: int
    """Verdicts of a judge that failed (IE): these samples still have to be graded."""


class _MisfitError(ValueError):
    """A record does not fit the run."""


def import_samples(store: Store, path: Path) -> Imported:
    """Put the samples of a file (JSON lines or Parquet) into their slots.

    Raises:
        InterchangeError: some lines do not fit the plan; the message gives each with its reason. Nothing is imported.
    """
    about = store.about()

    def put(content: Any) -> _Outcome:
        record = SampleRecord.model_validate(content)
        slot = _slot(store, record)
        misfit = record.misfit(slot, about)
        if misfit:
            raise _MisfitError(f"{slot}: {misfit}")
        sample, present = record.sample(slot), store.sample(slot)
        if present is None:
            store.add_samples([sample])
            return "added"
        if (present.completion.text, present.is_code) != (sample.completion.text, sample.is_code):
            raise _MisfitError(f"{slot} already exists, with another text")
        return "present"

    return _import(store, path, put)


def import_verdicts(store: Store, path: Path, verdict_set: str = RUN_SET) -> Imported:
    """Put the verdicts of a file (JSON lines or Parquet) into a set, which is made if it does not exist.

    Raises:
        InterchangeError: some lines do not fit the samples; the message gives each with its reason. Nothing is
            imported.
    """

    def put(content: Any) -> _Outcome:
        record = VerdictRecord.model_validate(content)
        slot = _slot(store, record)
        sample = store.sample(slot)
        if sample is None:
            raise _MisfitError(f"{slot} has no sample: import that first")
        if record.verdict is Verdict.IE:
            return "left out"
        graded, present = record.graded(slot, sample.completion.finish_reason), store.verdict(slot, verdict_set)
        if present is None:
            store.add_verdicts([graded], record.description(), verdict_set)
            return "added"
        if present.verdict is not record.verdict or present.tests_passed != record.tests_passed:
            raise _MisfitError(f"{slot} already has the verdict {present.verdict}, not {record.verdict}")
        return "present"

    with store.transaction():
        if verdict_set not in {existing.name for existing in store.verdict_sets()}:
            store.add_verdict_set(verdict_set, {"imported": path.name})
        return _import(store, path, put)


def _import(store: Store, path: Path, put: Callable[[Any], _Outcome]) -> Imported:
    counts: dict[_Outcome, int] = {"added": 0, "present": 0, "left out": 0}
    complaints: list[str] = []
    with store.transaction():
        for record in read_records(path):
            try:
                counts[_put(record, put)] += 1
            except _MisfitError as error:
                complaints.append(f"{record.where}: {error}")
        if complaints:
            raise InterchangeError(f"{listed(complaints)}\nnothing is imported: correct or remove these lines")
    return Imported(*counts.values())


def _put(record: Record, put: Callable[[Any], _Outcome]) -> _Outcome:
    if record.error:
        raise _MisfitError(record.error)
    try:
        return put(record.content)
    except ValidationError as error:
        raise _MisfitError(first_error(error)) from None


def _slot(store: Store, record: SampleRecord | VerdictRecord) -> Slot:
    slot = store.find(record.policy, record.problem_id, record.index)
    if slot is None:
        raise _MisfitError(f"{record.key} is not in the plan of {store.path}")
    return slot
