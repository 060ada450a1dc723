"""Files of a benchmark from the Hugging Face hub, at a pinned revision, kept in the hub's own cache."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphamix.grading.errors import GradingError


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files of a dataset at one revision."""

    repository: str
    revision: str
    size_mb: Mapping[str, int]
    """Size of each file in 10^6 bytes."""
    names_of: Callable[[str | None], Sequence[str]]
    """Return the names of the files of a release, or of all where None is given."""

    def total_mb(self, names: Sequence[str]) -> int:
        """Return the size of some files in 10^6 bytes."""
        return sum(self.size_mb[name] for name in names)


def fetch(files: HubFiles, release: str | None, licence: str, announce: Callable[[str], None]) -> Path:
    """Return a folder with the files of a release, fetched unless the hub's cache has them.

    `announce` is told the size and the licence before anything is fetched.

    Raises:
        GradingError: there is no such release, or the hub does not answer, or refuses.
    """
    names = files.names_of(release)
    hub: Any = importlib.import_module("huggingface_hub")  # slow to import
    announce(
        f"{', '.join(names)} of {files.repository} at {files.revision[:8]}: {files.total_mb(names):,} MB "
        f"unless they are in the cache; {licence}"
    )
    try:
        paths = [
            hub.hf_hub_download(files.repository, name, repo_type="dataset", revision=files.revision) for name in names
        ]
    except Exception as error:  # the hub library passes on the errors of several HTTP clients
        cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise GradingError(
            f"{files.repository} cannot be fetched ({cause}): check network access, or give its files with --path"
        ) from error
    return Path(paths[0]).parent
