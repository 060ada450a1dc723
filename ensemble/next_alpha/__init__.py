"""Which α is worth making next, predicted from solve rates as smooth curves along α.

`lines` finds the α of policies. `gaussian_process` is the model of the curves, which needs scikit-learn (the extra
`explore`). `expected_improvement` asks it what a new α would add to the best mixture. Predictions only serve to choose:
what a new policy is worth is known only after it has been sampled.
"""
