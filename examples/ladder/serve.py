"""Serve the ladder's ensemble as one endpoint and use it with the official OpenAI client, as `make demo-serve` does.

    python examples/ladder/serve.py

The script starts `alphamix serve` on a free port with the policies beside this file, which makes missing merges and
runs the embedded engine. It lists the models, streams one answer, requests eight choices at once, shows which policy
gave each, and stops the server as a service manager would.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import OpenAI
from rich.console import Console
from rich.table import Table

POLICIES = Path(__file__).with_name("policies.toml")
QUESTION = "Given n, print the number of divisors of n divisible by 3."
ENSEMBLE = "frontier"
REQUEST: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 192}
_ADDRESS = re.compile(r"running on (http://\S+)")
_STOP_S = 60


def main() -> None:
    """Start the server, use it, and stop it."""
    console = Console(highlight=False)
    with served(POLICIES) as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        console.print(f"[bold]alphamix serve {POLICIES.name}[/] answers at {address}/v1\n")
        show_models(client, console)
        show_stream(client, console)
        show_choices(client, console)
    console.print("The server has stopped, and no request was left unfinished.")


@contextmanager
def served(policies: Path) -> Generator[str]:
    """Run the server until the end of the block, and yield its address.

    Raises:
        SystemExit: The server does not start, or ends with an error; the message has its output.
    """
    command = [sys.executable, "-m", "alphamix", "serve", str(policies), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        output: list[str] = []
        try:
            for line in server.stderr:
                output.append(line)
                if match := _ADDRESS.search(line):
                    yield match[1]
                    break
        finally:
            server.send_signal(signal.SIGTERM)
            output += server.communicate(timeout=_STOP_S)[1].splitlines(keepends=True)
        if server.returncode not in (0, -signal.SIGTERM):
            raise SystemExit(f"the server ended with {server.returncode}: {''.join(output)}")


def show_models(client: OpenAI, console: Console) -> None:
    """List the models that a client can request."""
    table = Table("model", "α or weights", title="GET /v1/models", title_justify="left", box=None)
    for model in client.models.list():
        fields = model.model_dump()
        shown = fields["mixture"] and _weights(fields["mixture"]) if "mixture" in fields else _alpha(fields)
        table.add_row(model.id, shown)
    console.print(table, "")


def show_stream(client: OpenAI, console: Console) -> None:
    """Show one answer as it is streamed; the first one waits until the policy is loaded."""
    console.print(f"[bold]{QUESTION}[/]\n(one choice of {ENSEMBLE!r}, streamed)")
    policy: dict[str, Any] = {}
    for chunk in client.chat.completions.create(model=ENSEMBLE, stream=True, **REQUEST):
        for choice in chunk.choices:
            policy = choice.model_dump()["policy"]
            console.print(choice.delta.content or "", end="", markup=False)
    console.print(f"\n— {policy['name']}, α = {_alpha(policy)}\n", markup=False)


def show_choices(client: OpenAI, console: Console) -> None:
    """Request eight choices, and show which policy gave each."""
    answer = client.chat.completions.create(model=ENSEMBLE, n=8, **REQUEST)
    table = Table("choice", "policy", "α", title=f"n = 8 of {ENSEMBLE!r}", title_justify="left", box=None)
    table.add_column("program, but for its input", no_wrap=True, overflow="ellipsis", max_width=console.width - 34)
    for choice in answer.choices:
        policy = choice.model_dump()["policy"]
        table.add_row(str(choice.index), policy["name"], _alpha(policy), _in_one_line(choice.message.content or ""))
    console.print(table)
    assert answer.usage is not None
    console.print(f"{answer.usage.completion_tokens} tokens in all\n")


def _weights(mixture: dict[str, float]) -> str:
    return f"{len(mixture)} policies, {'equal weights' if len(set(mixture.values())) == 1 else mixture}"


def _alpha(policy: dict[str, Any]) -> str:
    return "–" if policy["alpha"] is None else f"{policy['alpha']:+.2f}"


def _in_one_line(answer: str) -> str:
    lines = [line for line in answer.splitlines() if line and not line.startswith("```") and "input()" not in line]
    return " ⏎ ".join(re.sub(r"^ +", " ", line) for line in lines)


if __name__ == "__main__":
    main()
