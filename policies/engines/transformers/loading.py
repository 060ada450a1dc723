"""Loading of a checkpoint's model and tokenizer for the embedded engine, without the output of transformers."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from alphamix.policies.checkpoints.as_transformers import quiet_transformers
from alphamix.policies.types import PolicyError


def load_checkpoint(
    path: Path, device: str, dtype: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a folder: in `dtype`, or else in float32 for a CPU and in the checkpoint's own for a GPU. The model stays on
    the CPU.

    Raises:
        PolicyError: transformers cannot load the folder, or would have to invent weights that it lacks.
    """
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=dtype or ("float32" if device == "cpu" else "auto"),
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise PolicyError(
            f"transformers cannot load {path} ({first_line(error)}): "
            "give a folder of a causal language model with its tokenizer, as save_pretrained writes it."
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise PolicyError(
            f"{path} lacks {len(missing)} weights of its architecture, first {missing[0]!r}: "
            "the checkpoint is incomplete, copy it again."
        )
    return model, tokenizer


def first_line(error: Exception) -> str:
    """Return the first line of an error, without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
