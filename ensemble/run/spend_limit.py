"""What a whole run may still spend, shared by all that spend it.

Nobody knows what a sample costs before it is there. So samples are granted by what those of the same policy have cost
on average, half of what is affordable at a time: each grant corrects the one before, and the limit is met within the
last few samples.
"""

import threading
from collections import Counter
from collections.abc import Mapping

from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.run.progress_events import Cap

_FEW = 64
"""Samples that are granted at once when no more are affordable (to halve on would only keep engines waiting), and to a
policy whose costs are not known yet."""
_TRUSTED = 4
"""Samples that are granted for each whose costs are known: a few cheap ones at first do not make all others cheap."""


class SpendLimit:
    """Limits of a run, and what of them is left. Threads may share it.

    Args:
        limits: by currency; none means no limit.
        spent: so far, by policy, in every currency.
        at_first: what a sample costs at most, in every currency: what it is taken to cost before one is known.
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
        """Samples of each policy that were granted and have not come yet."""
        self._changed = threading.Condition()

    def grant(self, policy: str, wanted: int, *, whole: bool = False) -> int:
        """Say how many of so many samples may be drawn now; 0 when the limit is met. Waits while that is open.

        Args:
            policy: whose samples.
            wanted: samples.
            whole: all or none of them, since they cannot be drawn apart.
        """
        if not self._limits:
            return wanted
        least = wanted if whole else 1
        with self._changed:
            while (affordable := self._affordable(policy)) < least and self._granted.total():
                self._changed.wait()
            share = affordable if affordable <= _FEW else max(_FEW, affordable // 2)
            if not self._costs_are_certain():
                share = min(share, max(_FEW, _TRUSTED * self._known(policy)))
            granted = (wanted if affordable >= wanted else 0) if whole else min(wanted, share)
            self._granted[policy] += granted
            return granted

    def settle(self, policy: str, samples: int, tokens: float = 0.0, seconds: float = 0.0, *, lost: int = 0) -> None:
        """Say what granted samples of a policy have cost, and how many will not come."""
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
        """The limit that is nearest to being met; None without any."""
        if not self._limits:
            return None
        with self._changed:
            currency = max(self._limits, key=lambda one: self._total(one) / self._limits[one])
            return Cap(self._limits[currency], currency)

    def exhausted(self, policy: str) -> str | None:
        """Why a policy gets no more: all is spent, or too little is left for a whole batch; None without a limit."""
        cap = self.cap()
        if cap is None:
            return None
        with self._changed:
            is_left, spent = self._affordable(policy) > 0, self._total(cap.currency)
        if is_left:
            return f"what is left of budget.run.{cap.currency} = {cap.total:g} does not pay for a whole batch"
        return f"budget.run.{cap.currency} = {cap.total:g} is spent ({spent:,.6g} so far)"

    def _affordable(self, policy: str) -> int:
        """Samples of a policy that are paid for, beyond all that is granted."""
        return min(self._affordable_in(currency, policy) for currency in self._limits)

    def _affordable_in(self, currency: Currency, policy: str) -> int:
        promised = sum(number * self._cost(one, currency) for one, number in self._granted.items())
        left = self._limits[currency] - self._total(currency) - promised
        return max(0, int(left / self._cost(policy, currency) + 1e-9))

    def _cost(self, policy: str, currency: Currency) -> float:
        """Mean of its samples; before one is known that of the dearest policy."""
        known = self._mean_cost(policy, currency)
        if known is None:
            others = [cost for one in self._spent if (cost := self._mean_cost(one, currency)) is not None]
            return max(others, default=self._at_first[currency])
        return known

    def _known(self, policy: str) -> int:
        """Samples of a policy whose costs are known."""
        return int(self._spent.get(policy, {}).get("samples", 0))

    def _costs_are_certain(self) -> bool:
        return all(currency == "samples" for currency in self._limits)

    def _mean_cost(self, policy: str, currency: Currency) -> float | None:
        if currency == "samples":
            return 1.0
        spent = self._spent.get(policy)
        return spent[currency] / spent["samples"] if spent and spent["samples"] and spent[currency] else None

    def _total(self, currency: Currency) -> float:
        return sum(spent[currency] for spent in self._spent.values())


UNLIMITED = SpendLimit({}, {}, {})
"""Of a run without limits."""
