"""Policies: what can be sampled from, and the engines that do it. Nothing here knows of problems or verdicts.

`registry` reads a policies file and opens each policy; `recipes` is what the file says, `config` how its
faults are told, `sources` where checkpoints come from. `merge` makes checkpoints from checkpoints: `mergeable` says
which belong together, `affine` does the arithmetic on `floats` (number formats) and `weights` (files), `provenance`
writes down what was done. `adapters` merges LoRA adapters, `low_rank` extracts them, `trajectory` follows a run of
checkpoints. `cache` is what is made once and kept.
`engines` answer requests; `types` are the words that cross the edge.
"""
