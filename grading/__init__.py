"""Grading: from a problem and a completion to a verdict. This package never sees a policy.

Start at `alphamix.grading.judge.judge.Judge`; `types` defines the terms. Rooms: `programs` extracts programs from
completions, `sandbox` runs them, `checkers` compares answers, `judge` combines these, `parallel` spreads the work over
processes and clusters, `benchmarks` reads published problem sets, and `rewards` scores judgements for training.
"""
