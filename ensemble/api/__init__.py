"""The public face of the package: what `import alphamix` offers, in terms of the rooms below.

`outcomes` asks a table, `runs` runs experiments and opens their folders, `policies` merges and samples, `judging`
judges programs. Nothing here computes: each function calls the room that does.
"""
