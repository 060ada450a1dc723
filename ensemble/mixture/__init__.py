"""Which mixture of policies to spend a budget on, and what the choice is honestly worth.

`search` chooses, with a certificate; `arms` scores choices on problems and samples that did not make them.
"""
