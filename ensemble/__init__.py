"""The package that joins policies and grading: sampling under a budget, outcomes, estimates, reports and serving.

Importing it needs no torch. Estimators, such as `ensemble.statistics.pass_at_k`, are pure functions on arrays.
"""
