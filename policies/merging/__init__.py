"""Affine combinations of checkpoints: whether they may be merged, the arithmetic, and the folder that results."""
