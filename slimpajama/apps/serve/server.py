"""Listening: who may reach the server, and how it ends."""

import ipaddress
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from slimpajama.apps.serve.app import Application
from slimpajama.apps.serve.worker import Worker
from slimpajama.core.config import ApplyConfig, GenerateConfig
from slimpajama.core.errors import ConfigError

TOKEN_VARIABLE = "SLIMPAJAMA_TOKEN"
# For running requests at a SIGTERM; Docker and Kubernetes kill after 10 and 30 s unless told otherwise.
GRACE_S = 20
# Beside those of the queue; above it a plain 503.
CONNECTIONS = 64
# For a request's head, or for a client that has stopped to read; at most twice that.
PATIENCE_S = 15.0
# Bytes behind a request that is being answered.
MAX_BEHIND = 65_536


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches `host`; a name other than localhost could be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, else of the environment's `SLIMPAJAMA_TOKEN`, else None.

    Raises:
        ConfigError: If it cannot be read, or is no token; it is not quoted.
    """
    where = str(file) if file else TOKEN_VARIABLE
    try:
        token = file.read_text(encoding="ascii").strip() if file else os.environ.get(TOKEN_VARIABLE)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"no token can be read: {type(error).__name__}", where=where) from None
    if token is not None and not re.fullmatch(r"[!-~]{16,}", token):
        raise ConfigError("not a token", where=where, expected="16 or more printable ASCII characters, no space")
    return token


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: If the address is taken, or not this machine's.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"cannot listen: {error.strerror}", where=f"{host}:{port}") from None


class PatientProtocol(H11Protocol):
    """HTTP that lets go of a client who says nothing whole, or takes nothing: uvicorn itself would wait for ever.

    A few dozen such connections would be all that `CONNECTIONS` lets in.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin to look at the connection every `PATIENCE_S`."""
        super().connection_made(transport)
        self._look(self, 0)

    def data_received(self, data: bytes) -> None:
        """Read on while an answer is made, or what the client sent behind its request would hide that it left."""
        super().data_received(data)
        if self.cycle and not self.cycle.response_complete:
            if len(self.conn.trailing_data[0]) > MAX_BEHIND:
                self.transport.abort()
            elif not self.cycle.more_body:
                self.flow.resume_reading()

    def eof_received(self) -> None:
        """Let go of a client who says that nothing more will come, even if it takes what was written for it slowly."""
        if self.cycle and not self.cycle.response_complete:
            self.transport.abort()

    def _look(self, before: object, unread: int) -> None:
        """Close the connection if nothing has come of it since the last look.

        Args:
            before: The last request, if the connection was waiting for another one then, or else anything but one.
            unread: Bytes that the client had not taken then.
        """
        pending = self.transport.get_write_buffer_size()
        idle = self.cycle is None or self.cycle.response_complete
        if 0 < unread <= pending:
            # `close` would wait for the client to read.
            self.transport.abort()
        elif idle and not pending and self.cycle is before:
            self.transport.close()
        elif self in self.connections:
            self.loop.call_later(PATIENCE_S, self._look, self.cycle if idle else self, pending)


def run(
    worker: Worker, cfg: GenerateConfig, listening: socket.socket, host: str, token: str | None, apply: ApplyConfig
) -> None:
    """Answer until SIGTERM or SIGINT; then finish what runs, for at most `GRACE_S`.

    Without a token, and reachable from this machine only, it answers to this machine's names only: see `Application`.
    """
    hosts = (
        frozenset({"localhost", "127.0.0.1", "::1", host.lower()}) if not token and is_loopback(host) else frozenset()
    )
    address = f"[{host}]" if ":" in host else host
    app = Application(worker, cfg, token, hosts, apply)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=GRACE_S,
        http=PatientProtocol,
        limit_concurrency=worker.max_queue + CONNECTIONS,
    )
    # uvicorn repeats the signal when it is done; the end is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    print(
        f"slimpajama: {worker.loaded.id} at http://{address}:{listening.getsockname()[1]}/", file=sys.stderr, flush=True
    )
    uvicorn.Server(config).run(sockets=[listening])
