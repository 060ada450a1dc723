"""Policies: what can be sampled from, and the engines that do it. Nothing here knows of problems or verdicts.

`registry` reads a policies file and opens each policy; `recipes` is what the file says, `config` how its
faults are told. `merge` makes θ(α) from two checkpoints, on `weights` (files) and `floats` (number formats).
`engines` answer requests; `types` are the words that cross the edge.
"""
