"""Where checkpoints come from: a folder, or the hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from policies.types import PolicyError
from policies.weights import COMPANIONS, INDEX


def source(text: str, relative_to: Path) -> Path | str:
    """A folder where there is one, else a hub id where it could be one, else the folder that is missing."""
    folder = (relative_to / Path(text).expanduser()).resolve()
    is_hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", text) is not None
    return text if is_hub_id and not folder.is_dir() else folder


def locate(checkpoint: Path | str) -> Path:
    """Folder of a checkpoint, fetched from the hub if it is a hub id.

    Raises:
        PolicyError: there is no such folder, or the hub does not give it.
    """
    if isinstance(checkpoint, Path):
        if checkpoint.is_dir():
            return checkpoint
        raise PolicyError(f"there is no folder {checkpoint}: correct the path of its checkpoint.")
    try:
        return Path(snapshot_download(checkpoint, allow_patterns=["*.safetensors", INDEX, *COMPANIONS]))
    except Exception as error:  # its library lets errors of several HTTP clients through
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise PolicyError(
            f"{checkpoint!r} is no folder, and the hub does not give it ({reason}): "
            "correct the path or the id, or see to network access and HF_TOKEN."
        ) from error
