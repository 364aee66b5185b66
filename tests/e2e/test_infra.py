"""`infra/deploy.sh` and a Prefect server that is locked as infra/compose locks it."""

import base64
import json
import os
import re
import subprocess
import urllib.error
import urllib.request

import pytest
from infra_files import compose
from prefect.client.orchestration import get_client
from prefect.events import AutomationCore
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from servers import BIN, ROOT, command, prefect_api, until

PASSWORD = "p@ss w/rd:%"


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server with the credentials and the CSRF protection of compose.yaml; the environment of its clients."""
    settings = compose(PREFECT_AUTH=f"night:{PASSWORD}")["services"]["server"]["environment"]
    settings = {name: value for name, value in settings.items() if name.startswith("PREFECT_SERVER_API_")}
    assert len(settings) == 3
    home = tmp_path_factory.mktemp("locked")
    config = home / "slimpajama.toml"
    config.write_text('[schedule]\ncron = "30 3 * * *"\ntimezone = "Asia/Shanghai"\n', encoding="utf-8")
    with prefect_api(home, **settings) as environment:
        yield environment | {"SLIMPAJAMA_HOME": str(ROOT), "SLIMPAJAMA_CONFIG": str(config), "BIN": str(BIN)}


def deploy(environment, code=0, **more):
    return command("sh", "infra/deploy.sh", code=code, **(environment | more))


def scheduled(api):
    """Return cron, time zone and whether it is active, by deployment."""
    return {
        one.name: [(s.schedule.cron, s.schedule.timezone, s.active) for s in one.schedules]
        for one in api.read_deployments()
        if one.schedules
    }


def test_without_credentials_the_server_tells_nothing_and_takes_no_deployment(locked):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{locked['PREFECT_API_URL']}/version", timeout=10)
    with pytest.raises(AssertionError, match="Unauthorized"):
        deploy(locked, PREFECT_API_AUTH_STRING="night:guess")


def updated(api):
    """Return when each automation was last written."""
    return {one["name"]: one["updated"] for one in api.request("POST", "/automations/filter", json={}).json()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('[schedule]\ntimezone = "Mars/Olympus"\n', "schedule: .*Mars/Olympus"),
        ('[recovery]\nalert = "slack-webhook/nobody"\n', "recovery.alert: the server has no such block"),
        ("[schedule]\ncorn = 1\n", "schedule.corn: unknown setting, did you mean cron"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_sentence(locked, tmp_path, settings, message):
    config = tmp_path / "wrong.toml"
    config.write_text(settings, encoding="utf-8")
    client = {"PREFECT_API_AUTH_STRING": f"night:{PASSWORD}", "SLIMPAJAMA_CONFIG": str(config)}
    done = subprocess.run(
        [BIN / "python", "-m", "tasks.deploy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | locked | client,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert re.search(f"^deploy: .*{message}.*\n$", done.stderr), done.stderr


def test_with_credentials_it_takes_them_twice_what_a_person_set_stays_and_an_announcement_starts_a_night(locked):
    client = {"PREFECT_API_AUTH_STRING": f"night:{PASSWORD}"}
    said = deploy(locked, **client)
    assert "\nschedule     nightly: 30 3 * * * Asia/Shanghai\n" in said
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
        weekly = ("0 12 * * 0", "Asia/Shanghai", True)
        assert scheduled(api) == {"nightly": [("30 3 * * *", "Asia/Shanghai", True)], "clean-up": [weekly]}
        nightly, clean_up, train = (
            api.read_deployment_by_name(f"{name}/{name}") for name in ("nightly", "clean-up", "train-model")
        )
        patch = f"/deployments/{clean_up.id}/schedules/{clean_up.schedules[0].id}"
        api.request("PATCH", patch, json={"active": False}).raise_for_status()
        api.request("DELETE", f"/deployments/{nightly.id}/schedules/{nightly.schedules[0].id}").raise_for_status()
        own = [{"schedule": {"cron": "5 5 * * *", "timezone": "Europe/Paris"}, "active": True}]
        api.request("POST", f"/deployments/{nightly.id}/schedules", json=own).raise_for_status()
        api.request("PATCH", f"/deployments/{train.id}", json={"paused": True}).raise_for_status()
        (silent,) = api.read_automations_by_name("slimpajama-silent-run")
        changed = {"enabled": False, "actions": [{"type": "do-nothing"}]}
        before = silent.model_dump(mode="json", exclude={"id", "owner_resource"}) | changed
        api.update_automation(silent.id, AutomationCore.model_validate(before))
        before = updated(api)

        said = deploy(locked, **client)  # as after an upgrade
        assert "\nschedule     clean-up: 0 12 * * 0 Asia/Shanghai, paused\n" in said
        assert scheduled(api) == {"nightly": [("5 5 * * *", "Europe/Paris", True)], "clean-up": [(*weekly[:2], False)]}
        assert api.read_deployment(train.id).paused
        assert not api.read_deployment(nightly.id).paused
        (again,) = api.read_automations_by_name("slimpajama-silent-run")
        assert (again.id, again.actions, again.enabled) == (silent.id, silent.actions, False)
        assert {name for name, when in updated(api).items() if when != before.get(name)} >= {"slimpajama-silent-run"}
        assert updated(api)["slimpajama-never-started"] == before["slimpajama-never-started"]
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
        assert run.parameters == {"config_file": locked["SLIMPAJAMA_CONFIG"]}


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
