"""Which problems of a benchmark are wanted: a release, and bounds that each problem must satisfy."""

from datetime import date

from pydantic import BaseModel, ConfigDict


class Selection(BaseModel):
    """What is wanted of a benchmark; None stands for everything."""

    model_config = ConfigDict(frozen=True)

    release: str | None = None
    """Name of a published state of the benchmark, such as `v6`; a range of its files is `v4_v6`."""
    difficulty: str | None = None
    platform: str | None = None
    after: date | None = None
    """First day of the window of contests, which it includes."""
    before: date | None = None
    """Last day of the window, which it includes."""
    without_errata: bool = False
    """Whether problems with a known fault are left out."""

    def given(self) -> tuple[str, ...]:
        """Return the names of the keys that select something."""
        return tuple(key for key in Selection.model_fields if getattr(self, key) not in (None, False))
