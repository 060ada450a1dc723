"""Solve rates as smooth curves along α, and which α is worth making next.

`curves` is the model (needs scikit-learn, the extra `explore`), `proposals` asks it what a new α would add to the best
mixture, `sweeps` finds the α of policies. All of it is prediction, and is for choosing: what a new policy is worth is
known when it was sampled.
"""
