"""What every setting shares: the outcome of asking a policy for the sample of one slot."""

from alphamix.ensemble.store import Sample, Slot
from alphamix.policies.types import EngineFailure

Sampled = Sample | tuple[Slot, EngineFailure]
"""The outcome of a slot; after a failure its sample is still owed."""


def slot_of(result: Sampled) -> Slot:
    """Return the slot of an outcome."""
    return result.slot if isinstance(result, Sample) else result[0]
