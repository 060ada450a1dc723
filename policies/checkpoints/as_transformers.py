"""A checkpoint as transformers takes it: its config with all defaults, its tensors by the parameters they become, its
vocabulary.

It is asked where the files of two checkpoints differ, to learn whether their meaning does. transformers takes seconds
to import and is no part of the core: where it is missing, or does not know the model, files are compared as they
stand, and `hint` tells the user so.
"""

import importlib
import importlib.util
import os
import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.safetensors_folder import TensorInfo, read_json

_OLD_ROTARY_BUFFER = "rotary_emb.inv_freq"
"""End of the name of a buffer that old checkpoints store, and that transformers computes anew."""

_KEYS_OF_ROTATION = (
    "partial_rotary_factor", "rope_local_base_freq", "rope_scaling", "rope_theta", "rotary_emb_base", "rotary_pct",
)  # fmt: skip
"""Keys of version 4, which stay beside the `rope_parameters` that version 5 makes of them."""


def hint() -> str:
    """Return a clause for a message about a difference between files, which may be none to transformers."""
    if _is_installed("transformers", "torch"):
        return ""
    return " (files are compared as they stand; pip install 'alphamix[local]' compares what transformers loads)"


def resolved_config(folder: Path) -> dict[str, Any] | None:
    """Return a config with defaults filled in and keys renamed to those of today, or None if it is not known how."""
    config = _config(folder)
    if config is None:
        return None
    values: dict[str, Any] = config.to_dict()
    moved = _KEYS_OF_ROTATION if "rope_parameters" in values else ()
    return {key: value for key, value in values.items() if key not in moved}


def context_length(folder: Path) -> int | None:
    """Return the context that a config states or has by default, in tokens, or None if it has none.

    Raises:
        PolicyError: the folder has no config that can be read.
    """
    length = _stated_length(read_json(folder / "config.json"))
    return _stated_length(resolved_config(folder) or {}) if length is None else length


def _stated_length(config: Mapping[str, Any]) -> int | None:
    """Return the length under any of its names, and of the language model in a model of more than text."""
    of_text: Mapping[str, Any] = {**config, **config.get("text_config", {})}
    length = of_text.get("max_position_embeddings", of_text.get("n_positions"))
    return length if isinstance(length, int) and not isinstance(length, bool) else None


def as_loaded(folder: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Return the tensors of a checkpoint by the names of the parameters that they become.

    Tensors that transformers ignores are left out: buffers that it computes itself. A tensor that becomes a part of a
    parameter (one of the experts of a layer) keeps a name of its own, and so do all if transformers does not know the
    model.
    """
    model = _empty_model(folder)
    if model is None:
        return dict(tensors)
    parameters = frozenset(model.state_dict())
    computed = {name for name, _ in model.named_buffers()} - parameters
    ignored = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    if any(name.endswith(_OLD_ROTARY_BUFFER) for name in computed):
        ignored.append(re.compile(re.escape(_OLD_ROTARY_BUFFER) + "$"))
    prefix, renamings = f"{model.base_model_prefix}.", _renamings(model)
    loaded: dict[str, TensorInfo] = {}
    for stored, tensor in tensors.items():
        renamed = stored
        for renaming in renamings:
            renamed, _ = renaming.rename_source_key(renamed)
        names = (renamed, prefix + renamed, renamed.removeprefix(prefix))  # some store the model without its head
        name = next((name for name in names if name in parameters), renamed)
        is_computed = any(name in computed for name in names) or any(p.search(renamed) for p in ignored)
        if name in parameters or not is_computed:
            loaded[name] = tensor
    return loaded


def vocabulary(folder: Path) -> dict[int, str] | None:
    """Return the tokens of a tokenizer by id, or None if transformers cannot load it."""
    if not _is_installed("transformers"):
        return None
    try:
        with quiet_transformers() as transformers:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # of many kinds, since each tokenizer has a loader of its own
        return None
    return {token: text for text, token in tokenizer.get_vocab().items()}


@contextmanager
def quiet_transformers() -> Generator[Any]:
    """Import transformers, and keep its progress bars and notices off the user's terminal."""
    with _environment("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"):  # on import it tells the user that torch is missing
        transformers = importlib.import_module("transformers")
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield transformers
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _environment(name: str, value: str) -> Generator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def _config(folder: Path) -> Any:
    if not _is_installed("transformers"):
        return None
    try:
        with quiet_transformers() as transformers:
            return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception:  # of many kinds: each config checks itself
        return None


def _empty_model(folder: Path) -> Any:
    """Build the model of a checkpoint without memory for its weights; None if there is no torch or it is unknown."""
    config = _config(folder)
    if config is None or not _is_installed("torch"):
        return None
    try:
        torch = importlib.import_module("torch")
        with quiet_transformers() as transformers, torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception:  # a config that no model can be made of is not this function's to judge
        return None


def _renamings(model: Any) -> list[Any]:
    """Return the changes of names that transformers makes when it loads a checkpoint; none before it had them."""
    try:
        conversions = importlib.import_module("transformers.conversion_mapping").get_model_conversion_mapping(model)
        renaming = importlib.import_module("transformers.core_model_loading").WeightRenaming
    except (ImportError, AttributeError, TypeError):
        return []
    return [conversion for conversion in conversions if isinstance(conversion, renaming)]


def _is_installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in packages)
