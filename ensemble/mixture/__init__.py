"""Which mixture of policies to spend a budget on, and what that choice is worth.

`best_allocation` chooses, with the parts in `optimiser`, and proves how much better another choice could be.
`random_routing` finds the best random mixture, and `shapley` says what each policy adds. `arms` are the ways to spend a
budget, `cross_fitting` scores their choices on data that did not make them, `gains` holds them against single policies,
and `compare_arms` puts everything side by side. `gain_location` says at which budgets a mixture gains, `power` what a
comparison could see, and `pilot_forecast` what too few samples promise.
"""
