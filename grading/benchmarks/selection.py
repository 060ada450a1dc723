"""Which problems of a benchmark are wanted: a release, and bounds that each problem must satisfy."""

from dataclasses import dataclass, fields
from datetime import date


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted of a benchmark; None stands for everything."""

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
        return tuple(field.name for field in fields(self) if getattr(self, field.name) not in (None, False))
