"""Analyses of outcomes: complementarity, the failure frontier, the paper's claims, and all results of a run."""
