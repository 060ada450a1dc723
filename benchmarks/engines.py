"""The vLLM engine: a switch in place compared with a restart, and our requests with a bare loop of the openai client.

    make .venv-vllm/.ready && .venv-vllm/bin/python benchmarks/engines.py

The servers are real and run on this machine with the ladder's checkpoints. Both loops send the same requests to the
same server, alternately. CPU seconds are those of this process alone, since the server's are the same on both sides. A
restart stops and starts a server, including the loading of weights; a switch includes its canary.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
from measure import Row
from side import used_cpu_s

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.vllm.family import Member, VllmEngine, VllmFamily
from alphamix.policies.engines.vllm.server import VllmOptions
from alphamix.policies.engines.vllm.switch import SwitchedServer
from alphamix.policies.types import Completion, Message, Request, SamplingParameters

_CHECKPOINTS = Path(__file__).parents[1] / "examples" / "ladder" / "checkpoints"
_LOW, _HIGH = _CHECKPOINTS / "low", _CHECKPOINTS / "high"
_CHAT: list[Message] = [
    {"role": "user", "content": "Given n, print the number of integers from 1 to n divisible by 3."}
]
_REQUESTS, _MAX_TOKENS, _CONCURRENCY = 512, 128, 64
_ROUNDS, _SWITCHES, _RESTARTS = 7, 20, 2


def rows() -> list[Row]:
    """Compare switches with restarts, then tokens per second."""
    arguments, environment = ("--enforce-eager",), {"VLLM_CPU_KVCACHE_SPACE": "1"}
    options = VllmOptions("switch", arguments=arguments, environment=environment)
    members = {"low": Member(_LOW), "beyond": Member(_LOW, ((_HIGH, 1.5),))}
    family = VllmFamily(members, options, EngineOptions(concurrency=_CONCURRENCY))
    try:
        engine = family.open("low")
        sampling = _sampling(engine)
        assert isinstance(family.shared, SwitchedServer)
        switch_s = _switch_s(family.shared)
    finally:
        family.close()
    restart_s = statistics.median(_restart_s(VllmOptions("servers", arguments=arguments, environment=environment)))
    switch = Row(
        "vLLM: other weights in a running server, against a restart",
        f"{1000 * switch_s:.0f} ms",
        f"{restart_s:.1f} s",
        f"{restart_s / switch_s:.0f} × wall",
        "≥ 50 ×",
    )
    return [switch, sampling]


def _switch_s(server: SwitchedServer) -> float:
    """Return the median seconds of a switch, in either direction."""

    def one(name: str, terms: tuple[tuple[Path, float], ...]) -> float:
        start_s = time.perf_counter()
        with server.holding(name, terms):
            return time.perf_counter() - start_s

    return statistics.median(
        one(name, terms) for _ in range(_SWITCHES) for name, terms in (("beyond", ((_HIGH, 1.5),)), ("low", ()))
    )


def _restart_s(options: VllmOptions) -> list[float]:
    family = VllmFamily({"low": Member(_LOW), "high": Member(_HIGH)}, options)
    seconds: list[float] = []
    try:
        engine = family.open("low")
        for name in ["high", "low"] * (_RESTARTS // 2):
            start_s = time.perf_counter()
            engine.close()
            engine = family.open(name)
            seconds.append(time.perf_counter() - start_s)
    finally:
        family.close()
    return seconds


def _sampling(engine: VllmEngine) -> Row:
    sides: dict[str, Callable[[], int]] = {"ours": lambda: _ours(engine), "other": lambda: asyncio.run(_bare(engine))}
    for side in sides.values():
        side()
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(_ROUNDS):  # the sides take turns in going first, since the machine has other work
        for name in list(sides)[:: -1 if number % 2 else 1]:
            used_s, start_s = used_cpu_s(), time.perf_counter()
            tokens = sides[name]()
            costs[name].append((tokens / (time.perf_counter() - start_s), (used_cpu_s() - used_s) / tokens))
    wall = statistics.median(our / other for (our, _), (other, _) in zip(costs["ours"], costs["other"], strict=True))
    cpu = statistics.median(other / our for (_, our), (_, other) in zip(costs["ours"], costs["other"], strict=True))
    our, other = (
        f"{statistics.median(rate for rate, _ in side):.0f} tokens/s, "
        f"{1e6 * statistics.median(cpu_s for _, cpu_s in side):.0f} µs CPU / token"
        for side in costs.values()
    )
    what = f"vLLM: {_REQUESTS} completions, {_CONCURRENCY} at a time, against a bare loop of the openai client"
    return Row(what, our, other, f"{wall:.2f} × tokens/s, {cpu:.2f} × CPU", "≥ 0.95 ×")


def _ours(engine: VllmEngine) -> int:
    parameters = SamplingParameters(max_tokens=_MAX_TOKENS)
    replies = engine.sample([Request(_CHAT, seed, parameters) for seed in range(_REQUESTS)])
    completions = [reply.outcome for reply in replies if isinstance(reply.outcome, Completion)]
    if len(completions) != _REQUESTS:
        sys.exit("the engine failed: the benchmark means nothing")
    return sum(completion.completion_tokens for completion in completions)


async def _bare(engine: VllmEngine) -> int:
    """Send the same requests directly with the official client."""
    slots = asyncio.Semaphore(_CONCURRENCY)
    messages: Any = _CHAT
    http_client = openai.DefaultAioHttpClient()
    async with openai.AsyncOpenAI(
        base_url=engine.server.url, api_key=engine.server.api_key, http_client=http_client
    ) as client:

        async def one(seed: int) -> int:
            async with slots:
                body = await client.chat.completions.create(
                    model=engine.model,
                    messages=messages,
                    seed=seed,
                    temperature=1.0,
                    top_p=1.0,
                    max_tokens=_MAX_TOKENS,
                )
                assert body.usage is not None
                return body.usage.completion_tokens

        return sum(await asyncio.gather(*(one(seed) for seed in range(_REQUESTS))))


if __name__ == "__main__":
    for row in rows():
        print(row)
