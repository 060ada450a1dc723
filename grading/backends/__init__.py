"""Where chunks of work run: processes of this machine (`loky`), a Dask cluster, a Ray cluster; all by way of joblib.

One backend per module, imported only when it is asked for. Each has `open_backend(workers, address)`, a context manager
within which `joblib.Parallel` runs on it, with generator output; it gives the errors that mean a lost process.
"""

import importlib
from contextlib import AbstractContextManager

from grading.errors import GradingError


class BackendError(GradingError):
    """A backend cannot be had as asked for: the message says why, then what to do."""


LostErrors = tuple[type[Exception], ...]

EXTRA_OF_BACKEND: dict[str, str | None] = {"loky": None, "dask": "dask", "ray": "ray"}
"""Backends by name, with the extra of alphamix that each needs."""


def open_backend(name: str, workers: int | None, address: str | None) -> AbstractContextManager[LostErrors]:
    """Start `workers` local processes (None: one per core), or attach to the cluster at `address`.

    Raises BackendError where the backend is unknown or not installed, or the cluster cannot be reached.
    """
    if name not in EXTRA_OF_BACKEND:
        raise BackendError(f"backend is {name!r}: choose one of {', '.join(EXTRA_OF_BACKEND)}")
    if workers is not None and workers < 1:
        raise BackendError(f"workers is {workers}: give at least 1")
    try:
        backend = importlib.import_module(f"grading.backends.{name}")
    except ModuleNotFoundError as error:
        extra = EXTRA_OF_BACKEND[name]
        if extra is None:
            raise
        raise BackendError(
            f"the backend {name} needs the package {error.name}: pip install 'alphamix[{extra}]'"
        ) from None
    return backend.open_backend(workers, address)
