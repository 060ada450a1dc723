"""The settings of a run, and what its policies are called: in a run of several settings, a policy and a setting.

A policy that is asked in several settings is one column of the outcomes for each, such as `low@reasoning` and
`low@tool`: everything that is planned, counted and compared by policy is then planned, counted and compared by both. In
a run of one setting, policies keep their names.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_ABOUT = "sampling.setting"
"""Key of the settings in what a plan was made from."""


class AskedPolicy(NamedTuple):
    """A policy, and the setting in which it is asked."""

    policy: str
    setting: str | None
    """None where a name says nothing about it."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The settings of a run, in order; none where they are unknown."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, setting: str | Sequence[str]) -> "RunSettings":
        """Return the settings that an experiment names: one, or several."""
        return cls((setting,) if isinstance(setting, str) else tuple(setting))

    @classmethod
    def of_plan(cls, about: Mapping[str, str]) -> "RunSettings":
        """Return the settings of a run from what its plan was made from."""
        return cls.of(json.loads(about[_ABOUT])) if _ABOUT in about else cls(())

    @property
    def are_several(self) -> bool:
        """Whether names of policies say the setting."""
        return len(self.names) > 1

    def labels(self, policy: str) -> list[str]:
        """Return what a policy is called in each setting."""
        return [f"{policy}@{setting}" for setting in self.names] if self.are_several else [policy]

    def split(self, label: str) -> AskedPolicy:
        """Return the policy and the setting that a label names. In several settings, a label may name the policy only,
        which is what it is called in the file of policies."""
        if not self.are_several:
            return AskedPolicy(label, next(iter(self.names), None))
        policy, _, setting = label.rpartition("@")
        return AskedPolicy(policy, setting) if policy and setting in self.names else AskedPolicy(label, None)
