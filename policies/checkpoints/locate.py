"""Location of checkpoints: a local folder, or the hub."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.safetensors_folder import COMPANIONS, INDEX
from alphamix.policies.types import CheckpointNotFoundError

CHECKPOINT_FILES = ("*.safetensors", INDEX, *COMPANIONS)
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", *COMPANIONS)
"""Patterns of the files that are fetched from the hub."""


def source(text: str, relative_to: Path) -> Path | str:
    """Return the folder if it exists, else the text as a hub id if it has the form of one, else the missing folder."""
    folder = (relative_to / Path(text).expanduser()).resolve()
    is_hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", text) is not None
    return text if is_hub_id and not folder.is_dir() else folder


def locate(checkpoint: Path | str, files: Sequence[str] = CHECKPOINT_FILES) -> Path:
    """Return the folder of a checkpoint or an adapter. If it is a hub id, the given `files` are fetched first.

    Raises:
        CheckpointNotFoundError: there is no such folder, or the hub does not give it.
    """
    if isinstance(checkpoint, Path):
        if checkpoint.is_dir():
            return checkpoint
        raise CheckpointNotFoundError(f"there is no folder {checkpoint}: correct its path.")
    hub: Any = importlib.import_module("huggingface_hub")  # slow to import, and not needed for local folders
    try:
        return Path(hub.snapshot_download(checkpoint, allow_patterns=list(files)))
    except Exception as error:  # the hub library passes on the errors of several HTTP clients
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CheckpointNotFoundError(
            f"{checkpoint!r} is not a folder, and the hub does not give it ({reason}): "
            "correct the path or the id, or check network access and HF_TOKEN."
        ) from error
