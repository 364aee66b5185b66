"""Recovery: a run that died is started again a few times; then, or if it failed, someone is notified."""

from uuid import UUID

from prefect import flow, runtime

from slimpajama.core.config import Config
from tasks.observe import configuration
from tasks.recovery import mark_children_crashed, notify, should_restart, start_again


def _id(flow_run: str) -> UUID:
    return UUID(flow_run.removeprefix("prefect.flow-run."))


def _name() -> str:
    return f"recover-{str(_id(runtime.flow_run.parameters['flow_run']))[:8]}"


@flow(name="recover", flow_run_name=_name)
def recover(flow_run: str, config: Config | None = None, config_file: str = "") -> str:
    """Start a dead run again, or notify someone about a dead or failed one; events start this flow.

    Args:
        flow_run: Id of the run, with or without `prefect.flow-run.` before it.
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.

    Returns:
        What was done.
    """
    config = configuration(config, config_file)
    run = _id(flow_run)
    closed = mark_children_crashed(run)
    if should_restart(run) and (again := start_again(config, run)):
        return f"{closed} closed; {again} follows"
    return f"{closed} closed; {'notified' if notify(config, run) else 'nobody to notify'}"
