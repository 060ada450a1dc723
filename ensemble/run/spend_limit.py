"""The spend limit of a run, shared by all threads that sample.

The cost of a sample is known only afterwards. So samples are granted by the mean cost of earlier ones of the same
policy, half of what is affordable at a time: each grant corrects the one before, and the limit is met within the last
few samples.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from math import inf

from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.experiment.resolved import SamplingInputs
from alphamix.ensemble.run.progress_events import Cap
from alphamix.ensemble.store import Store

_FEW = 64
"""Number of samples that is not halved any further (engines would only wait), and the first grant of a policy whose
costs are unknown."""
_TRUSTED = 4
"""Samples granted for each one whose costs are known: a few cheap ones at first do not make all others cheap."""
_FIRST_BY_TIME = 32
"""Number of samples that a limit in seconds is assumed to pay for until the duration of one is known."""


class SpendLimit:
    """Limits of a run, and what is left of them. Threads may share it.

    Args:
        limits: by currency; empty means unlimited.
        spent: so far, by policy, in every currency.
        at_first: assumed cost of a sample before any is known, in every currency: the most it can be.
    """

    def __init__(
        self,
        limits: Mapping[Currency, float],
        spent: Mapping[str, Mapping[Currency, float]],
        at_first: Mapping[Currency, float],
    ) -> None:
        self._limits = limits
        self._spent = {policy: dict(costs) for policy, costs in spent.items()}
        self._at_first = at_first
        self._granted: Counter[str] = Counter()
        """Samples of each policy that were granted and have not arrived yet."""
        self._changed = threading.Condition()

    def grant(self, policy: str, wanted: int, *, whole: bool = False) -> int:
        """Return how many of the wanted samples may be drawn now; 0 when the limit is met.

        Waits while nothing is affordable but samples are still under way, since they may cost less than assumed.

        Args:
            policy: that is sampled.
            wanted: number of samples.
            whole: grant all of them or none, since they cannot be drawn separately.
        """
        if not self._limits:
            return wanted
        least = wanted if whole else 1
        with self._changed:
            while (affordable := self._affordable(policy)) < least and self._granted.total():
                self._changed.wait()
            share = affordable if affordable <= _FEW else max(_FEW, affordable // 2)
            if any(currency != "samples" for currency in self._limits):  # what the samples will cost is uncertain
                known = int(self._spent.get(policy, {}).get("samples", 0))
                share = min(share, max(_FEW, _TRUSTED * known))
            granted = (wanted if affordable >= wanted else 0) if whole else min(wanted, share)
            self._granted[policy] += granted
            return granted

    def settle(self, policy: str, samples: int, tokens: float = 0.0, seconds: float = 0.0, *, lost: int = 0) -> None:
        """Report the cost of granted samples of a policy, and how many will not arrive."""
        if not self._limits:
            return
        with self._changed:
            self._granted[policy] -= samples + lost
            spent = self._spent.setdefault(policy, dict.fromkeys(CURRENCIES, 0.0))
            spent["samples"] += samples
            spent["tokens"] += tokens
            spent["seconds"] += seconds
            self._changed.notify_all()

    def cap(self) -> Cap | None:
        """Return the limit that is nearest to being met; None if unlimited."""
        if not self._limits:
            return None
        with self._changed:
            currency = max(self._limits, key=lambda currency: self._total(currency) / self._limits[currency])
            return Cap(self._limits[currency], currency)

    def exhausted(self, policy: str) -> str | None:
        """Return why a policy gets no more samples; None if unlimited."""
        cap = self.cap()
        if cap is None:
            return None
        with self._changed:
            is_left, spent = self._affordable(policy) > 0, self._total(cap.currency)
        if is_left:
            return f"the rest of budget.run.{cap.currency} = {cap.total:g} does not pay for a whole batch"
        return f"budget.run.{cap.currency} = {cap.total:g} is spent ({spent:,.6g} so far)"

    def _affordable(self, policy: str) -> int:
        """Return the number of samples of a policy that the limits pay for, beyond everything granted."""
        return min(self._affordable_in(currency, policy) for currency in self._limits)

    def _affordable_in(self, currency: Currency, policy: str) -> int:
        promised = sum(number * self._cost(name, currency) for name, number in self._granted.items())
        left = self._limits[currency] - self._total(currency) - promised
        return max(0, int(left / self._cost(policy, currency) + 1e-9))  # a limit that is an exact multiple pays for all

    def _cost(self, policy: str, currency: Currency) -> float:
        """Return the mean cost of a policy's samples; before one is known, that of the most expensive policy."""
        known = self._mean_cost(policy, currency)
        if known is not None:
            return known
        others = [cost for name in self._spent if (cost := self._mean_cost(name, currency)) is not None]
        return max(others, default=self._at_first[currency])

    def _mean_cost(self, policy: str, currency: Currency) -> float | None:
        if currency == "samples":
            return 1.0
        spent = self._spent.get(policy)
        return spent[currency] / spent["samples"] if spent and spent["samples"] and spent[currency] else None

    def _total(self, currency: Currency) -> float:
        return sum(spent[currency] for spent in self._spent.values())


UNLIMITED = SpendLimit({}, {}, {})
"""The limit of a run that has none."""


def limit_of_run(store: Store, inputs: SamplingInputs, limits: Mapping[Currency, float]) -> SpendLimit:
    """Return what a run may still spend.

    An embedded engine draws whole batches or nothing: its first batch must be affordable at the assumed cost, or no
    cost would ever become known.
    """
    if not limits:
        return UNLIMITED
    registry = inputs.registry
    is_embedded = not all(map(registry.is_remote, registry.names))
    batch = inputs.section.batch_size if is_embedded else 1
    max_tokens = max(asked.section.max_tokens for asked in inputs.asked.values())
    at_first: dict[Currency, float] = {
        "samples": 1,
        "tokens": min(max_tokens, limits.get("tokens", inf) / batch),
        "seconds": limits.get("seconds", 0.0) / max(_FIRST_BY_TIME, batch),
    }
    done = store.progress().rename(columns={"sampled": "samples"})[list(CURRENCIES)]
    spent: dict[str, dict[Currency, float]] = {
        str(policy): {currency: float(costs[currency]) for currency in CURRENCIES} for policy, costs in done.iterrows()
    }
    return SpendLimit(limits, spent, at_first)


def spent_limits(owed: Counter[str], limits: Mapping[Currency, float]) -> list[str]:
    """Return the keys of the limits for which samples were not asked for. Asking again would change nothing."""
    keys = [f"budget.run.{currency}" for currency in limits]
    return [key for key in keys if any(f"{key} = " in cause for cause in owed)]
