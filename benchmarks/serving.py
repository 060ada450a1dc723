"""`alphamix serve` compared with other proxies, each in turn between one fast fake upstream and one load.

Peers are installed in a separate environment: `python benchmarks/serving.py --peers FOLDER/bin` looks for `litellm` and
`smg` there and leaves out what is missing. Both ends need uvloop. Read the ratios within one run, and the CPU of a
request: on a machine with two cores the upstream and the load take their share of what a proxy could use.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_side import CHUNKS

SIDE = Path(__file__).with_name("http_side.py")
KEY = "sk-benchmark"
_START_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
_LITELLM = """
model_list:
  - model_name: policy
    litellm_params: {{model: openai/policy, api_base: "{url}", api_key: none}}
"""
_OURS = '[policies.policy]\nurl = "{url}"\nmodel = "policy"\n'
_PAIR = (
    _OURS
    + '[policies.other]\nurl = "{url}"\nmodel = "policy"\n[mixtures.both]\nweights = {{ policy = 1, other = 1 }}\n'
)


@dataclass(frozen=True)
class Proxy:
    """A proxy between the load and the upstream."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    model: str = "policy"


@dataclass(frozen=True)
class Load:
    """One kind of load."""

    name: str
    connections: int
    requests: int
    is_stream: bool = False


LOADS = (
    Load("1 in flight", 1, 2000),
    Load("32 in flight", 32, 10000),
    Load("256 in flight", 256, 10000),
    Load("1 stream", 1, 100, is_stream=True),
    Load("32 streams", 32, 400, is_stream=True),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-share", type=float, default=0.01, help="Share of the requests that LiteLLM gets.")
    arguments = parser.parse_args()
    with upstream() as port, tempfile.TemporaryDirectory() as folder:
        direct = [measured(port, load, None) for load in LOADS]
        rows = {"direct": direct}
        for proxy in proxies(Path(folder), f"http://127.0.0.1:{port}/v1", arguments.peers):
            share = arguments.slow_share if proxy.name == "litellm" else 1.0
            with running(proxy) as (own_port, process):
                measured(own_port, LOADS[1], process, proxy.model, share)  # warm
                rounds = [
                    [measured(own_port, load, process, proxy.model, share) for load in LOADS]
                    for _ in range(arguments.rounds)
                ]
            rows[proxy.name] = [_median(results) for results in zip(*rounds, strict=True)]
            print(f"{proxy.name} is done", file=sys.stderr)
        print(table(rows))


def proxies(folder: Path, url: str, peers: Path | None) -> Iterator[Proxy]:
    """Return ours, as one policy and as an ensemble of two equal ones, and the installed peers."""
    for name, text, model in (("alphamix", _OURS, "policy"), ("alphamix, two policies", _PAIR, "both")):
        file = folder / f"{model}.toml"
        file.write_text(text.format(url=url))
        command = (sys.executable, "-m", "alphamix", "serve", str(file), "--port", "{port}")
        yield Proxy(name, command, {}, model)
    if peers is not None and (peers / "smg").exists():
        root = url.removesuffix("/v1")
        command = (str(peers / "smg"), "launch", "--worker-urls", root, "--port", "{port}", "--host", "127.0.0.1")
        yield Proxy("smg", command, {})
    if peers is not None and (peers / "litellm").exists():
        file = folder / "litellm.yaml"
        file.write_text(_LITELLM.format(url=url))
        environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY}
        command = (str(peers / "litellm"), "--config", str(file), "--port", "{port}", "--host", "127.0.0.1")
        yield Proxy("litellm", command, environment)


@contextmanager
def upstream() -> Generator[int]:
    """Run the fake upstream and yield its port."""
    with subprocess.Popen([sys.executable, str(SIDE), "upstream"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def running(proxy: Proxy) -> Generator[tuple[int, int]]:
    """Run a proxy, wait until it answers, and yield its port and process."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    command = [part.format(port=port) for part in proxy.command]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **proxy.environment}) as process,
    ):
        try:
            deadline = time.monotonic() + _START_S
            while not answers(port, proxy.model):
                if time.monotonic() > deadline or process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{proxy.name} does not answer:\n{log.read().decode(errors='replace')[-3000:]}")
                time.sleep(0.5)
            yield port, process.pid
        finally:
            process.terminate()


def answers(port: int, model: str) -> bool:
    """Return whether the port answers a request."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(json.load(answer)["choices"])
    except (OSError, ValueError, LookupError):
        return False


def measured(port: int, load: Load, process: int | None, model: str = "policy", share: float = 1.0) -> dict[str, float]:
    """Load a port; return requests or chunks per second, latencies, and the process's CPU per request or chunk."""
    requests = max(load.connections, int(load.requests * share))
    command = [sys.executable, str(SIDE), "load", "--port", str(port), "--model", model, "--key", KEY]
    command += ["--connections", str(load.connections), "--requests", str(requests)]
    command += ["--stream"] if load.is_stream else []
    before_s = 0.0 if process is None else used_s(process)
    told: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600).stdout)
    spent_s = 0.0 if process is None else used_s(process) - before_s
    per_request = CHUNKS + 1 if load.is_stream else 1
    return {**told, "per_second": told["per_second"] * per_request, "cpu_ms": 1000 * spent_s / requests / per_request}


def used_s(process: int) -> float:
    """Return the CPU seconds of a process and of its living descendants."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(used_s(int(child)) for child in children)


def _median(results: tuple[dict[str, float], ...]) -> dict[str, float]:
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def table(rows: Mapping[str, list[dict[str, Any]]]) -> str:
    """Return the results as Markdown, with latencies as what a proxy adds to a direct connection."""
    lines = ["| load | | " + " | ".join(rows) + " |", "|---|---|" + "---|" * len(rows)]
    direct = rows["direct"]
    for index, load in enumerate(LOADS):
        what = "chunks" if load.is_stream else "requests"
        values = [row[index] for row in rows.values()]
        lines.append(f"| {load.name} | {what}/s | " + " | ".join(f"{v['per_second']:.0f}" for v in values) + " |")
        lines.append("| | CPU µs each | – | " + " | ".join(f"{1000 * v['cpu_ms']:.0f}" for v in values[1:]) + " |")
        for key in ("p50_ms", "p99_ms"):
            added = [f"{v[key] - direct[index][key]:.2f}" for v in values[1:]]
            lines.append(f"| | added {key[:3]}, ms | – | " + " | ".join(added) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
