"""Rules for which checkpoints may be mixed at their logits, decided from configs and tokenizers.

Much less is asked than of a merge. Layers, sizes and architectures may differ; token ids must mean the same.
"""

from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.safetensors_folder import read_json
from alphamix.policies.merging.compatibility import token_difference, vocabulary
from alphamix.policies.types import PolicyError


def check_mixable(low: Path, high: Path) -> None:
    """Check that two folders have equal vocabularies.

    Raises:
        PolicyError: names the size or the first token that differs, with both values.
    """
    difference = _size_difference(low, high) or token_difference("low", _tokens(low), "high", _tokens(high))
    if difference is not None:
        raise PolicyError(
            f"the logits of {low} (low) and {high} (high) cannot be mixed: {difference}; "
            "mix only checkpoints that share one vocabulary."
        )


def _size_difference(low: Path, high: Path) -> str | None:
    sizes = [_vocab_size(read_json(folder / "config.json")) for folder in (low, high)]
    return None if sizes[0] == sizes[1] else f"vocab_size is {sizes[0]} in low and {sizes[1]} in high"


def _vocab_size(config: dict[str, Any]) -> Any:
    """Return the vocabulary size of the language model, which has a config of its own in a multimodal model."""
    return config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))


def _tokens(folder: Path) -> dict[int, Any]:
    tokens = vocabulary(folder)
    if not tokens:
        raise PolicyError(
            f"{folder} has no tokenizer.json to compare: load its tokenizer with AutoTokenizer and save it there."
        )
    return tokens
