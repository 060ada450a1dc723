"""The record of one run, in one SQLite file: every planned slot, its sample, its verdicts.

`store` is what other rooms use, `rows` what goes in and comes out, `transcripts` how a sample came about, `schema` the
tables, `sql` the queries, and `connection` the file and its lock. Nothing here samples, grades or analyses.
"""

from alphamix.ensemble.store.connection import StoreLostError, is_at_work
from alphamix.ensemble.store.rows import FailureCount, Graded, Recent, Sample, Slot, StoreError, VerdictSet
from alphamix.ensemble.store.schema import RUN_SET, SCHEMA_VERSION
from alphamix.ensemble.store.store import STORE_NAME, Store
from alphamix.ensemble.store.transcripts import AttemptUsage, Ending, Transcript

__all__ = [
    "RUN_SET",
    "SCHEMA_VERSION",
    "STORE_NAME",
    "AttemptUsage",
    "Ending",
    "FailureCount",
    "Graded",
    "Recent",
    "Sample",
    "Slot",
    "Store",
    "StoreError",
    "StoreLostError",
    "Transcript",
    "VerdictSet",
    "is_at_work",
]
