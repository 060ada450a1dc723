"""The problems that an experiment names: those of a file, or those selected of a published benchmark."""

import sys
from itertools import islice

from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.schema import ProblemsSection
from alphamix.grading.benchmarks.catalog import each_problem_of
from alphamix.grading.problems import all_problems, load_problems
from alphamix.grading.types import Problem


def read_problems(section: ProblemsSection) -> list[Problem]:
    """Return the problems, at most `section.limit` of them.

    What is fetched, and under which licence, is written to standard error before it is.

    Raises:
        ExperimentError: no problem is selected.
        GradingError: a file cannot be read, or a record of it is no problem.
    """
    if section.file is not None:
        return load_problems(section.file)[: section.limit]
    name = section.benchmark or ""
    each = each_problem_of(name, section.path, section, lambda text: print(text, file=sys.stderr))
    problems = all_problems(islice(each, section.limit))
    if not problems:
        raise ExperimentError(f"no problem of {section.source} is selected: widen the selection in [problems]")
    return problems
