"""Connections of hostile, old and odd clients: each gets an answer of the API, and none costs more than its bounds."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from alphamix.ensemble.serve.app import create_app
from alphamix.ensemble.serve.http_protocol import ConnectionLimits, protocol_with

from .conftest import FakeRegistry, ScriptEngine, listening

ASK = json.dumps({"model": "low", "messages": [{"role": "user", "content": "hi"}]}).encode()
STREAM = json.dumps({"model": "low", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
LIMITS = ConnectionLimits(head_timeout_s=0.5, connections=20)
WAIT_S = 60


@contextmanager
def _running(limits: ConnectionLimits) -> Iterator[tuple[uvicorn.Server, int]]:
    registry = FakeRegistry({"low": ScriptEngine(lambda _: ["fine", " day"])})
    config = uvicorn.Config(
        create_app(registry),
        log_level="critical",
        http=protocol_with(limits),
        timeout_keep_alive=1,
        timeout_graceful_shutdown=1,
    )
    with listening(config) as running:
        yield running


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with _running(ConnectionLimits()) as (_, number):
        yield number


@pytest.fixture(scope="module")
def hasty() -> Iterator[tuple[uvicorn.Server, int]]:
    with _running(LIMITS) as running:
        yield running


def post(body: bytes, *headers: str, version: str = "1.1", path: str = "/v1/chat/completions") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces, and return all that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        received = bytearray()
        try:
            for piece in pieces:
                connection.sendall(piece)
            while piece := connection.recv(65536):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return bytes(received)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def error_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head
    return json.loads(body)["error"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /health HTTP/1.1\r\nX: ", *[b"a" * 65536] * 40],
        [b"GET /health HTTP/1.1\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 2000],
        [b"GET /" + b"a" * 3 * 2**20],
        [b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"],
        [b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", *[b"a" * 65536] * 40],
    ],
    ids=["one line without an end", "many lines", "a long path", "a whole head", "trailers"],
)
def test_a_head_above_64_kib_is_refused_before_it_is_kept(port: int, pieces: list[bytes]) -> None:
    answer = exchange(port, *pieces)
    assert answer == b"" or status_of(answer) == 431
    if answer:
        assert error_of(answer)["code"] == "request_too_large"


def test_a_large_head_is_answered_with_431(port: int) -> None:
    assert status_of(exchange(port, b"GET /health HTTP/1.1\r\nX: " + b"a" * 70_000)) == 431


def test_a_head_of_60_kib_and_a_body_in_one_piece_pass(port: int) -> None:
    answer = exchange(port, post(ASK, "X: " + "a" * 60_000, "Connection: close"))
    assert status_of(answer) == 200


def test_a_large_body_is_no_large_head(port: int) -> None:
    body = json.dumps({"model": "low", "messages": [{"role": "user", "content": "x" * 2**20}]}).encode()
    assert status_of(exchange(port, post(body, "Connection: close"))) == 200


def test_a_body_in_chunks_of_100_bytes_passes(port: int) -> None:
    body = json.dumps({"model": "low", "messages": [{"role": "user", "content": "x" * 2**18}]}).encode()
    chunks = [body[start : start + 100] for start in range(0, len(body), 100)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x.localhost\r\nConnection: close\r\n"
    head = head.replace(b"x.localhost", b"localhost") + b"Transfer-Encoding: chunked\r\n\r\n"
    assert status_of(exchange(port, head, framed)) == 200


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /health HTTP/1.1\r\nX: a"], ids=["nothing", "a line", "half"])
def test_a_connection_without_a_request_is_closed(hasty: tuple[uvicorn.Server, int], sent: bytes) -> None:
    answer = exchange(hasty[1], sent)
    assert (status_of(answer), error_of(answer)["code"]) == (408, "request_timeout")


def test_a_kept_connection_cannot_be_held_by_line_ends(hasty: tuple[uvicorn.Server, int]) -> None:
    answer = exchange(hasty[1], b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_the_number_of_connections_is_bounded(hasty: tuple[uvicorn.Server, int]) -> None:
    server, number = hasty
    with ExitStack() as stack:
        open_ones = [
            stack.enter_context(socket.create_connection(("127.0.0.1", number), timeout=WAIT_S)) for _ in range(40)
        ]
        refused = [connection.recv(1000) for connection in open_ones[LIMITS.connections :]]
        wait_until(lambda: len(server.server_state.connections) <= LIMITS.connections)
    assert {status_of(answer) for answer in refused} == {503}


def test_after_an_attack_memory_and_connections_are_as_before(hasty: tuple[uvicorn.Server, int]) -> None:
    server, number = hasty

    def attack() -> None:
        for _ in range(20):
            exchange(number, b"GET /health HTTP/1.1\r\nX: ", *[b"a" * 2**20] * 8)

    attack()
    before_mb = resident_mb()
    for _ in range(3):
        attack()
    assert resident_mb() - before_mb < 20  # 480 MB were sent
    wait_until(lambda: not server.server_state.connections)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.parametrize("body", [ASK, STREAM], ids=["whole", "stream"])
def test_an_upgrade_is_ignored_and_its_body_kept(port: int, body: bytes) -> None:
    headers = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk")
    closing = post(ASK, "Connection: close")
    raw = post(body, *headers)
    for pieces in ([raw + closing], [raw[:300], raw[300:], closing], [raw[: -len(body)], body, closing]):
        answer = exchange(port, *pieces)
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert b"fine" in answer


def test_connect_is_refused(port: int) -> None:
    assert status_of(exchange(port, b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n")) == 405


@pytest.mark.parametrize("raw", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n"])
def test_other_protocols_get_an_error_object(port: int, raw: bytes) -> None:
    answer = exchange(port, raw)
    assert (status_of(answer), error_of(answer)["code"]) == (400, "bad_request")


def test_a_stream_to_http_1_0_ends_with_the_connection(port: int) -> None:
    head, _, body = exchange(port, post(STREAM, version="1.0")).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


def test_an_answer_to_http_1_0_has_its_length(port: int) -> None:
    head, _, body = exchange(port, post(ASK, version="1.0")).partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(body) in head
    assert json.loads(body)["choices"][0]["message"]["content"] == "fine day"


JAVA = """
import java.net.URI; import java.net.http.*;
public class Ask { public static void main(String[] a) throws Exception {
  var client = HttpClient.newHttpClient();
  for (int i = 0; i < 2; i++) {
    var request = HttpRequest.newBuilder(URI.create(a[0])).header("content-type", "application/json")
      .POST(HttpRequest.BodyPublishers.ofString(a[1])).build();
    var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
    System.out.println(answer.statusCode() + " " + answer.body().contains("fine day"));
  } } }
"""


@pytest.mark.slow
def test_the_http_client_of_the_jdk(port: int, tmp_path: Path, which: Callable[[str], str]) -> None:
    java = which("java")
    which("javac")
    (tmp_path / "Ask.java").write_text(JAVA)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = [java, str(tmp_path / "Ask.java"), url, ASK.decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split("\n")[:2] == ["200 true", "200 true"], done.stderr
