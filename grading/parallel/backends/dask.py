"""Backend that runs on a Dask cluster: the one at an address, or a temporary one on this machine."""

from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

import joblib
from distributed import Client, KilledWorker, LocalCluster
from distributed.comm.core import CommClosedError
from joblib._dask import DaskDistributedBackend

from alphamix.grading.parallel.backends import BackendError, Pool

_NAME = "alphamix-dask"
_LOST = (KilledWorker, CommClosedError, TimeoutError, CancelledError)


@contextmanager
def open_backend(workers: int | None, address: str | None) -> Generator[tuple[type[Exception], ...]]:
    """Run on all workers of the scheduler at `address`, or on a local cluster of `workers` processes."""
    joblib.register_parallel_backend(_NAME, _Backend)
    with _client(workers, address) as client, joblib.parallel_config(backend=_NAME, client=client):
        yield _LOST


@contextmanager
def open_pool(workers: int | None, address: str | None) -> Generator[Pool]:
    """Run calls on all workers of the scheduler at `address`, or on a local cluster of `workers` processes."""
    with _client(workers, address) as client:
        yield Pool(client.get_executor(pure=False).submit, _LOST)


@contextmanager
def _client(workers: int | None, address: str | None) -> Generator[Client]:
    if address is not None and workers is not None:
        raise BackendError(f"workers is {workers}, but the cluster at {address} has its own: leave out workers")
    if address is None:
        num_workers = workers or joblib.cpu_count()
        with (
            LocalCluster(n_workers=num_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BackendError(f"no Dask scheduler at {address} ({error}): start one with `dask scheduler`") from None
    with client:
        yield client


class _Backend(DaskDistributedBackend):
    """Joblib's Dask backend, which here also reports tasks that Dask gave up: callers would wait for them forever."""

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> "Future[Any]":
        future = super().submit(func, callback)

        def report(done: "Future[Any]") -> None:
            if callback is not None and (error := done.exception()) is not None:
                callback(error)

        future.add_done_callback(report)
        return future
