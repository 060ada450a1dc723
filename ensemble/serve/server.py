"""Runs the application under uvicorn until it is stopped."""

import os
import re
import resource
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.serve.app import ServeOptions, create_app
from alphamix.ensemble.serve.catalogue import load_catalogue, without_missing

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
    drops_missing: bool = False,
) -> None:
    """Serve the policies and mixtures of a policies file or an experiment until SIGTERM or Ctrl-C.

    Requests under way then have `drain_s` seconds to end; new ones are refused. With `drops_missing`, policies whose
    weights or keys are not there are named on standard error and left out, also of mixtures.

    Raises:
        PolicyError: the file, or a policy in it, is invalid.
        EnsembleError: the experiment, or a mixture, is invalid, or nothing can listen at the address.
    """
    _allow_many_connections()
    _check_address(host, port)
    catalogue, faults = load_catalogue(source, mixture_paths), dict[str, str]()
    if drops_missing:
        catalogue, faults = without_missing(catalogue)
    for name, fault in faults.items():
        print(f"{name!r} is left out, also of mixtures ({fault.rstrip('.')})", file=sys.stderr)
    with catalogue as registry:
        registry.check()
        uvicorn.run(
            create_app(registry, options),
            host=host,
            port=port,
            log_level="info",
            # uvloop is no faster here, and accepts one connection per iteration, so that a burst of them starves.
            loop="asyncio",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=drain_s,
        )


def _check_address(host: str, port: int) -> None:
    """Check that a server can listen at an address. uvicorn would end the process with 3, which means owed work."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        is_lookup = isinstance(error, socket.gaierror)
        cause = error.strerror if is_lookup or not error.errno else os.strerror(error.errno)
        raise EnsembleError(
            f"nothing can listen on {host}:{port} ({cause}): give another --host or --port, or stop what listens there."
        ) from error


def _allow_many_connections() -> None:
    """Raise the limit of open files, often 1,024: a stream needs two, one to the client and one to the policy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def read_keys(variables: Sequence[str]) -> tuple[str, ...]:
    """Read the API keys of clients from environment variables.

    Raises:
        EnsembleError: a variable is unset; without its key the server might be open to everyone.
    """
    keys: list[str] = []
    for variable in variables:
        key = os.environ.get(variable, "").strip()
        if not key:
            if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):  # not as variables are named: perhaps the key itself
                raise EnsembleError(
                    "--api-key-env names no variable that is set: give the name of the variable that holds the key, "
                    "never the key, and export it."
                )
            raise EnsembleError(f"the variable {variable} has no API key: export {variable}=… first.")
        keys.append(key)
    return tuple(keys)
