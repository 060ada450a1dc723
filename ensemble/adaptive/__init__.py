"""Adaptive allocation: what to draw next, from what is known so far.

`tally` is what is known, `strategies` and `halving` say what to draw next, `draws` follows them as far as there are
samples, `replay` plays a strategy against known outcomes, `arms` scores one as an arm of a run. What they are judged
by is coverage@cost, the share of problems solved for what was really spent. Never
pass@k: where drawing ended because of what was drawn, c/n is biased, and a tally says so (`stopped_MP`).
"""
