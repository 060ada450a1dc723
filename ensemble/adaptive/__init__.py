"""Adaptive allocation: decide what to draw next from the counts so far.

`state` holds the counts and defines what a strategy is; `strategies` and `halving` decide what to draw next.
`sample_streams` follows a strategy as far as there are samples, or replays it against a table of outcomes, and
`adaptive_arm` scores one as an arm of a run.

Strategies are judged by the share of problems solved at the cost really spent, never by pass@k: where drawing ended
because of what was drawn, c/n is biased.
"""
