"""Policies: what can be sampled from, and the engines that do it. Nothing here knows of problems or verdicts.

`registry` opens the policies of a file. `recipes` is what the file says, `policies_file` reads and writes it in the
form of `tables`, `config` tells its faults. `materialise` follows recipes to folders of weights, from `sources`
(folders, the hub), kept in `cache`; `family` says what one server can run of them. `merge` makes checkpoints from
checkpoints: `mergeable` says which belong together, `affine` does the arithmetic on `floats` (number formats) and
`weights` (files), `provenance` writes down what was done. `adapters` reads and writes LoRA adapters, `adapter_merge`
makes one of several, `fold` adds one to its base, `low_rank` extracts them, `trajectory` follows a run of
checkpoints. `folders` appear whole or not at all.
`engines` answer requests; `serving` says what vLLM's servers need of a family. `check` asks a policy a little before a
budget is spent on it, `findings` judges its answers; `types` are the words that cross the edge.
"""
