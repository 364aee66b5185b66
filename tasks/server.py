"""Prefect's temporary server: it starts while this process imports the rest.

Without this, Prefect starts one when the first flow begins, and imports the whole server into this process, too.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings, temporary_settings

# Less to do at the server's start. We keep nothing in blocks; a server that stays registers its own.
LEAN = {"PREFECT_SERVER_UI_ENABLED": "0", "PREFECT_API_BLOCKS_REGISTER_ON_START": "0"}


@contextlib.contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Start a server, unless the settings name one or forbid it; yield a function that waits until it answers.

    Its records stay where a lasting server finds them. It ends with this process, after the last request.
    """
    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        yield lambda: None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | settings.to_environment_variables(exclude_unset=True) | LEAN
    server = subprocess.Popen([sys.executable, "-m", "tasks.server", str(port)], env=environment)
    atexit.register(_stop, server)
    # Processes that we start use it, too.
    url = os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    refresh_global_settings_context()
    # Nobody listens to heartbeats, and with them a flow's end takes up to 1 s longer.
    with temporary_settings({"flows.heartbeat_frequency": None}):
        yield lambda: _wait(server, url, settings.server.ephemeral.startup_timeout_seconds)


def _wait(server: subprocess.Popen[bytes], url: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"Prefect's temporary server did not answer at {url} within {seconds:.0f} s")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _serve(port: int) -> None:
    """Be the server: without its page and its services, which only a lasting one needs."""
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    uvicorn.run(app, host="127.0.0.1", port=port, lifespan="on", log_level="error")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
