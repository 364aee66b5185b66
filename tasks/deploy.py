"""Brings our deployments and automations to a Prefect server: `python -m tasks.deploy` in the project's root.

What a person set on the server stays: whether a deployment is paused, its schedules, an automation that is turned off.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import AutomationCore
from prefect.exceptions import ObjectNotFound

from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import ConfigError, SlimpajamaError
from tasks.recovery import notification_block


def deploy(config: Config) -> None:
    """Make or update every deployment of prefect.yaml and every automation of infra/local/automations.yaml.

    Raises:
        ConfigError: `schedule` is none, or the server lacks the block that `recovery.alert` names.
    """
    try:
        CronSchedule(cron=config.schedule.cron or "0 0 * * *", timezone=config.schedule.timezone)
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split()), where="schedule") from None
    if config.recovery.alert:
        notification_block(config.recovery.alert)
    recipe = yaml.safe_load(Path("prefect.yaml").read_text(encoding="utf-8"))
    with get_client(sync_client=True) as client:
        recipe["deployments"] = [wanted(one, _found(client, one["name"]), config) for one in recipe["deployments"]]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "prefect.yaml"
            file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
            command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        for one in yaml.safe_load(Path("infra/local/automations.yaml").read_text(encoding="utf-8"))["automations"]:
            _watch(client, AutomationCore.model_validate(one))
        for one in recipe["deployments"]:
            if found := _found(client, one["name"]):
                _say(found)


def wanted(one: dict[str, Any], there: DeploymentResponse | None, config: Config) -> dict[str, Any]:
    """Return a deployment of prefect.yaml as it is to be, given the one that is there already."""
    made = dict(one)
    schedules = made.pop("schedules", [])
    if made["name"] == "recover":
        made["parameters"] = made["parameters"] | {"alert": config.recovery.alert}
    if there:
        # Without schedules, an update leaves those that are there.
        return made | {"paused": there.paused}
    own = {"timezone": config.schedule.timezone}
    if made["name"] == "nightly":
        own["cron"] = config.schedule.cron
    return made | {"schedules": [s | own for s in schedules if (s | own)["cron"]]}


def _found(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """Return a deployment that is there; each is called after its flow."""
    try:
        return client.read_deployment_by_name(f"{name}/{name}")
    except ObjectNotFound:
        return None


def _watch(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Make an automation, or bring it up to date; one that is as it is to be keeps sight of what it waits for."""
    there = client.read_automations_by_name(automation.name)
    if not there:
        client.create_automation(automation)
        return
    if (there[0].trigger, there[0].actions) != (automation.trigger, automation.actions):
        client.update_automation(there[0].id, automation.model_copy(update={"enabled": there[0].enabled}))


def _say(deployment: DeploymentResponse) -> None:
    for one in deployment.schedules:
        state = ", paused" if deployment.paused or not one.active else ""
        when = getattr(one.schedule, "cron", None) or "a schedule of your own"
        print(f"schedule     {deployment.name}: {when} {getattr(one.schedule, 'timezone', None) or ''}{state}")


def main() -> int:
    """Deploy what SLIMPAJAMA_CONFIG names; return the exit code."""
    try:
        deploy(load_config(os.environ["SLIMPAJAMA_CONFIG"]))
    except SlimpajamaError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return error.exit_code
    except subprocess.CalledProcessError:
        # It has said why.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
