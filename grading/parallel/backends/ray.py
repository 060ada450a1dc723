"""Backend that runs on a Ray cluster: the one at an address, or a temporary one on this machine."""

import logging
import os
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import joblib
import ray
from ray.exceptions import RayError
from ray.util.joblib.ray_backend import RayBackend

from alphamix.grading.parallel.backends import BackendError, Pool

_NAME = "alphamix-ray"


@contextmanager
def open_backend(workers: int | None, address: str | None) -> Generator[tuple[type[Exception], ...]]:
    """Run on `workers` cores of the cluster at `address` (None: all of them), or of this machine."""
    joblib.register_parallel_backend(_NAME, _Backend)
    with (
        _connected(workers, address) as num_workers,
        # Each actor asks for one core, because Ray would put all actors that ask for none on one machine.
        joblib.parallel_config(backend=_NAME, n_jobs=num_workers, ray_remote_args={"num_cpus": 1}),
    ):
        yield (RayError,)


@contextmanager
def open_pool(workers: int | None, address: str | None) -> Generator[Pool]:
    """Run calls, on one core each, on the cluster at `address` or on a local one with `workers` cores."""

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        task: Any = ray.remote(num_cpus=1, max_retries=0)(function)
        return task.remote(*arguments).future()

    with _connected(workers, address):
        yield Pool(submit, (RayError,))


@contextmanager
def _connected(workers: int | None, address: str | None) -> Generator[int]:
    """Connect to a cluster or start one, and provide the number of workers, where -1 stands for all cores."""
    num_workers = workers or (joblib.cpu_count() if address is None else -1)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a temporary cluster must not report usage
        ray.init(address="local", num_cpus=num_workers, include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError) as error:
            raise BackendError(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from None
    try:
        if "CPU" not in ray.cluster_resources():
            raise BackendError(
                f"the Ray cluster at {address} has no CPUs: add a machine to it with `ray start --address`"
            )
        yield num_workers
    finally:
        ray.shutdown()


class _Backend(RayBackend):
    """Ray's joblib backend. It can return results as they come, although it inherits a flag that denies this."""

    supports_return_generator = True
