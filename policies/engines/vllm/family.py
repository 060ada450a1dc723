"""The policies of one family on vLLM servers, served in one of three ways.

`servers`: one server for each policy that is open, and one for each pair whose logits are mixed, at every α. `switch`:
one server whose weights are changed in place. `adapters`: one server of the base, with every policy as a LoRA adapter,
all in one batch. `OpenAIEngine` does the HTTP in all three.
"""

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.cache import file_digest
from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.openai.server_answers import ServerAnswer
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.vllm.pair import SERVER_ARGUMENTS, SERVER_ENVIRONMENT, write_pair
from alphamix.policies.engines.vllm.server import VllmOptions, VllmServer
from alphamix.policies.engines.vllm.switch import SwitchedServer, Terms
from alphamix.policies.lora.peft_folder import ADAPTER_WEIGHTS, CONFIG, read_adapter
from alphamix.policies.policy_file.recipes import Serve
from alphamix.policies.types import Engine, EngineFailure, EngineSession, PolicyError, Request

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` that vLLM accepts."""


@dataclass(frozen=True, slots=True)
class Member:
    """One policy of a family, in the form that its server needs."""

    checkpoint: Path
    """With `servers`, the policy's own checkpoint. With `switch` and `adapters`, the base, which all members share."""
    terms: Terms = ()
    """With `switch`, the policy is checkpoint + Σ weight·(other − checkpoint)."""
    adapter: Path | None = None
    """With `adapters`, a PEFT folder; None for the base itself."""
    mixed: tuple[Path, float] | None = None
    """With `servers`, the other folder and α of logits that are checkpoint + α·(other − checkpoint)."""


class VllmEngine(Engine):
    """`OpenAIEngine` on a server that we started. The context `turn` is held while a session is open."""

    reproducible = False

    def __init__(
        self,
        server: VllmServer,
        model: str,
        options: EngineOptions,
        *,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        on_close: Callable[[], None] = lambda: None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self.server = server
        self.model = model
        """Name of the policy at the server."""
        self.is_closed = False
        self.extra_body = extra_body or {}
        """Fields that go into every request for the policy."""
        self._engine = OpenAIEngine(
            server.url, model, server.api_key, options, extra_body=extra_body, lists_tokens=True
        )
        self._turn = turn
        self._on_close = on_close

    def open_session(self, *, stream: bool = False) -> EngineSession:
        """Begin a session, which holds the policy's turn until it is closed."""
        with ExitStack() as turn:
            turn.enter_context(self._turn())
            session = self._engine.open_session(stream=stream)
            session.on_close(turn.pop_all().close)
        return session

    def inspect(self, requests: Sequence[Request], n: int = 1) -> Iterator[tuple[int, ServerAnswer | EngineFailure]]:
        """Request `n` choices of each request, and yield what the server says, unjudged."""
        with self._turn():
            yield from self._engine.inspect(requests, n)

    def describe(self) -> dict[str, Any] | EngineFailure:
        """Return what the server says about the model."""
        return self._engine.describe()

    def close(self) -> None:
        """Close the connections, and the server if it belongs to this policy alone. Safe to call twice."""
        self._engine.close()
        self.is_closed = True
        self._on_close()


class VllmFamily:
    """Family of policies that share vLLM servers, which are started on demand and all stopped by `close`.

    Args:
        members: The policies by name.
        options: How vLLM is started, and the way in which the family is served.
        engine_options: For the requests to it.

    Raises:
        PolicyError: the members cannot be served in this way.
    """

    def __init__(
        self, members: Mapping[str, Member], options: VllmOptions, engine_options: EngineOptions | None = None
    ) -> None:
        self._members: dict[str, Member] = {}
        self._options = options
        self._engine_options = engine_options or EngineOptions()
        self._lock = threading.Lock()
        self.shared: VllmServer | SwitchedServer | None = None
        """The one server of `switch` or `adapters`, once a policy has been opened."""
        self._loaded: set[str] = set()
        self._pairs: dict[tuple[Path, Path], VllmServer] = {}
        self._scratch = ExitStack()
        """Folders of logit pairs."""
        self._engines: list[VllmEngine] = []
        for name, member in members.items():
            self.add(name, member)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(self._members)

    @property
    def base(self) -> Path:
        """Checkpoint that `switch` and `adapters` start from."""
        return next(iter(self._members.values())).checkpoint

    def add(self, name: str, member: Member) -> None:
        """Add a member, also while servers run.

        Raises:
            PolicyError: it cannot be served in the way of this family.
        """
        _check(name, member, self.base if self._members else member.checkpoint, self._options.serve)
        self._members[name] = member

    def open(self, name: str) -> VllmEngine:
        """Open a policy. With `switch`, its answers wait until those of another policy have all been taken.

        Raises:
            PolicyError: there is no such policy, or its server or adapter is unavailable.
        """
        if name not in self._members:
            raise PolicyError(f"this family has no policy {name!r}: open one of {', '.join(self._members)}.")
        member = self._members[name]
        if member.mixed is not None:
            with self._lock:
                return self._keep(self._open_pair(member.checkpoint, *member.mixed))
        if self._options.serve == "servers":  # no lock: several servers may start at once
            server = VllmServer(member.checkpoint, name, self._options)
            return self._keep(VllmEngine(server, name, self._engine_options, on_close=server.close))
        with self._lock:
            if self._options.serve == "switch":
                return self._keep(self._open_switched(name, member))
            return self._keep(self._open_adapter(name, member))

    def close(self) -> None:
        """Close all engines and stop all servers. Safe to call twice."""
        while self._engines:
            self._engines.pop().close()
        with self._lock:
            while self._pairs:
                self._pairs.popitem()[1].close()
            self._scratch.close()
            if self.shared is not None:
                self.shared.close()
                self.shared = None
                self._loaded.clear()

    def _keep(self, engine: VllmEngine) -> VllmEngine:
        self._engines = [*(other for other in self._engines if not other.is_closed), engine]
        return engine

    def _open_pair(self, low: Path, high: Path, alpha: float) -> VllmEngine:
        if (low, high) not in self._pairs:
            folder = Path(self._scratch.enter_context(tempfile.TemporaryDirectory(prefix="alphamix-pair-"))) / "pair"
            write_pair(low, high, folder)
            self._pairs[low, high] = VllmServer(
                folder, "pair", self._options, arguments=SERVER_ARGUMENTS, environment=SERVER_ENVIRONMENT
            )
        mixture = {"vllm_xargs": {"alpha": alpha}}
        return VllmEngine(self._pairs[low, high], "pair", self._engine_options, extra_body=mixture)

    def _open_switched(self, name: str, member: Member) -> VllmEngine:
        if not isinstance(self.shared, SwitchedServer):
            self.shared = SwitchedServer(member.checkpoint, "switched", self._options)
        turn = partial(self.shared.holding, name, member.terms)
        return VllmEngine(self.shared.server, self.shared.server.model, self._engine_options, turn=turn)

    def _open_adapter(self, name: str, member: Member) -> VllmEngine:
        if not isinstance(self.shared, VllmServer):
            arguments = _adapter_arguments([m.adapter for m in self._members.values() if m.adapter is not None])
            environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
            self.shared = VllmServer(
                member.checkpoint, "base", self._options, arguments=arguments, environment=environment
            )
        if member.adapter is None:
            return VllmEngine(self.shared, self.shared.model, self._engine_options)
        model = _adapter_name(name, member.adapter)
        if model not in self._loaded:
            body = {"lora_name": model, "lora_path": str(member.adapter.resolve())}
            self.shared.post("/v1/load_lora_adapter", body)
            self._loaded.add(model)
        return VllmEngine(self.shared, model, self._engine_options)


def _check(name: str, member: Member, base: Path, serve: Serve) -> None:
    if serve != "servers" and member.mixed is not None:
        raise PolicyError(f'policy {name!r} mixes logits: use serve = "servers".')
    if serve != "switch" and member.terms:
        raise PolicyError(f'policy {name!r} is a merge of weights: use serve = "switch", or write it with merge first.')
    if serve != "adapters" and member.adapter is not None:
        raise PolicyError(f'policy {name!r} is an adapter: use serve = "adapters", or fold it into its base first.')
    if serve != "servers" and member.checkpoint.resolve() != base.resolve():
        raise PolicyError(
            f'policy {name!r} is of {member.checkpoint} and another one of {base}: serve = "{serve}" needs '
            'one base for all, use serve = "servers".'
        )


def _adapter_arguments(folders: Sequence[Path]) -> list[str]:
    """Return the arguments of a server that runs all these adapters in one batch.

    Raises:
        PolicyError: vLLM cannot load one of them.
    """
    highest = 1
    for folder in folders:
        adapter = read_adapter(folder)
        if adapter.saved:
            raise PolicyError(
                f"{folder} has whole tensors ({next(iter(adapter.saved))!r}), which vLLM cannot load: "
                'fold it into its base and use serve = "servers".'
            )
        highest = max(highest, *(module.rank for module in adapter.modules.values()))
    rank = next((rank for rank in _RANKS if rank >= highest), None)
    if rank is None:
        raise PolicyError(
            f"an adapter has rank {highest} and vLLM takes {_RANKS[-1]} at most: "
            'fold it into its base and use serve = "servers".'
        )
    number = str(max(1, len(folders)))
    return ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", number, "--max-cpu-loras", number]


def _adapter_name(name: str, folder: Path) -> str:
    """Return a name that depends on the adapter's content: under the same name, vLLM would answer for a changed adapter
    from its prefix cache."""
    content = hashlib.sha256((file_digest(folder / ADAPTER_WEIGHTS) + file_digest(folder / CONFIG)).encode())
    return f"{name}-{content.hexdigest()[:16]}"
