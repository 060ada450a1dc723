"""From a problem and a completion to a verdict: `problems` and `extract` read, `judge` judges.

This package never hears of a policy. Start at `grading.judge.judge.Judge`; the words are in `grading.types`,
and `grading.nested_coverage` turns passed tests into nested coverage.
"""
