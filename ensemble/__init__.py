"""What joins policies and grading: sampling under a budget, outcomes, estimates, reports, serving.

Importing this package needs no torch; `ensemble.statistics.pass_at_k` and its neighbours are pure functions on arrays.
"""
