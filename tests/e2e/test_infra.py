"""`infra/deploy.sh` and a Prefect server that is locked as infra/compose locks it."""

import base64
import json
import subprocess
import urllib.error
import urllib.request

import pytest
from infra_files import compose
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from servers import BIN, ROOT, command, prefect_api, until

PASSWORD = "p@ss w/rd:%"


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server with the credentials and the CSRF protection of compose.yaml; the environment of its clients."""
    settings = compose(PREFECT_AUTH=f"night:{PASSWORD}")["services"]["server"]["environment"]
    settings = {name: value for name, value in settings.items() if name.startswith("PREFECT_SERVER_API_")}
    assert len(settings) == 3
    with prefect_api(tmp_path_factory.mktemp("locked"), **settings) as environment:
        yield environment | {"SLIMPAJAMA_HOME": str(ROOT), "SLIMPAJAMA_CONFIG": "/app/slimpajama.toml", "BIN": str(BIN)}


def deploy(environment, **more):
    command("sh", "infra/deploy.sh", **(environment | more))


def test_without_credentials_the_server_tells_nothing_and_takes_no_deployment(locked):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{locked['PREFECT_API_URL']}/version", timeout=10)
    with pytest.raises(AssertionError, match="Unauthorized"):
        deploy(locked, PREFECT_API_AUTH_STRING="night:guess")


def test_with_credentials_it_takes_them_twice_and_an_announcement_starts_a_night(locked):
    client = {"PREFECT_API_AUTH_STRING": f"night:{PASSWORD}"}
    deploy(locked, **client)
    deploy(locked, **client)  # as after an upgrade
    values = {PREFECT_API_URL: locked["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: f"night:{PASSWORD}"}
    with temporary_settings(values), get_client(sync_client=True) as api:
        names = [deployment.name for deployment in api.read_deployments()]
        assert sorted(names) == sorted(
            [
                "nightly",
                "prepare-corpus",
                "train-model",
                "evaluate-model",
                "generate-text",
                "tune-model",
                "clean-up",
                "recover",
            ]
        )
        command(
            BIN / "prefect",
            "event",
            "emit",
            "slimpajama.raw-files.announced",
            "--resource-id",
            "slimpajama.sources",
            **locked,
            **client,
        )

        def announced():
            (run,) = [run for run in api.read_flow_runs() if not run.auto_scheduled]
            return run

        run = until(announced, 60, "the run of the announced files")
        assert run.parameters == {"config_file": "/app/slimpajama.toml"}


def test_a_form_of_another_page_can_change_nothing(locked):
    """A browser adds the credentials by itself; what it lacks on another page is the CSRF token."""
    credentials = base64.b64encode(f"night:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{locked['PREFECT_API_URL']}/work_pools/", json.dumps({"name": "theirs", "type": "process"}).encode(), headers
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)


def test_waiting_ends_when_the_server_has_died(locked):
    done = subprocess.run(
        ["sh", "infra/deploy.sh"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=locked | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "SERVER_PID": "2147483646", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 1
    assert "no Prefect server answers" in done.stderr
