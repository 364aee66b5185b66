"""Stages on the workers of a cluster: separate processes, one killed in the middle of a stage, the same bytes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import BIN, free_ports, stop, until
from small_corpus import published, published_in

from slimpajama.workspace.open import open_store

distributed = pytest.importorskip("distributed", reason="needs the extra `test`, which `make test` installs")
PREPARE = [sys.executable, "-m", "slimpajama", "prepare", "--night", "n1"]


def prepared(files):
    """Return what preparation alone has made, of the files of a whole night."""
    return {path: digest for path, digest in files.items() if path.startswith("nights/")}


def start(log, *arguments, **environment):
    with log.open("wb") as file:
        return subprocess.Popen(
            [*map(str, arguments)],
            env=os.environ | environment,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


@pytest.fixture
def dask(tmp_path, s3, prefect_server):
    """A scheduler and two workers, each a process of its own: their address and the workers."""
    (port,) = free_ports(1)
    address = f"tcp://127.0.0.1:{port}"
    environment = prefect_server | s3 | {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}
    scheduler = start(
        tmp_path / "scheduler.log",
        BIN / "dask",
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--no-dashboard",
        **environment,
    )
    quiet = ("--nthreads", 1, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
    workers = [
        start(
            tmp_path / f"worker-{n}.log",
            BIN / "dask",
            "worker",
            address,
            *quiet,
            "--local-directory",
            tmp_path,
            **environment,
        )
        for n in range(2)
    ]
    try:
        until(lambda: two_workers(address), 120, "the second worker")
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            with contextlib.suppress(ProcessLookupError):
                stop(process)


def two_workers(address):
    with distributed.Client(address, timeout=5) as client:
        client.wait_for_workers(2, timeout=5)


def test_two_workers_of_dask_one_of_them_killed_over_s3_make_the_same_bytes(
    dask, s3_uri, s3, corpus, undisturbed, prefect_server, tmp_path
):
    address, workers = dask
    settings = ("--set", "run.engine=dask", "--set", f"run.address={address}")
    night = start(
        tmp_path / "night.log",
        *PREPARE,
        "--config",
        corpus / "config.toml",
        "--workspace",
        s3_uri,
        *settings,
        **prefect_server,
        **s3,
    )
    store = open_store(s3_uri)
    try:
        until(lambda: store.list("nights/n1/work/clean/parts/")[0], 180, "a unit that a worker has made")
        os.kill(workers[0].pid, signal.SIGKILL)
        assert night.wait(400) == 0, (tmp_path / "night.log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            stop(night)
    assert prepared(published_in(store)) == prepared(undisturbed)
    said = (tmp_path / "worker-1.log").read_text()
    # The work was done there.
    assert "share" in said, said


@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="unshare -n wants root on Linux")
def test_rays_workers_one_of_them_killed_make_the_same_bytes(corpus, undisturbed, tmp_path):
    """In a network of its own: Ray listens on the machine's address, not on loopback."""
    pytest.importorskip("ray", reason="needs the extra `test`, which `make test` installs")
    workspace = tmp_path / "w"
    night = start(
        tmp_path / "night.log",
        "unshare",
        "--net",
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
        *PREPARE,
        "--config",
        corpus / "config.toml",
        "--workspace",
        workspace,
        "--set",
        "run.engine=ray",
        "--set",
        "run.workers=2",
        PREFECT_HOME=str(tmp_path / "prefect"),
    )
    try:
        until(lambda: next(workspace.glob("nights/n1/work/clean/parts/*.json")), 240, "a unit that a worker has made")
        worker = until(lambda: busy_ray_worker(night.pid), 20, "a worker of Ray")
        os.kill(worker, signal.SIGKILL)
        assert night.wait(400) == 0, (tmp_path / "night.log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            stop(night)
    assert prepared(published(workspace)) == prepared(undisturbed)


def busy_ray_worker(session):
    """Return a process of Ray's that runs a share: such a process is called after its task."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (folder / "cmdline").read_bytes()
            if title.startswith(b"ray::") and b"IDLE" not in title and os.getsid(int(folder.name)) == session:
                return int(folder.name)
    time.sleep(0.05)
    raise LookupError
