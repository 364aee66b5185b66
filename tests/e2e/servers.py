"""Starting and stopping what the end-to-end tests need."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def stop(process):
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def until(probe, seconds, what):
    end = time.monotonic() + seconds
    while True:
        try:
            return probe()
        except Exception as error:
            if time.monotonic() > end:
                raise TimeoutError(f"{what} was not there after {seconds} s: {error}") from error
            time.sleep(0.5)


def command(*arguments, timeout=300, **environment):
    """Run a program from the project's folder and return what it said."""
    done = subprocess.run(
        [*map(str, arguments)], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
        timeout=timeout, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def server(home):
    """Start a Prefect server on a free port; yield the environment that reaches it."""
    (port,) = free_ports(1)
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",  # a tiny model gains nothing from a second thread, and loses much on a busy machine
    }
    program = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            program, env=os.environ | environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: urllib.request.urlopen(f"{api}/health", timeout=2), 120, "the Prefect server")
        yield environment
    finally:
        stop(process)


@contextlib.contextmanager
def installation(config, run):
    """Bring server, worker and deployments up on a free port; yield what was said, the API's address and settings."""
    (port,) = free_ports(1)
    settings = {"BIN": str(BIN), "PORT": str(port), "CONFIG": str(config), "RUN": str(run)}
    said = command("sh", "infra/local/up.sh", **settings)
    try:
        yield said, f"http://127.0.0.1:{port}/api", settings
        pids = [int((run / f"{name}.pid").read_text()) for name in ("server", "worker")]
    finally:
        command("sh", "infra/local/down.sh", **settings)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def post(api, path, body):
    """Send JSON and return the answer's."""
    request = urllib.request.Request(f"{api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
