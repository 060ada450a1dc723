"""Which problems of a benchmark are wanted: a release or a split, and bounds that each problem must satisfy."""

from datetime import date

from pydantic import BaseModel, ConfigDict


class Selection(BaseModel):
    """What is wanted of a benchmark; None stands for everything, unless a key says otherwise."""

    model_config = ConfigDict(frozen=True)

    release: str | None = None
    """Name of a published state of the benchmark, such as `v6`; a range of its files is `v4_v6`."""
    split: str | None = None
    """Part of the benchmark, such as `train`; None stands for the part that is meant for tests, and for all of MBPP."""
    difficulty: str | None = None
    platform: str | None = None
    after: date | None = None
    """First day of the window of contests, which it includes."""
    before: date | None = None
    """Last day of the window, which it includes."""
    without_errata: bool = False
    """Whether problems are left out that have a known fault, or cannot be judged here."""

    def given(self) -> tuple[str, ...]:
        """Return the names of the keys that select something."""
        return tuple(key for key in Selection.model_fields if getattr(self, key) not in (None, False))

    def admits(
        self,
        *,
        difficulty: str | None = None,
        platform: str | None = None,
        day: date | None = None,
        erratum: str | None = None,
    ) -> bool:
        """Check whether a problem is wanted, of which this is known."""
        return (
            self.difficulty in (None, difficulty)
            and self.platform in (None, platform)
            and (self.after is None or (day is not None and day >= self.after))
            and (self.before is None or (day is not None and day <= self.before))
            and not (self.without_errata and erratum)
        )
