"""What a run draws: `arms` resolves the arms of an experiment, `stages` turns them into slots, `adaptive` follows those
that learn as they spend, `description` is the dry run.
"""

from ensemble.plan.adaptive import played_arms
from ensemble.plan.arms import Arms, known_arms
from ensemble.plan.description import describe
from ensemble.plan.stages import check, extend

__all__ = ["Arms", "check", "describe", "extend", "known_arms", "played_arms"]
