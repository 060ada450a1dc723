"""Members of a sweep at any α: an unlisted member becomes a policy when a request first names it.

`coverage@1.3`, `coverage@1.30` and `coverage@+1.30` are one policy. Limits apply to the distance of α from the listed
members, to its steps, to the number of such policies that are open, and to the checkpoints that are built for them. The
least recently used policy is closed to make room; checkpoints stay on disk, as after a run.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from alphamix.ensemble.serve.backends.factory import PolicyCatalogue
from alphamix.ensemble.serve.backends.policy_endpoint import PolicyEndpoint
from alphamix.ensemble.serve.protocol.api_errors import ApiError, rate_limit, unknown_model
from alphamix.ensemble.serve.protocol.raw_request import RawRequest
from alphamix.ensemble.serve.protocol.responses import PolicyInfo
from alphamix.policies.policy_file.recipes import alpha_suffix

_NAME = re.compile(r"(?P<sweep>.+)@(?P<alpha>[+-]?[0-9]{1,3}(\.[0-9]{1,17})?)")
_STEP = Decimal("0.01")
_DIGITS = 9
"""Number of decimals to which a bound of α is rounded."""


@dataclass(frozen=True, slots=True)
class AlphaLimits:
    """Limits for policies at an α that is not listed."""

    margin: float = 0.25
    """Maximum distance of α from the range of its sweep."""
    held: int = 8
    """Maximum number of such policies that are open at once; 0 serves none."""
    made: int = 8
    """Maximum number of checkpoints that are written for them while the server runs."""
    patience_s: float = 10.0
    """How long requests for one policy may go ahead of others on a server that is switched between policies."""


class AlphaPolicyCache:
    """Bounded cache of open policies at unlisted α. Belongs to one event loop."""

    def __init__(
        self,
        catalogue: PolicyCatalogue,
        listed: Mapping[str, object],
        policies: MutableMapping[str, PolicyEndpoint],
        open_policy: Callable[[PolicyInfo], PolicyEndpoint],
        limits: AlphaLimits,
    ) -> None:
        """Serve what is `listed`; open policies are added to `policies`, and removed from it when they are closed."""
        self._catalogue = catalogue
        self._listed = dict.fromkeys(listed)
        self._policies = policies
        self._open_policy = open_policy
        self._limits = limits
        self._held: OrderedDict[str, int] = OrderedDict()
        """Number of requests under way by policy, the least recently used first."""
        self._made: set[str] = set()
        self._closing: set[asyncio.Task[Any]] = set()

    @contextmanager
    def resolved(self, request: RawRequest) -> Generator[RawRequest]:
        """Return the request with its model's canonical name, and keep that policy open while the context lasts.

        Raises:
            ApiError: 404, there is no such policy; 429, there is no room for one more.
        """
        name, policy = self.find(request.model)
        if name != request.model:
            request = replace(request, model=name)
        if policy is None:
            yield request
            return
        self._hold(policy)
        try:
            yield request
        finally:
            self._held[name] -= 1

    def find(self, model: str) -> tuple[str, PolicyInfo | None]:
        """Return the canonical name of a model, and its policy if it is at an unlisted α. Nothing is opened.

        Raises:
            ApiError: 404, there is no such policy.
        """
        if model in self._listed:
            return model, None
        match = _NAME.fullmatch(model)
        if match is None:
            raise self._unknown(model)
        alpha = Decimal(match["alpha"])
        name = f"{match['sweep']}@{alpha_suffix(float(alpha))}"
        if name in self._listed:
            return name, None
        bounds = self._bounds().get(match["sweep"])
        if bounds is None or alpha % _STEP or not bounds[0] <= float(alpha) <= bounds[1]:
            raise self._unknown(model)
        return name, PolicyInfo(self._catalogue.at(match["sweep"], float(alpha)), float(alpha))

    async def close(self) -> None:
        """Wait for policies that are being closed. Policies that are still open are closed with the listed ones."""
        await asyncio.gather(*self._closing)

    def _hold(self, policy: PolicyInfo) -> None:
        if policy.name not in self._held:
            self._make_room(policy.name)
            self._policies[policy.name] = self._open_policy(policy)
            self._held[policy.name] = 0
        self._held.move_to_end(policy.name)
        self._held[policy.name] += 1

    def _make_room(self, name: str) -> None:
        is_new = self._catalogue.is_made(name) and name not in self._made
        if is_new and len(self._made) >= self._limits.made:
            raise _no_room(name, f"{self._limits.made} checkpoints have been built, the limit", sorted(self._made))
        if len(self._held) >= self._limits.held:
            self._evict_one(name)
        if is_new:
            self._made.add(name)

    def _evict_one(self, name: str) -> None:
        idle = next((other for other, under_way in self._held.items() if not under_way), None)
        if idle is None:
            raise _no_room(name, f"{self._limits.held} others are in use, the limit", list(self._held))
        del self._held[idle]
        endpoint = self._policies.pop(idle)
        endpoint.unwatch()
        task = asyncio.create_task(endpoint.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _bounds(self) -> dict[str, tuple[float, float]]:
        margin = self._limits.margin
        sweeps = self._catalogue.open_sweeps if self._limits.held else {}
        # Rounded, so that the ends themselves are served: -0.42 - 0.25 is not -0.67 in floats.
        return {
            sweep: (round(min(alphas) - margin, _DIGITS), round(max(alphas) + margin, _DIGITS))
            for sweep, alphas in sweeps.items()
        }

    def _unknown(self, model: str) -> ApiError:
        more = [
            f"{sweep}@α with α from {low:g} to {high:g} in steps of {_STEP}"
            for sweep, (low, high) in self._bounds().items()
        ]
        return unknown_model(model, [*self._listed, *more])


def _no_room(policy: str, reason: str, others: Iterable[str]) -> ApiError:
    message = f"{policy!r} cannot be opened now, since {reason}: ask for one of {', '.join(others)}, or try again later"
    return rate_limit(message, 10, param="model")
