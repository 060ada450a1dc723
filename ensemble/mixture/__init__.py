"""Which mixture of policies to spend a budget on, and what that choice is worth.

`best_allocation` chooses, with the parts in `optimiser`, and proves how much better another choice could be.
`random_routing` finds the best random mixture, and `shapley` says what each policy adds. `arms` are the ways to spend a
budget, `cross_fitting` scores their choices on data that did not make them, and `compare_arms` puts everything side by
side.
"""
