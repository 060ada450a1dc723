"""Runs the application under uvicorn until it is stopped."""

import atexit
import importlib
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.serve.accounts import read_keys
from alphamix.ensemble.serve.app import ServeOptions, Tracer, create_app
from alphamix.ensemble.serve.catalogue import load_catalogue, without_missing
from alphamix.ensemble.serve.http_protocol import ConnectionLimits, protocol_with
from alphamix.policies.policy_file.toml_errors import read_toml
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError

_KEEP_ALIVE_S = 75
_OPEN_FILES = 65536


def serve(
    source: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    options: ServeOptions | None = None,
    mixture_paths: Sequence[Path] = (),
    connections: ConnectionLimits | None = None,
    drain_s: int = 30,
    drops_missing: bool = False,
) -> None:
    """Serve the policies and mixtures of a policies file or an experiment until SIGTERM or Ctrl-C.

    Requests under way then have `drain_s` seconds to end; new ones are refused. Clients that have not got their answer
    by then are told so. On SIGHUP the files are read again. Keys of the file, `[keys]`, are added to those of the
    options. With `drops_missing`, policies whose weights or keys are not there are named on standard error and left
    out, also of mixtures.

    Raises:
        PolicyError: the file, or a policy in it, is invalid.
        EnsembleError: the experiment, or a mixture, is invalid, or nothing can listen at the address.
    """
    _allow_many_connections()
    _check_address(host, port)
    given = options or ServeOptions()
    given = replace(given, hosts=(*given.hosts, host))
    read = partial(_read, source, mixture_paths, drops_missing=drops_missing)
    with read() as registry:
        uvicorn.run(
            create_app(registry, _checked(registry, given), partial(_reload, read, given)),
            http=protocol_with(connections or ConnectionLimits()),
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


def _read(source: Path, mixtures: Sequence[Path], *, drops_missing: bool) -> Registry:
    """Read what to serve; with `drops_missing`, without the policies that are not there."""
    registry, faults = load_catalogue(source, mixtures), dict[str, str]()
    if drops_missing:
        registry, faults = without_missing(registry)
    for name, fault in faults.items():
        print(f"{name!r} is left out, also of mixtures ({fault.rstrip('.')})", file=sys.stderr)
    return registry


def _checked(registry: Registry, options: ServeOptions) -> ServeOptions:
    """Check the policies, and return the options with the keys of their file."""
    registry.check()
    tables = read_toml(registry.source, EnsembleError).get("keys", {})
    keys = read_keys(tables, registry.source, [*registry.names, *registry.mixtures], registry.names_of_file)
    return replace(options, keys=(*options.keys, *keys))


def _reload(read: Callable[[], Registry], options: ServeOptions) -> tuple[Registry, ServeOptions]:
    """Read the files again. Policies with weights here are not reloaded: both of their engines would have to fit."""
    registry = read()
    if local := [name for name in registry.names if not registry.is_remote(name)]:
        raise PolicyError(
            f"{registry.source} has policies with weights here, such as {local[0]!r}: restart the server."
        )
    return registry, _checked(registry, options)


def open_tracer() -> Tracer:
    """Return what traces requests by OpenTelemetry; its last spans are sent at exit.

    Raises:
        EnsembleError: the extra `otel` is missing.
    """
    try:
        tracing: Any = importlib.import_module("alphamix.ensemble.serve.tracing")
    except ImportError as error:
        raise EnsembleError(f"--otel needs OpenTelemetry ({error}): pip install 'alphamix[otel]' first.") from error
    tracer = tracing.SpanTracer.from_environment()
    atexit.register(tracer.close)
    return tracer


def _allow_many_connections() -> None:
    """Raise the limit of open files, often 1,024: a stream needs two, one to the client and one to the policy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
