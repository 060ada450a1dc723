"""Estimators, intervals, posteriors and tests as pure functions on arrays."""
