"""Judging many programs at once, on the cores of this machine or on a Dask or Ray cluster."""
