"""Find the class of an engine by its name, and import it only then. Importing this module imports no engine."""

import importlib
from typing import Any

from alphamix.policies.types import PolicyError

ENGINES = {
    "openai": ("alphamix.policies.engines.openai.engine", "OpenAIEngine"),
    "scripted": ("alphamix.policies.engines.scripted", "ScriptedEngine"),
    "transformers": ("alphamix.policies.engines.transformers.engine", "TransformersEngine"),
    "vllm": ("alphamix.policies.engines.vllm.members", "PolicyFileFamily"),
}
"""Module and class of each engine. Policies share vLLM servers, so for vLLM it is the family that opens engines."""


def load_engine(name: str) -> Any:
    """Import the class of an engine.

    Raises:
        PolicyError: a package that the engine needs is not installed.
    """
    module, engine = ENGINES[name]
    try:
        return getattr(importlib.import_module(module), engine)
    except ModuleNotFoundError as error:
        raise PolicyError(
            f"the {name} engine needs the package {error.name}: pip install 'alphamix[local]' "
            "for policies that run in this process."
        ) from error
