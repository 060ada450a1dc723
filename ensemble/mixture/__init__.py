"""Which mixture of policies to spend a budget on, and what the choice is honestly worth.

`search` chooses (from `relaxation`'s optimum and bound, by `local_search` and `branch_and_bound`), `routing` finds the
best random mixture. `crossfit` scores choices on what did not make them, `arms` are the ways to spend that are
compared, `comparison` puts all of it side by side, and `contribution` says what each policy adds.
"""
