"""Analyses of outcomes: coverage, complementarity, the failure frontier, the paper's claims, and a whole run."""
