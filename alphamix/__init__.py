"""alphamix: inference-time ensemble scaling.

Make policies by moving along the line between checkpoints, sample and judge them under one budget, and say honestly
what the ensemble gains over the best single policy. This module is the public face of the package; whatever it does
not export is private and may change. The command `alphamix` does the same from a shell.

From a table of outcomes (problem, policy, n graded samples, c accepted) to a decision:

    >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
    >>> table = outcomes.pass_at_k([1, 8])                     # a pandas frame, with intervals
    >>> covered = outcomes.coverage({"low": 4, "high": 4})     # an unbiased estimate
    >>> mixture = outcomes.best_mixture(budget=8)              # an allocation, and what it honestly gains
    >>> page = outcomes.report("results/mine", budget=8)       # figures and a page

From checkpoints to such a table:

    >>> low, high = "examples/ladder/checkpoints/low", "examples/ladder/checkpoints/high"
    >>> folders = alphamix.merge(low, high, [-0.5, 1.5], "results/beyond")
    >>> run = alphamix.run_experiment(
    ...     "examples/ladder/quickstart.toml", output_dir="results/trial",
    ...     problems={"limit": 2}, policies={"use": ["low", "high"]}, budget={"samples": 2},
    ... )
    >>> samples, verdicts, outcomes = run.samples(), run.verdicts(), run.outcomes()

One policy, one problem:

    >>> with alphamix.open_policy("examples/ladder/policies.toml", "high") as policy:
    ...     answers = policy.sample([{"role": "user", "content": "Given n, print n."}], n=4, max_tokens=64)
    >>> problem = alphamix.load_problems("examples/ladder/problems.jsonl")[0]
    >>> judgements = alphamix.judge(problem, [answer.text for answer in answers])

Errors that a user can mend derive from `AlphamixError`; their message says what is wrong, then what to do. Importing
this module takes no time: each name is loaded when it is first used, and torch only by a policy that needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from alphamix.errors import AlphamixError

if TYPE_CHECKING:
    from alphamix._judging import judge
    from alphamix._outcomes import Mixture, OutcomesTable, read_outcomes
    from alphamix._policies import Policy, merge, open_policy
    from alphamix._runs import Run, open_run, run_experiment
    from alphamix._votes import majority_vote
    from alphamix.ensemble.settings.loop import Ask, LimitReachedError
    from alphamix.ensemble.settings.task import Task
    from alphamix.ensemble.statistics.intervals import Estimate
    from alphamix.grading.problems import load_problems
    from alphamix.grading.types import Judgement, Problem
    from alphamix.policies.types import Completion

__all__ = [
    "AlphamixError",
    "Ask",
    "Completion",
    "Estimate",
    "Judgement",
    "LimitReachedError",
    "Mixture",
    "OutcomesTable",
    "Policy",
    "Problem",
    "Run",
    "Task",
    "judge",
    "load_problems",
    "majority_vote",
    "merge",
    "open_policy",
    "open_run",
    "read_outcomes",
    "run_experiment",
]

_MODULE_OF_NAME = {
    "Ask": "ensemble.settings.loop",
    "Completion": "policies.types",
    "Estimate": "ensemble.statistics.intervals",
    "Judgement": "grading.types",
    "LimitReachedError": "ensemble.settings.loop",
    "Mixture": "_outcomes",
    "OutcomesTable": "_outcomes",
    "Policy": "_policies",
    "Problem": "grading.types",
    "Run": "_runs",
    "Task": "ensemble.settings.task",
    "judge": "_judging",
    "load_problems": "grading.problems",
    "majority_vote": "_votes",
    "merge": "_policies",
    "open_policy": "_policies",
    "open_run": "_runs",
    "read_outcomes": "_outcomes",
    "run_experiment": "_runs",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: pandas and pydantic take longer to load than a table takes to read."""
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module 'alphamix' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"alphamix.{_MODULE_OF_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF_NAME])
