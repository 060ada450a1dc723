"""Published benchmarks as problems. `catalog` lists those that have a name; each has a module that reads its files.

A row of a file (`rows`) is validated as a record, and becomes a problem. `assertions` turns Python assertions, by which
MBPP and HumanEval state their tests, into tests whose expected values stay outside the sandbox. No code of a benchmark
runs outside of it either.
"""
