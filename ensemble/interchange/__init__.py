"""The doors of a run's record: outcomes, and samples and verdicts as files that other programs read and write.

`counting` makes outcomes, `exporting` and `importing` are the two directions, `records` says what stands in a line,
`files` how lines are kept (JSON lines, Parquet). Each file can be read back into a run of the same plan.
"""

from alphamix.ensemble.interchange.count_outcomes import count_outcomes
from alphamix.ensemble.interchange.export_run import export
from alphamix.ensemble.interchange.import_run import Imported, import_samples, import_verdicts

__all__ = ["Imported", "count_outcomes", "export", "import_samples", "import_verdicts"]
