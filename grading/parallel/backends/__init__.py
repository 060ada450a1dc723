"""Where chunks of work run: processes of this machine (`loky`), a Dask cluster, a Ray cluster; all by way of joblib.

One backend per module, imported only when it is asked for. Each has `open_backend(workers, address)`, a context manager
within which `joblib.Parallel` runs on it, with generator output; it gives the errors that mean a lost process. Those
of clusters also have `open_pool(workers, address)`, for work that comes one piece at a time.
"""

import importlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from alphamix.grading.errors import GradingError


class BackendError(GradingError):
    """A backend cannot be had as asked for: the message says why, then what to do."""


LostErrors = tuple[type[Exception], ...]


class Pool(NamedTuple):
    """Where single calls run."""

    submit: Callable[..., Future[Any]]
    """Takes a function and its arguments; both are sent by pickling."""
    lost_errors: LostErrors
    """What a call fails with whose process was lost; or `submit` itself, where all are."""


EXTRA_OF_BACKEND: dict[str, str | None] = {"loky": None, "dask": "dask", "ray": "ray"}
"""Backends by name, with the extra of alphamix that each needs."""


def open_backend(name: str, workers: int | None, address: str | None) -> AbstractContextManager[LostErrors]:
    """Start `workers` local processes (None: one per core), or attach to the cluster at `address`.

    Raises BackendError where the backend is unknown or not installed, or the cluster cannot be reached.
    """
    return _module(name, workers).open_backend(workers, address)


def open_pool(name: str, workers: int | None, address: str | None) -> AbstractContextManager[Pool]:
    """Start or attach as `open_backend`, for single calls, on a cluster.

    Raises BackendError as `open_backend`.
    """
    if name == "loky":
        raise BackendError("loky is this machine: choose the backend dask or ray for a cluster")
    return _module(name, workers).open_pool(workers, address)


def _module(name: str, workers: int | None) -> Any:
    if name not in EXTRA_OF_BACKEND:
        raise BackendError(f"backend is {name!r}: choose one of {', '.join(EXTRA_OF_BACKEND)}")
    if workers is not None and workers < 1:
        raise BackendError(f"workers is {workers}: give at least 1")
    try:
        return importlib.import_module(f"alphamix.grading.parallel.backends.{name}")
    except ModuleNotFoundError as error:
        extra = EXTRA_OF_BACKEND[name]
        if extra is None:
            raise
        raise BackendError(
            f"the backend {name} needs the package {error.name}: pip install 'alphamix[{extra}]'"
        ) from None
