"""Backends of parallel judging: processes of this machine (`loky`), a Dask cluster, or a Ray cluster.

Each backend is a module that is imported only when it is used. Its `open_backend(workers, address)` is a context
manager within which `joblib.Parallel` runs on the backend, with generator output; it provides the errors that mean a
lost process. The clusters also have `open_pool(workers, address)`, for single calls.
"""

import importlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from alphamix.grading.errors import GradingError


class BackendError(GradingError):
    """A backend is unavailable as requested: the message says why, then what to do."""


LostErrors = tuple[type[Exception], ...]
"""Exceptions which mean that a process was lost."""


class Pool(NamedTuple):
    """Cluster processes that run single calls."""

    submit: Callable[..., Future[Any]]
    """Function that runs a function with arguments on the cluster; both are sent by pickling."""
    lost_errors: LostErrors
    """Exceptions of a call whose process was lost, and of `submit` if all processes were lost."""


EXTRA_OF_BACKEND: dict[str, str | None] = {"loky": None, "dask": "dask", "ray": "ray"}
"""The extra of alphamix that each backend needs, by the name of the backend."""


def open_backend(name: str, workers: int | None, address: str | None) -> AbstractContextManager[LostErrors]:
    """Start `workers` local processes (None: one per core), or connect to the cluster at `address`.

    Raises BackendError if the backend is unknown or not installed, or if the cluster cannot be reached.
    """
    return _module(name, workers).open_backend(workers, address)


def open_pool(name: str, workers: int | None, address: str | None) -> AbstractContextManager[Pool]:
    """Start or connect to a cluster, like `open_backend`, for single calls. Raises BackendError."""
    if name == "loky":
        raise BackendError("loky runs on this machine only: choose the backend dask or ray for a cluster")
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
