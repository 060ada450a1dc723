"""Engines run policies: `transformers` (embedded), `openai` (any compatible URL), `vllm` (our own servers), `scripted`
(for tests).

Few files each, and one table to find them. torch and transformers are imported only when a local policy is
opened: whoever samples from a URL, or reads tables, needs neither.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from alphamix.policies.types import PolicyError

ENGINES = {
    "openai": ("alphamix.policies.engines.openai.engine", "OpenAIEngine"),
    "scripted": ("alphamix.policies.engines.scripted", "ScriptedEngine"),
    "transformers": ("alphamix.policies.engines.transformers.engine", "TransformersEngine"),
    "vllm": ("alphamix.policies.engines.vllm.members", "Family"),
}
"""Module and class of each engine; of vLLM, whose servers policies share, that of the family which opens engines."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs, whatever the policy. What an engine has no use for, it does not read."""

    batch_size: int = 256
    """Rows of one embedded batch."""
    device: str | None = None
    """Where an embedded model runs; None takes the GPU if there is one."""
    concurrency: int = 512
    """Samples in flight to one URL, at most: how many there are is found out (`concurrency`)."""
    choices: int = 16
    """Samples of one prompt that are asked for in one request to a URL (`n`), at most."""
    first_byte_timeout_s: float = 600.0
    """Seconds that a URL may be silent before the first byte, in each attempt. An answer that is not streamed comes
    all at once: it must be whole by then."""
    idle_timeout_s: float = 60.0
    """Seconds that a URL may be silent between one byte and the next."""
    deadline_s: float = 1800.0
    """Seconds for a request to a URL from when it is first sent, over all attempts and the waits between them."""
    max_retries: int = 5
    """Repeats of a request to a URL, at most, after rate limits, time-outs, lost connections and server errors."""


def load_engine(name: str) -> Any:
    """Import the class of an engine.

    Raises:
        PolicyError: a package that it needs is not installed.
    """
    module, engine = ENGINES[name]
    try:
        return getattr(importlib.import_module(module), engine)
    except ModuleNotFoundError as error:
        raise PolicyError(
            f"the {name} engine needs the package {error.name}: pip install 'alphamix[local]' "
            "for policies that run in this process."
        ) from error
