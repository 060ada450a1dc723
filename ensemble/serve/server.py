"""Runs the application until it is told to stop. Thin: all else is elsewhere."""

import os
import resource
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.serve.app import ServeOptions, create_app
from alphamix.ensemble.serve.catalogue import load_catalogue

_KEEP_ALIVE_S = 75
_OPEN_FILES = 65536


def serve(
    source: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    options: ServeOptions | None = None,
    mixture_paths: Sequence[Path] = (),
    drain_s: int = 30,
) -> None:
    """Serve the policies and mixtures of a policies file, or an experiment's, until SIGTERM or Ctrl-C.

    What is under way then has `drain_s` seconds to end; nothing new is taken.

    Raises:
        PolicyError: the file, or a policy in it, is not as it should be.
        EnsembleError: an experiment or a mixture is not.
    """
    _allow_many_connections()
    with load_catalogue(source, mixture_paths) as registry:
        registry.check()
        uvicorn.run(
            create_app(registry, options),
            host=host,
            port=port,
            log_level="info",
            loop="asyncio",  # uvloop is no faster here, and accepts one connection per round: a burst of them starves
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=drain_s,
        )


def _allow_many_connections() -> None:
    """Raise the limit of open files, often 1,024: a stream takes two, one to the client and one to the policy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def read_keys(variables: Sequence[str]) -> tuple[str, ...]:
    """Read the keys of clients from variables.

    Raises:
        EnsembleError: one is unset: serving without the key would be serving all.
    """
    keys: list[str] = []
    for variable in variables:
        key = os.environ.get(variable, "").strip()
        if not key:
            raise EnsembleError(f"the variable {variable} holds no API key: export {variable}=… first.")
        keys.append(key)
    return tuple(keys)
