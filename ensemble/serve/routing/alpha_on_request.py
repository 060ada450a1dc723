"""Any α on request: a member of a sweep that is not listed becomes a policy when it is first asked for by name.

`coverage@1.3`, `coverage@1.30` and `coverage@+1.30` are one policy. It is bounded how far α may be from those of the
sweep, in which steps it comes, how many such policies are held at once, and how many checkpoints are made for them.
Who is asked least recently goes when there is no room; what is made on disk stays there, as after a run.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from alphamix.ensemble.serve.backends.policy_endpoint import PolicyEndpoint
from alphamix.ensemble.serve.protocol.api_errors import ApiError, too_many_alphas, unknown_model
from alphamix.ensemble.serve.protocol.raw_request import RawRequest
from alphamix.ensemble.serve.protocol.responses import PolicyInfo
from alphamix.policies.policy_file.recipes import alpha_label

_NAME = re.compile(r"(?P<sweep>.+)@(?P<alpha>[+-]?[0-9]{1,3}(\.[0-9]{1,17})?)")
_STEP = Decimal("0.01")
_DIGITS = 9
"""Of a bound for α."""


@dataclass(frozen=True, slots=True)
class AlphaLimits:
    """What may be asked for beyond what is listed."""

    margin: float = 0.25
    """How far α may be outside of the range of its sweep."""
    held: int = 8
    """Policies at once; 0: none but those that are listed."""
    made: int = 8
    """Checkpoints that are written for them while the server runs."""
    patience_s: float = 10.0
    """How long requests for other policies may wait while those for one go first on a server that is switched."""


@runtime_checkable
class SweepCatalogue(Protocol):
    """What a `policies.registry.Registry` has for this."""

    @property
    def open_sweeps(self) -> Mapping[str, tuple[float, ...]]:
        """Sweeps that can be added to, with the α of their listed members."""
        ...

    def at(self, sweep: str, alpha: float) -> str:
        """Name the member of a sweep at any α."""
        ...

    def is_made(self, name: str) -> bool:
        """Say whether a checkpoint is written to disk for a policy."""
        ...


class AlphaPolicyCache:
    """Opens policies by name, and lets them go. Belongs to one event loop."""

    def __init__(
        self,
        sweeps: SweepCatalogue | None,
        listed: Mapping[str, object],
        policies: MutableMapping[str, PolicyEndpoint],
        open_policy: Callable[[PolicyInfo], PolicyEndpoint],
        limits: AlphaLimits,
    ) -> None:
        """Serve what is `listed`; add what is opened to `policies`, and take it out again."""
        self._sweeps = sweeps if limits.held else None
        self._listed = frozenset(listed)
        self._names = tuple(listed)
        self._policies = policies
        self._open_policy = open_policy
        self._limits = limits
        self._held: OrderedDict[str, int] = OrderedDict()
        """Requests under way by policy, the one that was asked least recently first."""
        self._made: set[str] = set()
        self._closing: set[asyncio.Task[Any]] = set()

    @contextmanager
    def resolved(self, request: RawRequest) -> Generator[RawRequest]:
        """Give a request the name of a policy that is there as long as the context lasts.

        Raises:
            ApiError: 404, there is no such policy, with what there is; 429, there is no room for one more.
        """
        if request.model in self._listed:
            yield request
            return
        name, origin = self.find(request.model)
        if origin is None:
            yield replace(request, model=name)
            return
        self._hold(origin)
        try:
            yield replace(request, model=name)
        finally:
            self._held[name] -= 1

    def find(self, model: str) -> tuple[str, PolicyInfo | None]:
        """Give the one name of a policy, and what it is where it is not listed. Opens nothing.

        Raises:
            ApiError: 404, there is no such policy.
        """
        if model in self._listed:
            return model, None
        match = _NAME.fullmatch(model)
        if match is None:
            raise self._unknown(model)
        alpha = Decimal(match["alpha"])
        name = f"{match['sweep']}@{alpha_label(float(alpha))}"
        if name in self._listed:
            return name, None
        bounds = self._bounds().get(match["sweep"])
        if self._sweeps is None or bounds is None or alpha % _STEP or not bounds[0] <= float(alpha) <= bounds[1]:
            raise self._unknown(model)
        return name, PolicyInfo(self._sweeps.at(match["sweep"], float(alpha)), float(alpha))

    async def close(self) -> None:
        """Wait for what is being closed. Policies that are held are closed with all others."""
        await asyncio.gather(*self._closing)

    def _hold(self, origin: PolicyInfo) -> None:
        if origin.name not in self._held:
            self._make_room(origin.name)
            self._policies[origin.name] = self._open_policy(origin)
            self._held[origin.name] = 0
        self._held.move_to_end(origin.name)
        self._held[origin.name] += 1

    def _make_room(self, name: str) -> None:
        is_new = self._sweeps is not None and self._sweeps.is_made(name) and name not in self._made
        if is_new and len(self._made) >= self._limits.made:
            raise too_many_alphas(name, f"{self._limits.made} checkpoints were made", sorted(self._made))
        if len(self._held) >= self._limits.held:
            self._let_one_go(name)
        if is_new:
            self._made.add(name)

    def _let_one_go(self, name: str) -> None:
        idle = next((other for other, under_way in self._held.items() if not under_way), None)
        if idle is None:
            raise too_many_alphas(name, f"{self._limits.held} others are being asked", list(self._held))
        del self._held[idle]
        policy = self._policies.pop(idle)
        policy.unwatch()
        task = asyncio.create_task(policy.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _bounds(self) -> dict[str, tuple[float, float]]:
        margin = self._limits.margin
        sweeps = {} if self._sweeps is None else self._sweeps.open_sweeps
        # Rounded, since the very ends are served as well: -0.42 - 0.25 is not -0.67 in floats.
        return {
            sweep: (round(min(alphas) - margin, _DIGITS), round(max(alphas) + margin, _DIGITS))
            for sweep, alphas in sweeps.items()
        }

    def _unknown(self, model: str) -> ApiError:
        more = [
            f"{sweep}@α with α from {low:g} to {high:g} in steps of {_STEP}"
            for sweep, (low, high) in self._bounds().items()
        ]
        return unknown_model(model, [*self._names, *more])
