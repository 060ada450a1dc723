"""Runs the application until it is told to stop; reads what it is to serve. Thin: all else is elsewhere."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import uvicorn

from ensemble.errors import EnsembleError
from ensemble.serve.app import ServeOptions, create_app
from policies.config import nearest
from policies.registry import Registry

_KEEP_ALIVE_S = 75


def serve(
    registry_path: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    options: ServeOptions | None = None,
    mixture_paths: Sequence[Path] = (),
    drain_s: int = 30,
) -> None:
    """Serve the policies and mixtures of a policies file until SIGTERM or Ctrl-C.

    What is under way then has `drain_s` seconds to end; nothing new is taken.

    Raises:
        PolicyError: the file, or a policy in it, is not as it should be.
        EnsembleError: a mixture is not.
    """
    with Registry.load(registry_path) as registry:
        for path in mixture_paths:
            if path.stem in registry.names:
                raise EnsembleError(f"{path} has the name of the policy {path.stem!r}: give the file another name.")
            registry.mixtures[path.stem] = read_mixture(path, registry.names)
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


def read_mixture(path: Path, policies: Sequence[str]) -> dict[str, float]:
    """Read what `alphamix mix --json` prints: its `allocation` becomes weights.

    Raises:
        EnsembleError: it is not that, or names a policy that is not served.
    """
    try:
        allocation = json.loads(path.read_text(encoding="utf-8"))["allocation"]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise EnsembleError(f"{path} holds no mixture ({error!r}): give what 'alphamix mix --json' prints.") from error
    if not isinstance(allocation, Mapping) or not allocation:
        raise EnsembleError(f"the allocation of {path} is {allocation!r}: give counts by policy.")
    weights: dict[str, float] = {}
    for policy, count in cast("Mapping[str, Any]", allocation).items():
        if policy not in policies:
            raise EnsembleError(f"{path} mixes the unknown policy {policy!r}: {nearest(policy, policies)}")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise EnsembleError(f"{path} gives {policy!r} the count {count!r}: give a whole number, 0 or more.")
        weights[policy] = count
    if not any(weights.values()):
        raise EnsembleError(f"the allocation of {path} gives nobody a sample: give one policy 1 or more.")
    return weights


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
