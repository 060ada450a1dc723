"""What a whole run may still spend, shared by all that spend it.

Nobody knows what a sample costs before it is there. So samples are granted by what they have cost on average, half of
what is affordable at a time: each grant corrects the one before, and the limit is met within the last few samples.
"""

import threading
from collections.abc import Mapping

from ensemble.mixture.search import Currency
from ensemble.monitor import Cap

_FEW = 64
"""Samples that are granted at once when no more are affordable; to halve on would only keep engines waiting."""


class Allowance:
    """Limits of a run, and what of them is left. Threads may share it.

    Args:
        limits: by currency; none means no limit.
        spent: so far, in every currency.
        at_first: what a sample is taken to cost before one is known, in every currency.
    """

    def __init__(
        self, limits: Mapping[Currency, float], spent: Mapping[Currency, float], at_first: Mapping[Currency, float]
    ) -> None:
        self._limits = limits
        self._spent = dict(spent)
        self._at_first = at_first
        self._granted = 0
        """Samples that were granted and have not come yet."""
        self._changed = threading.Condition()

    def grant(self, wanted: int, *, whole: bool = False) -> int:
        """Say how many of so many samples may be drawn now; 0 when the limit is met. Waits while that is open.

        Args:
            wanted: samples.
            whole: all or none of them, since they cannot be drawn apart.
        """
        if not self._limits:
            return wanted
        least = wanted if whole else 1
        with self._changed:
            while (affordable := self._affordable()) < least and self._granted:
                self._changed.wait()
            share = affordable if affordable <= _FEW else max(_FEW, affordable // 2)
            granted = (wanted if affordable >= wanted else 0) if whole else min(wanted, share)
            self._granted += granted
            return granted

    def settle(self, samples: int, tokens: float = 0.0, seconds: float = 0.0, *, lost: int = 0) -> None:
        """Say what granted samples have cost, and how many will not come."""
        if not self._limits:
            return
        with self._changed:
            self._granted -= samples + lost
            self._spent["samples"] += samples
            self._spent["tokens"] += tokens
            self._spent["seconds"] += seconds
            self._changed.notify_all()

    def cap(self) -> Cap | None:
        """The limit that is nearest to being met; None without any."""
        if not self._limits:
            return None
        with self._changed:
            currency = max(self._limits, key=lambda one: self._spent[one] / self._limits[one])
            return Cap(self._limits[currency], currency)

    def exhausted(self) -> str | None:
        """What is spent, or too little for a whole batch, as a cause; None without a limit."""
        cap = self.cap()
        if cap is None:
            return None
        with self._changed:
            is_left = self._affordable() > 0
        if is_left:
            return f"what is left of budget.run.{cap.currency} = {cap.total:g} does not pay for a whole batch"
        return f"budget.run.{cap.currency} = {cap.total:g} is spent ({self._spent[cap.currency]:,.6g} so far)"

    def _affordable(self) -> int:
        return min(self._affordable_in(currency) for currency in self._limits)

    def _affordable_in(self, currency: Currency) -> int:
        known = self._spent["samples"]
        cost = self._spent[currency] / known if known and self._spent[currency] else self._at_first[currency]
        left = self._limits[currency] - self._spent[currency]
        return max(0, int(left / cost + 1e-9) - self._granted)


UNLIMITED = Allowance({}, {}, {})
"""Of a run without limits."""
