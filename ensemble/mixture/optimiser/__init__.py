"""Parts of the search for the best allocation, which `mixture.best_allocation` joins.

`relaxation` bounds the coverage of every allocation in a region, by the convex problem that `interior_point` solves.
`local_search` makes a good allocation of whole numbers, and `branch_and_bound` closes the gap between the two.
"""
