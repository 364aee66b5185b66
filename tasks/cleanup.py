"""Retention: old models of the workspace, and old runs in Prefect."""

import datetime as dt
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.exceptions import ObjectNotFound

from slimpajama.core.config import Config
from slimpajama.ops.pipeline import FLOWS
from slimpajama.ops.retention import CleanUpReport, clean_up
from tasks.observe import PAGE, RETRY, workspace_of

OUR_FLOWS = ["nightly", "prepare-corpus", *FLOWS, "clean-up", "recover"]


@task(name="clean-up-workspace", cache_policy=NO_CACHE, **RETRY)
def clean_up_workspace(config: Config, dry_run: bool = False) -> CleanUpReport:
    """Remove rejected models and leftovers."""
    report = clean_up(workspace_of(config), config.retention, dry_run=dry_run)
    get_run_logger().info("clean-up: %s", report.text())
    return report


@task(name="clean-up-runs", cache_policy=NO_CACHE, **RETRY)
def clean_up_runs(config: Config, dry_run: bool = False) -> int:
    """Remove finished runs of our flows older than `retention.run_days` with logs and artifacts; return how many."""
    if not config.retention.run_days:
        return 0
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=config.retention.run_days)
    chosen: dict[str, Any] = {
        "flow_filter": FlowFilter(name=FlowFilterName(any_=OUR_FLOWS)),
        "flow_run_filter": FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
            end_time=FlowRunFilterEndTime.model_validate({"before_": before}),
        ),
    }
    removed = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(**chosen, limit=PAGE, offset=removed if dry_run else 0):
            removed += len(runs)
            if not dry_run:
                _remove(client, [run.id for run in runs])
    get_run_logger().info("clean-up: %d runs %s", removed, "would go" if dry_run else "removed")
    return removed


def _remove(client: SyncPrefectClient, runs: Sequence[UUID]) -> None:
    """Remove runs and their artifacts; the server removes their task runs and logs by itself."""
    of_runs = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=list(runs)))
    while artifacts := client.read_artifacts(artifact_filter=of_runs, limit=PAGE):
        for artifact in artifacts:
            client.delete_artifact(artifact.id)
    for run in runs:
        try:
            client.delete_flow_run(run)
        except ObjectNotFound:
            # It was removed with the run that it was a part of.
            continue
