"""Benchmarks of others, read into problems: `mbpp` and `humaneval` state their tests as Python assertions.

`assertions` turns those into tests whose expected values stay outside the sandbox. Every `load` is pure: it reads one
file, runs nothing of it, and returns problems.
"""
