"""Who may reach the server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from slimpajama.apps.serve import server
from slimpajama.apps.serve.server import TOKEN_VARIABLE, PatientProtocol, is_loopback, listen, read_token
from slimpajama.core.errors import ConfigError


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.1", False),
        ("localhost.example", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, answer: bool):
    assert is_loopback(host) is answer


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from-the-environment")
    assert read_token(None) == "from-the-environment"
    (tmp_path / "token").write_text("out-of-a-file-123\n")
    assert read_token(tmp_path / "token") == "out-of-a-file-123"


@pytest.mark.parametrize(
    "data", [b"", b"short", b"with a space in the middle", "令牌令牌令牌令牌令牌".encode(), b"\xff" * 20]
)
def test_what_is_no_token_is_refused_and_not_quoted(tmp_path: Path, data: bytes):
    (tmp_path / "token").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_token(tmp_path / "token")
    assert not data or data.decode(errors="replace") not in str(caught.value)
    with pytest.raises(ConfigError, match="no token can be read"):
        read_token(tmp_path / "missing")


def test_an_address_that_is_taken_is_an_error_for_the_user():
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="cannot listen"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], socket.socket]]:
    """Serves an application with little patience and returns a client's connection to it."""
    monkeypatch.setattr(server, "PATIENCE_S", 0.05)
    started: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def serve(app: Any) -> socket.socket:
        listening = listen("127.0.0.1", 0)
        uvicorn_server = uvicorn.Server(uvicorn.Config(app, http=PatientProtocol, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(uvicorn_server.serve([listening])), daemon=True)
        thread.start()
        client = socket.create_connection(listening.getsockname(), timeout=30)
        started.append((uvicorn_server, thread, client))
        return client

    yield serve
    for uvicorn_server, thread, client in started:
        client.close()
        uvicorn_server.should_exit = True
        thread.join(30)


async def hello(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize(
    "said",
    [b"", b"POST /v1/comp", b"GET / HTTP/1.1\r\nHost: x\r\n", "GET /今天".encode()],
    ids=["nothing", "half a line", "half a head", "half a path in Chinese"],
)
def test_a_client_that_never_ends_its_request_is_let_go(running: Callable[[Any], socket.socket], said: bytes):
    client = running(hello)
    client.sendall(said)
    # Which ends with the connection.
    assert b"hello" not in client.makefile("rb").read()


def test_a_client_that_goes_on_sending_after_its_answer_is_let_go(running: Callable[[Any], socket.socket]):
    client = running(hello)
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome")
    assert client.makefile("rb").read().endswith(b"hello")


def test_a_client_that_does_not_read_is_let_go(running: Callable[[Any], socket.socket]):
    ended = threading.Event()

    async def flood(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        # More than any system takes on behalf of who does not read.
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        ended.set()

    running(flood).sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert ended.wait(30)


def test_a_slow_answer_is_waited_for(running: Callable[[Any], socket.socket]):
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(5 * server.PATIENCE_S)
        await hello(scope, receive, send)

    client = running(slow)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.makefile("rb").read().endswith(b"hello")


@pytest.mark.parametrize(
    "behind", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000]
)
@pytest.mark.parametrize("how", ["closes", "half-closes", "resets"])
def test_a_client_that_leaves_while_its_answer_is_made_is_noticed(
    running: Callable[[Any], socket.socket], monkeypatch: pytest.MonkeyPatch, how: str, behind: bytes
):
    """Also where another request stands behind the one that runs: uvicorn would read no further."""
    monkeypatch.setattr(server, "PATIENCE_S", 60)
    begun, left = threading.Event(), threading.Event()

    async def slow(_: Any, receive: Any, __: Any) -> None:
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    client = running(slow)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert begun.wait(30)
    with contextlib.suppress(ConnectionError):
        client.sendall(behind)
    if how == "half-closes":
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
    else:
        if how == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert left.wait(10)


def test_requests_behind_one_another_are_answered_in_order(running: Callable[[Any], socket.socket]):
    client = running(hello)
    client.sendall(3 * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert client.makefile("rb").read().count(b"hello") == 4
