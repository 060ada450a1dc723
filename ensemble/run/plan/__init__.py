"""What a run draws: `resolved_arms` resolves the arms of an experiment, `stages` turns them into slots, `adaptive_arms`
follows those that learn as they spend, and `dry_run` describes the plan.
"""

from alphamix.ensemble.run.plan.adaptive_arms import PlayedArms, played_arms
from alphamix.ensemble.run.plan.dry_run import describe
from alphamix.ensemble.run.plan.resolved_arms import Arms, known_arms
from alphamix.ensemble.run.plan.stages import check, extend

__all__ = ["Arms", "PlayedArms", "check", "describe", "extend", "known_arms", "played_arms"]
