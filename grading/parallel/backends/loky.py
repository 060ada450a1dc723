"""Backend that runs on processes of this machine."""

from collections.abc import Generator
from contextlib import contextmanager

import joblib
from joblib.externals.loky import BrokenProcessPool, get_reusable_executor

from alphamix.grading.parallel.backends import BackendError


@contextmanager
def open_backend(workers: int | None, address: str | None) -> Generator[tuple[type[Exception], ...]]:
    """Run on `workers` processes, which end with the context; if there is only one, on this process itself."""
    if address is not None:
        raise BackendError(f"address is {address}, but loky runs on this machine only: choose the backend dask or ray")
    num_workers = workers or joblib.cpu_count()
    with joblib.parallel_config(backend="loky", n_jobs=num_workers):
        try:
            yield (BrokenProcessPool,)
        finally:
            if num_workers > 1:
                get_reusable_executor().shutdown(wait=True)
