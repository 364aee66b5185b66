"""Prefect's temporary server, started before the rest is imported, so that both happen at once.

Left to itself, Prefect starts one when the first flow begins, and imports the whole server into this process besides.
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

ALONE = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    # We keep nothing in blocks; a server that stays registers its own.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "0",
}
"""Of the server alone: what Prefect gives its temporary server, and less to do at its start."""


@contextlib.contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Start a server, unless the settings name one or forbid it; yield what waits until it answers.

    It keeps its records where a lasting one finds them, and ends with this process, after what is sent to it last.
    """
    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        yield lambda: None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = ["--factory", "prefect.server.api.server:create_app", "--lifespan", "on", "--log-level", "error"]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *app, "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | settings.to_environment_variables(exclude_unset=True) | ALONE,
    )
    atexit.register(_stop, server)
    # For processes that we start, too.
    url = os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    refresh_global_settings_context()
    # Nobody listens, and a flow's end waits up to 1 s.
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
