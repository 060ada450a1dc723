"""Files of a benchmark from the Hugging Face hub, at a pinned revision, kept in the hub's own cache."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files of a dataset at one revision."""

    repository: str
    revision: str
    size_mb: Mapping[str, float]
    """Size of each file in 10^6 bytes, or of all files that match a pattern such as `data/train-*.parquet`."""
    names_of: Callable[[Selection], Sequence[str]]
    """Return the names, or patterns, of the files that hold what is selected."""

    def size(self, selection: Selection) -> str:
        """Return the size of the files that hold what is selected, in words."""
        megabytes = sum(self.size_mb[name] for name in self.names_of(selection))
        return f"{megabytes:,.0f} MB" if megabytes >= 1 else "less than 1 MB"


def fetch(files: HubFiles, selection: Selection, licence: str, announce: Callable[[str], None]) -> Path:
    """Return a folder with the files that hold what is selected, fetched unless the hub's cache has them.

    `announce` is told the size and the licence before anything is fetched.

    Raises:
        GradingError: there is no such release, or the hub does not answer, or refuses.
    """
    names = files.names_of(selection)
    hub: Any = importlib.import_module("huggingface_hub")  # slow to import
    announce(
        f"{', '.join(names)} of {files.repository} at {files.revision[:8]}: {files.size(selection)} "
        f"unless they are in the cache; {licence}"
    )
    of_revision = {"repo_type": "dataset", "revision": files.revision}
    try:
        if any("*" in name for name in names):  # which needs a list of the repository's files
            return Path(hub.snapshot_download(files.repository, allow_patterns=list(names), **of_revision))
        paths = [Path(hub.hf_hub_download(files.repository, name, **of_revision)) for name in names]
    except Exception as error:  # the hub library passes on the errors of several HTTP clients
        cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise GradingError(
            f"{files.repository} cannot be fetched ({cause}): check network access, or give its files with --path"
        ) from error
    return paths[0].parents[names[0].count("/")]
