"""Many programs judged at once: on the cores of this machine, or on a Dask or Ray cluster."""
