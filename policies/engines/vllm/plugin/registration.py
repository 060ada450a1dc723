"""Entry point that vLLM calls in each of its processes: it registers the model of a pair without importing it."""

from vllm import ModelRegistry  # pyright: ignore  (not in the environment of the type check)

from alphamix.policies.engines.vllm.pair import ARCHITECTURE


def register() -> None:
    """Register the architecture of a pair. Safe to call more than once."""
    ModelRegistry.register_model(ARCHITECTURE, "alphamix.policies.engines.vllm.plugin.logits:PairForCausalLM")
