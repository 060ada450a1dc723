"""Real vLLM servers on the ladder's checkpoints. Where vLLM is not installed, nothing here is collected.

`make test-vllm` makes an environment that has it. A server takes half a minute to start, so those that work are
shared.
"""

import importlib.util
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from alphamix.policies.engines.vllm import server as vllm_server
from alphamix.policies.engines.vllm.family import Member, VllmEngine, VllmFamily
from alphamix.policies.engines.vllm.server import VllmOptions
from alphamix.policies.merging.merge import merge
from alphamix.policies.policy_file.recipes import Serve
from alphamix.policies.types import Completion, Message, Request, SamplingParameters

collect_ignore_glob = [] if importlib.util.find_spec("vllm") else ["test_*.py"]

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"
LOW, HIGH = CHECKPOINTS / "low", CHECKPOINTS / "high"
AT_ONCE = 16
"""Samples that the shared server computes at once."""
CHAT: list[Message] = [{"role": "user", "content": "Given n, print the number of integers from 1 to n divisible by 3."}]
TEXT = "Q:\nGiven n, print its largest prime factor.\nA:\n```python\nn = int(input())\nprint(n)\n```"


@pytest.fixture(scope="session")
def beyond(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merge at α = 1.5 on disk, made by the project's own merge."""
    folder = tmp_path_factory.mktemp("merged") / "beyond"
    merge(LOW, HIGH, {1.5: folder})
    return folder


@pytest.fixture(scope="session")
def engine(beyond: Path) -> Iterator[VllmEngine]:
    """The merge on a server of its own, which was first given a port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.MonkeyPatch.context() as patch:
        free_port = vllm_server._free_port
        ports = iter([taken.getsockname()[1]])
        patch.setattr(vllm_server, "_free_port", lambda: next(ports, None) or free_port())
        family = VllmFamily({"beyond": Member(beyond)}, options("servers", "--max-num-seqs", str(AT_ONCE)))
        opened = family.open("beyond")
        assert next(ports, None) is None
    try:
        yield opened
    finally:
        processes = family_of(os.getpid())
        family.close()
    assert not processes & family_of(os.getpid())


def options(serve: Serve, *arguments: str) -> VllmOptions:
    """Small servers that start quickly."""
    return VllmOptions(serve, arguments=("--enforce-eager", *arguments), environment={"VLLM_CPU_KVCACHE_SPACE": "1"})


def requests(count: int, max_tokens: int = 60, temperature: float = 1.0) -> list[Request]:
    return [Request(CHAT, seed, SamplingParameters(temperature, max_tokens=max_tokens)) for seed in range(count)]


def complete(engine: VllmEngine, wanted: Sequence[Request]) -> list[Completion]:
    """The answers in the order of the requests."""
    replies = sorted(engine.sample(wanted), key=lambda reply: reply.index)
    completions = [reply.outcome for reply in replies if isinstance(reply.outcome, Completion)]
    assert len(completions) == len(wanted), replies
    return completions


def logprobs(engine: VllmEngine, text: str = TEXT) -> list[float]:
    """Of every token of a text but the first."""
    body = {"model": engine.model, "prompt": text, "echo": True, "max_tokens": 0, "logprobs": 0}
    return engine.server.post("/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"][1:]


def family_of(ancestor: int) -> set[int]:
    """Numbers of a process, unless it is this one, and of all below it that are alive."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            parents[int(folder.name)] = int(parent)
    found = {ancestor} & parents.keys()
    while below := {process for process, parent in parents.items() if parent in found} - found:
        found |= below
    return found - ({os.getpid()} if ancestor == os.getpid() else set())
