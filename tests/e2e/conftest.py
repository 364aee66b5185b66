"""Real servers for the end-to-end tests: started on free loopback ports, stopped by the pid that was started."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from servers import prefect_api, s3_server
from small_corpus import arguments, published, write_corpus


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server; its settings as an environment, which is set."""
    with s3_server(tmp_path_factory.mktemp("s3")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture
def s3_uri(s3, monkeypatch):
    """A prefix of its own in the test bucket, with the environment that reaches it."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return f"s3://tests/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """Start a Prefect server of the tests' own on a free port; yield the environment that reaches it."""
    home = tmp_path_factory.mktemp("prefect")
    # A tiny model gains nothing from a second, and loses much on a busy machine.
    one_thread = {"OMP_NUM_THREADS": "1"}
    with prefect_api(home) as environment:
        yield environment | one_thread


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
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            stdin=subprocess.DEVNULL,
        )
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
        env=os.environ | prefect_server,
        check=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )
    return published(workspace)
