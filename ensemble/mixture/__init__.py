"""Which mixture of policies to spend a budget on, and what the choice is honestly worth.

`search` chooses, with a certificate; `crossfit` scores choices on what did not make them; `arms` are the ways to spend
that are compared; `comparison` puts all of it side by side; `contribution` says what each policy adds.
"""
