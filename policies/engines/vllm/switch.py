"""One vLLM server whose weights are switched in place, for one policy at a time.

A switch waits until no request is in flight, loads the new weights, empties the prefix cache and resumes. After each
switch a canary is scored: a fixed prompt whose log-probabilities must be the same again for the same weights, and
differ for other weights. A server cannot say which weights it has: this module remembers them.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alphamix.policies.engines.vllm.server import VllmOptions, VllmServer
from alphamix.policies.types import PolicyError

Terms = tuple[tuple[Path, float], ...]
"""Weights that are added to the base: weight·(checkpoint − base) of each; empty for the base itself."""

_EXTENSION = "alphamix.policies.engines.vllm.plugin.alpha.AlphaExtension"
_CANARY = "def f(n):\n    return sum(i * i for i in range(n))\n\n1 2 3 5 8 13 21, and so on."
_TOLERANCE = 1e-3
"""Maximum deviation of a token's log-probability from its first value, in nats; on most machines it is 0."""
_CURE = 'this model cannot be switched safely, use serve = "servers".'


@dataclass(frozen=True, slots=True)
class _Canary:
    digest: str
    """Digest of the weights."""
    logprobs: tuple[float, ...]


class SwitchedServer:
    """Server of `base` that can become base + Σ weight·(checkpoint − base).

    Raises:
        PolicyError: it did not start.
    """

    def __init__(self, base: Path, model: str, options: VllmOptions) -> None:
        self.server = VllmServer(
            base,
            model,
            options,
            arguments=["--worker-extension-cls", _EXTENSION],
            # This opens the paths that switch weights to every process that can reach 127.0.0.1 of this machine.
            environment={"VLLM_SERVER_DEV_MODE": "1"},
        )
        self._base = base
        self._turn = threading.Lock()
        self._holder: int | None = None
        self._current: Terms | None = ()
        try:
            self._canaries: dict[Terms, _Canary] = {(): _Canary(self.digest(base, ()), self._score())}
        except BaseException:
            self.server.close()
            raise

    @contextmanager
    def holding(self, policy: str, terms: Terms) -> Generator[None]:
        """Give the server these weights while the context lasts; other threads wait until it has ended.

        Raises:
            PolicyError: the switch failed, or this thread already holds the server and would wait forever.
        """
        if self._holder == threading.get_ident():
            raise PolicyError(
                f"policy {policy!r} waits for the server that another one has in this thread: "
                "take all answers of one policy, or close its generator, before you ask the next."
            )
        with self._turn:
            self._holder = threading.get_ident()
            try:
                if terms != self._current:
                    self._switch(policy, terms)
                yield
            finally:
                self._holder = None

    def digest(self, base: Path, terms: Terms) -> str:
        """Return the checksum of base + Σ weight·(checkpoint − base), in the model's dtype, without a switch.

        Raises:
            PolicyError: the checkpoints cannot be merged.
        """
        return self._call("alphamix_digest", base, terms)

    def close(self) -> None:
        """Stop the server. Safe to call twice."""
        self.server.close()

    def _switch(self, policy: str, terms: Terms) -> None:
        self._current = None  # unknown until the switch has succeeded
        self.server.post("/pause?mode=wait")
        try:
            digest = self._call("alphamix_switch", self._base, terms)
            reset = self.server.post("/reset_prefix_cache")
        finally:
            self.server.post("/resume")
        if not reset.get("success"):
            raise PolicyError(f"vLLM kept its prefix cache as it switched to {policy!r}: {_CURE}")
        self._check(policy, terms, _Canary(digest, self._score()))
        self._current = terms

    def _call(self, method: str, base: Path, terms: Terms) -> str:
        """Run a method of the extension on all workers, which must agree; return the digest of the weights."""
        arguments = [str(base.resolve()), json.dumps([(str(folder.resolve()), weight) for folder, weight in terms])]
        results = self.server.post("/collective_rpc", {"method": method, "args": arguments})["results"]
        for result in results:
            if "error" in result:
                raise PolicyError(result["error"])
        digests = {result["digest"] for result in results}
        if len(digests) != 1:
            raise PolicyError(f"vLLM's workers have different weights ({', '.join(sorted(digests))}): {_CURE}")
        return digests.pop()

    def _score(self) -> tuple[float, ...]:
        body = {"model": self.server.model, "prompt": _CANARY, "echo": True, "max_tokens": 0, "logprobs": 0}
        scored = self.server.post("/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"]
        return tuple(scored[1:])  # the first token has no predecessor, so no log-probability

    def _check(self, policy: str, terms: Terms, canary: _Canary) -> None:
        first = self._canaries.get(terms, canary)
        drift = max(abs(one - other) for one, other in zip(first.logprobs, canary.logprobs, strict=True))
        if first.digest != canary.digest or not drift <= _TOLERANCE:
            raise PolicyError(
                f"after the switch to {policy!r} the canary's log-probabilities are {drift:g} nats from those of "
                f"the first time (weights {first.digest} then, {canary.digest} now): if the checkpoints have not "
                f"changed, {_CURE}"
            )
        for other in self._canaries.values():
            if other.digest != canary.digest and other.logprobs == canary.logprobs:
                raise PolicyError(
                    f"after the switch to {policy!r} the canary scores as with other weights "
                    f"({other.digest}, now {canary.digest}): {_CURE}"
                )
        self._canaries[terms] = first
