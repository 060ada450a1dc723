"""A pair of checkpoints as one folder that vLLM serves: their logits are mixed, with an α in every request.

The folder holds low's config and tokenizer and the paths of the two checkpoints, whose weights are read in place, not
copied. `plugin.logits` runs inside vLLM. Nothing here imports vLLM.
"""

import shutil
from pathlib import Path
from typing import Any

from alphamix.atomic import whole_folder
from alphamix.policies.checkpoints.as_transformers import context_length
from alphamix.policies.checkpoints.safetensors_folder import WEIGHTS, companions, lay_out, read_json, write_json
from alphamix.policies.checkpoints.target_folder import refuse_taken
from alphamix.policies.merging.compatibility import check_mixable
from alphamix.policies.types import PolicyError

ARCHITECTURE = "AlphamixPairForCausalLM"
"""Architecture in the folder's config, which `plugin.registration` registers with vLLM."""

PAIR = "alphamix_pair"
"""Key in the folder's config that holds the paths of `low` and `high`."""

LOGITS_PROCESSOR = "alphamix.policies.engines.vllm.plugin.logits:PairLogits"

SERVER_ARGUMENTS = (
    *("--logits-processors", LOGITS_PROCESSOR),
    *("--logprobs-mode", "processed_logprobs"),
    "--enforce-eager",
    "--no-async-scheduling",
)
"""Arguments that vLLM needs to serve a pair; the model refuses to load without them."""

SERVER_ENVIRONMENT = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
"""Environment of the server: the second model runner, vLLM's default on GPUs, calls another kind of processor."""


def write_pair(low: Path, high: Path, folder: Path) -> None:
    """Write the folder of a pair; it appears whole or not at all.

    Layers, sizes and architectures of the two may differ. Tokenizer, chat template and end tokens are low's, the
    context is the shorter of the two.

    Raises:
        PolicyError: the two have different vocabularies or quantization, or the folder exists.
    """
    check_mixable(low, high)
    refuse_taken(folder)
    configs = [read_json(end / "config.json") for end in (low, high)]
    _check_quantization(*configs)
    config = configs[0] | {
        "architectures": [ARCHITECTURE],
        PAIR: {"low": str(low.resolve()), "high": str(high.resolve())},
    }
    contexts = [length for end in (low, high) if (length := context_length(end)) is not None]
    if contexts:
        config["n_positions" if "n_positions" in config else "max_position_embeddings"] = min(contexts)
    with whole_folder(folder) as temporary:
        for companion in companions(low):
            shutil.copyfile(companion, temporary / companion.name)
        write_json(temporary / "config.json", config)
        lay_out(temporary / WEIGHTS, [])  # vLLM wants a file of weights beside every config


def _check_quantization(low: dict[str, Any], high: dict[str, Any]) -> None:
    at_low, at_high = low.get("quantization_config"), high.get("quantization_config")
    if at_low != at_high:
        raise PolicyError(
            f"quantization_config of config.json is {at_low!r} in low and {at_high!r} in high: "
            "vLLM runs both in one way, quantize both alike or neither."
        )
