"""Policies: what can be sampled from, and the engines that do it. Nothing here knows of problems or verdicts.

Start at `registry`, which opens the policies of a file. `policy_file` reads the file into recipes, and `build` makes
the weights that a recipe describes. `checkpoints` holds folders of weights, `merging` combines them, and `lora` does
the same for adapters. `engines` answer requests, `health` checks a policy before a budget is spent on it, and `types`
defines the requests and completions that cross the edge.
"""
