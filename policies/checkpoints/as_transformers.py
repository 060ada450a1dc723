"""A checkpoint as transformers takes it: its config with all defaults, its tensors by the parameters they become, its
vocabulary.

It is asked where the files of two checkpoints differ, to learn whether their meaning does. transformers takes seconds
to import and is no part of the core: where it is missing, or does not know the model, files are compared as they
stand, and `hint` tells the user so.
"""

import importlib
import importlib.util
import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.safetensors_folder import TensorInfo

_OLD_ROTARY_BUFFER = "rotary_emb.inv_freq"
"""End of the name of a buffer that old checkpoints store, and that transformers computes anew."""


def hint() -> str:
    """Return a clause for a message about a difference between files, which may be none to transformers."""
    if _is_installed("transformers", "torch"):
        return ""
    return " (files are compared as they stand; pip install 'alphamix[local]' compares what transformers loads)"


def resolved_config(folder: Path) -> dict[str, Any] | None:
    """Return a config with defaults filled in and keys renamed to those of today, or None if it is not known how.

    Keys that transformers does not know are left out, since no model reads them.
    """
    config = _config(folder)
    if config is None:
        return None
    try:
        known = type(config)().to_dict().keys()
    except Exception:  # the config of a few models cannot be made without arguments
        return config.to_dict()
    return {key: value for key, value in config.to_dict().items() if key in known}


def as_loaded(folder: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Return the tensors of a checkpoint by the names of the parameters that they become.

    Tensors that transformers ignores are left out: buffers that it computes itself. A tensor that becomes a part of a
    parameter (one of the experts of a layer) keeps its own name, and so do all if transformers does not know the model.
    """
    model = _empty_model(folder)
    if model is None:
        return dict(tensors)
    parameters = frozenset(model.state_dict())
    computed = {name for name, _ in model.named_buffers()} - parameters
    ignored = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()]
    if any(name.endswith(_OLD_ROTARY_BUFFER) for name in computed):
        ignored.append(re.compile(re.escape(_OLD_ROTARY_BUFFER) + "$"))
    prefix = f"{model.base_model_prefix}."
    loaded: dict[str, TensorInfo] = {}
    for stored, tensor in tensors.items():
        names = (stored, prefix + stored, stored.removeprefix(prefix))  # some store the model without its head
        name = next((name for name in names if name in parameters), stored)
        is_computed = any(name in computed for name in names) or any(p.search(stored) for p in ignored)
        if name in parameters or not is_computed:
            loaded[name] = tensor
    return loaded


def vocabulary(folder: Path) -> dict[int, str] | None:
    """Return the tokens of a tokenizer by id, or None if transformers cannot load it."""
    if not _is_installed("transformers"):
        return None
    with quiet_transformers() as transformers:
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception:  # of many kinds, since each tokenizer has a loader of its own
            return None
    return {token: text for text, token in tokenizer.get_vocab().items()}


@contextmanager
def quiet_transformers() -> Generator[Any]:
    """Import transformers, and keep its progress bars and notices off the user's terminal."""
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


def _config(folder: Path) -> Any:
    if not _is_installed("transformers"):
        return None
    with quiet_transformers() as transformers:
        try:
            return transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except Exception:  # of many kinds: each config checks itself
            return None


def _empty_model(folder: Path) -> Any:
    """Build the model of a checkpoint without memory for its weights; None if there is no torch or it is unknown."""
    config = _config(folder)
    if config is None or not _is_installed("torch"):
        return None
    torch = importlib.import_module("torch")
    with quiet_transformers() as transformers, torch.device("meta"):
        try:
            return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        except Exception:  # a config that no model can be made of is not this function's to judge
            return None


def _is_installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in packages)
