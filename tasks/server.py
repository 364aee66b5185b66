"""Prefect's temporary server: it starts while this process imports the rest.

Without this, Prefect starts one when the first flow begins, imports the whole server into this process, too, and takes
orders from any page that a browser on this machine shows.
"""

import asyncio
import atexit
import contextlib
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from prefect.client.orchestration import get_client
from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings, temporary_settings

from slimpajama.core.errors import ConfigError, StorageError
from slimpajama.core.logs import log

# Less to do at the server's start. We keep nothing in blocks; a server that stays registers its own.
LEAN = {"PREFECT_SERVER_UI_ENABLED": "0", "PREFECT_API_BLOCKS_REGISTER_ON_START": "0"}
# How long a server that the settings name may take to answer.
ANSWER_S = 10
# How long the temporary one may take to end.
END_S = 2


@contextlib.contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Start a server, unless the settings name one that answers; yield a function that waits until it answers.

    Its records stay where a lasting server finds them. It ends with this process, after the last request, however this
    process ends. It takes orders from this process and those that it starts: they alone know its password.

    Raises:
        StorageError: If `PREFECT_API_URL` names a server that does not answer, or the temporary one does not start.
    """
    settings = get_current_settings()
    if _is_there(settings.api.url) or not settings.server.ephemeral.enabled:
        yield lambda: None
        return
    # The server inherits it, so that nobody else can listen at the address that gets the password.
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    password = f"slimpajama:{secrets.token_urlsafe(32)}"
    locked = {
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": address,
    }
    home = {"PREFECT_HOME": str(settings.home.absolute())}
    client = {"PREFECT_API_URL": f"{address}/api", "PREFECT_API_AUTH_STRING": password}
    environment = os.environ | settings.to_environment_variables(exclude_unset=True) | LEAN | locked | client | home
    with tempfile.TemporaryFile() as said:
        server = _started(listening, environment, said)
        # Processes that we start use it, too.
        os.environ |= client
        refresh_global_settings_context()
        try:
            # Nobody listens to heartbeats, and with them a flow's end takes up to 1 s longer.
            with temporary_settings({"flows.heartbeat_frequency": None}):
                yield lambda: _wait(server, client["PREFECT_API_URL"], said)
        except KeyboardInterrupt:
            _stop(server)
            raise


def _started(listening: socket.socket, environment: Mapping[str, str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own: it outlives a terminal's signals, to note what became of a run."""
    with listening:
        server = subprocess.Popen(
            [sys.executable, "-m", "tasks.server", str(listening.fileno())],
            # Alembic takes modules of the current folder for Python's.
            cwd=environment["PREFECT_HOME"],
            env=environment,
            # The pipe is closed when this process ends, however that happens, and then the server ends.
            stdin=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
            pass_fds=[listening.fileno()],
        )
    atexit.register(_stop, server)
    return server


def _is_there(url: str | None) -> bool:
    """Return whether the server that the settings name answers us; `make up` may have left its name behind."""
    if not url:
        return False
    try:
        with (
            temporary_settings({"api.request_timeout": ANSWER_S, "client.max_retries": 0}),
            get_client(sync_client=True) as client,
        ):
            client.api_version()
    except Exception as error:
        hint = "Start it, or unset PREFECT_API_URL: then a run brings its own."
        if "PREFECT_API_URL" in os.environ:
            raise StorageError("Prefect's server does not answer", where=url, found=str(error), hint=hint) from error
        log.warning("Prefect's server does not answer at %s: this run brings its own", url)
        return False
    return True


def _wait(server: subprocess.Popen[bytes], url: str, said: IO[bytes]) -> None:
    end = time.monotonic() + get_current_settings().server.ephemeral.startup_timeout_seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    if (code := server.returncode or 0) < 0:
        raise ConfigError(
            "Prefect's temporary server was killed",
            found=signal.Signals(-code).name,
            hint="A limit may be too low: see `ulimit -a`, or the memory of the container.",
        )
    said.seek(0)
    raise StorageError(
        "Prefect's temporary server does not start",
        where=str(get_current_settings().home),
        found=said.read().decode(errors="replace").strip().rpartition("\n")[2] or "no answer in time",
        hint="It keeps its records there: may you write there? PREFECT_HOME names another folder.",
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(END_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _serve(listening: socket.socket) -> None:
    """Be the server: without its page and its services, which only a lasting one needs."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="error"))

    async def serve() -> None:
        with _one_starts_at_a_time():
            serving = asyncio.create_task(server.serve([listening]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.05)
        await serving

    asyncio.run(serve())


def _end_with_input() -> None:
    """End when the process that started this one has ended, even if it was killed."""
    os.read(0, 1)
    os._exit(0)


@contextlib.contextmanager
def _one_starts_at_a_time() -> Iterator[None]:
    """Let servers that share their records start one after the other: each may have to make the tables."""
    home = Path(get_current_settings().home)
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".slimpajama-starts").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
