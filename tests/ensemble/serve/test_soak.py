"""Thousands of requests while upstreams are killed and restarted: each is answered if another policy can answer it."""

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.policies.engines.openai import fake_server
from alphamix.policies.registry import Registry

REQUESTS = 3000
AT_ONCE = 32
BETWEEN_KILLS = 60
"""Requests."""
NAMES = ("a", "b", "c", "d")
MOST_DEAD = 2
WAIT_S = 60
PAUSE_S = 0.004
"""Pause before an answer and between two chunks: some requests are under way whenever a server is killed."""
BREAKER = BreakerOptions(failures=3, first_pause_s=0.05, longest_pause_s=0.1)
"""As quick as the kills are."""


class Killable:
    """An upstream in a process of its own, always on the same port."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.start()

    def start(self) -> None:
        # By its path, without the packages of the environment, the server starts at once.
        command = [sys.executable, "-P", "-S", "-E", fake_server.__file__, "--text", f"{self.name} goes on"]
        command += ["--port", str(self.port), "--pause", str(PAUSE_S)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        with self._process.stdout as printed:
            self.port = int(printed.readline().rpartition(":")[2].removesuffix("/v1\n"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def upstreams() -> Iterator[dict[str, Killable]]:
    with ExitStack() as stack:
        started: dict[str, Killable] = {}
        for name in NAMES:
            started[name] = Killable(name)
            stack.callback(started[name].kill)
        yield started


class Soak:
    """Asks, kills, and counts what came of it."""

    def __init__(self, url: str, upstreams: dict[str, Killable]) -> None:
        self._url = url
        self._upstreams = upstreams
        self.outcomes = Counter[str]()
        self.kills = 0

    async def run(self) -> None:
        numbers = iter(range(REQUESTS))
        async with aiohttp.ClientSession() as self._session:
            killing = asyncio.create_task(self._kill())
            await asyncio.gather(*(self._ask(numbers) for _ in range(AT_ONCE)))
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)

    async def _ask(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            n, stream = (1, 4)[number % 2], number % 4 > 1
            ask = {"model": "all", "messages": [{"role": "user", "content": "hi"}], "n": n, "stream": stream}
            async with self._session.post(f"{self._url}/chat/completions", json=ask) as response:
                said = await response.read()
                self.outcomes[self._judged(n, stream, response.status, said)] += 1

    @staticmethod
    def _judged(n: int, stream: bool, status: int, said: bytes) -> str:
        if status != 200:
            return f"lost with {status}: {said.decode()}"
        if not stream:
            choices = json.loads(said)["choices"]
            is_whole = [choice["index"] for choice in choices] == list(range(n))
            return (
                "whole" if is_whole and all(choice["message"]["content"] for choice in choices) else "lost: not whole"
            )
        *events, last = [event.removeprefix(b"data: ") for event in said.split(b"\n\n") if event]
        chunks = [json.loads(event) for event in events]
        choices: list[dict[str, Any]] = [choice for chunk in chunks for choice in chunk["choices"]]
        if last != b"[DONE]":
            # Part of an answer had reached the client: nobody else could go on with it.
            return "broken off" if choices and "error" in json.loads(last) else "lost: ended without a word"
        ends = sorted(choice["index"] for choice in choices if choice["finish_reason"])
        return "streamed" if ends == list(range(n)) else "lost: not streamed whole"

    async def _kill(self) -> None:
        """Kill one or two; after some requests start them again, and wait until they are back in service."""
        chance = random.Random(0)
        while True:
            await self._pass(BETWEEN_KILLS)
            victims = chance.sample(NAMES, chance.randint(1, MOST_DEAD))
            for name in victims:
                self._upstreams[name].kill()
                self.kills += 1
            await self._pass(BETWEEN_KILLS)
            for name in victims:
                await asyncio.to_thread(self._upstreams[name].start)
            while await self._out_of_service():
                await asyncio.sleep(0.01)

    async def _pass(self, requests: int) -> None:
        end = self.outcomes.total() + requests
        while self.outcomes.total() < end:
            await asyncio.sleep(0.005)

    async def _out_of_service(self) -> list[str]:
        async with self._session.get(self._url.removesuffix("/v1") + "/ready") as response:
            return (await response.json())["out_of_service"]

    async def failed_calls(self) -> int:
        """Calls of policies that came to nothing."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self._url.removesuffix("/v1") + "/metrics") as response,
        ):
            lines = (await response.text()).splitlines()
        calls = [
            line for line in lines if line.startswith("alphamix_policy_calls_total") and 'outcome="ok"' not in line
        ]
        return sum(int(float(line.rpartition(" ")[2])) for line in calls)


def test_no_request_is_lost_that_another_upstream_could_answer(
    upstreams: dict[str, Killable], serving: Callable[..., str], tmp_path: Path
) -> None:
    lines = [
        f'[policies.{name}]\nurl = "http://127.0.0.1:{one.port}/v1"\nmodel = "m"\n' for name, one in upstreams.items()
    ]
    file = tmp_path / "policies.toml"
    file.write_text("\n".join([*lines, "[mixtures.all]\nweights = { a = 1, b = 1, c = 1, d = 1 }"]))
    soak = Soak(serving(Registry.load(file), ServeOptions(breaker=BREAKER)), upstreams)
    asyncio.run(soak.run())
    failed = asyncio.run(soak.failed_calls())
    assert soak.outcomes.total() == REQUESTS
    assert set(soak.outcomes) <= {"whole", "streamed", "broken off"}, soak.outcomes
    assert soak.outcomes["whole"] == REQUESTS // 2
    assert soak.kills >= 8
    saved = failed - soak.outcomes["broken off"]
    assert saved > soak.kills
