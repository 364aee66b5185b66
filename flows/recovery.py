"""Recovery: a run that died is started again a few times; then, or if it failed, someone is notified."""

from uuid import UUID

from prefect import runtime

from slimpajama.core.config import Config
from slimpajama.core.config.run import RecoveryConfig
from slimpajama.core.errors import ConfigError
from tasks.observe import configuration, deployed
from tasks.recovery import mark_children_crashed, notify, should_restart, start_again


def _id(flow_run: str) -> UUID:
    return UUID(flow_run.removeprefix("prefect.flow-run."))


def _name() -> str:
    return f"recover-{str(_id(runtime.flow_run.parameters['flow_run']))[:8]}"


@deployed("recover", _name, lambda done: ("Completed", done))
def recover(flow_run: str, config: Config | None = None, config_file: str = "", alert: str = "") -> str:
    """Start a dead run again, or notify someone about a dead or failed one; events start this flow.

    Args:
        flow_run: Id of the run, with or without `prefect.flow-run.` before it.
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        alert: Whom to notify where the configuration cannot be read: `recovery.alert` when the deployment was made.

    Returns:
        What was done.
    """
    run = _id(flow_run)
    try:
        config = configuration(config, config_file)
        settings, about = config.recovery, config.workspace
    except ConfigError as error:
        # What died would fail by it when it is started again.
        settings, about = RecoveryConfig(attempts=0, alert=alert), str(error)
    closed = mark_children_crashed(run)
    if should_restart(run) and (again := start_again(settings.attempts, run)):
        return f"{closed} closed; {again} follows"
    return f"{closed} closed; {'notified' if notify(settings.alert, run, about) else 'nobody to notify'}"
