"""A run's data in files: samples, verdicts and outcomes, as other programs read and write them.

`record_schema` says what a line contains and `record_files` how lines are stored (JSON lines, Parquet); `export_run`
and `import_run` are the two directions, `count_outcomes` makes outcomes. `sample_index` and `verdict_file` serve
grading without a run. An exported file can be imported into a run of the same plan.
"""

from alphamix.ensemble.interchange.count_outcomes import count_outcomes
from alphamix.ensemble.interchange.export_run import export
from alphamix.ensemble.interchange.import_run import Imported, import_samples, import_verdicts

__all__ = ["Imported", "count_outcomes", "export", "import_samples", "import_verdicts"]
