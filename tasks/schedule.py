"""Nights that no worker was there to start: which of them is made up for."""

import datetime as dt
from collections.abc import Sequence
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterExpectedStartTime
from prefect.client.schemas.objects import FlowRun

from slimpajama.core.config import Config
from tasks.observe import PAGE

LATE = dt.timedelta(hours=1)


def missed(config: Config) -> str:
    """Return why the run that this is shall do nothing: it was scheduled and missed. Empty if it shall work."""
    if not runtime.deployment.id:
        return ""
    now = dt.datetime.now(dt.UTC)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(runtime.flow_run.id))
        if not run.auto_scheduled or not run.expected_start_time:
            return ""
        since = FlowRunFilterExpectedStartTime.model_validate({"after_": run.expected_start_time, "before_": now})
        same = FlowRunFilterDeploymentId(any_=[UUID(runtime.deployment.id)])
        due = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(deployment_id=same, expected_start_time=since), limit=PAGE
        )
    return why_not(run, due, now, config.schedule.missed)


def why_not(run: FlowRun, due: Sequence[FlowRun], now: dt.datetime, policy: str) -> str:
    """Return why a scheduled run shall do nothing, empty if it shall work.

    Args:
        due: Runs of the same deployment that were to begin since, itself among them.
        policy: `schedule.missed`.
    """
    begins = run.expected_start_time
    if not begins:
        return ""
    if policy == "none":
        return f"It was to begin at {begins:%Y-%m-%d %H:%M} UTC." if now - begins > LATE else ""
    later = [
        one.expected_start_time
        for one in due
        if one.auto_scheduled and one.expected_start_time and not (one.state and one.state.is_cancelled())
    ]
    last = max(later, default=begins)
    return f"The night of {last:%Y-%m-%d %H:%M} UTC does its work." if last > begins else ""
