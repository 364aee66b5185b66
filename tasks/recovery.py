"""Recovery of runs that died: their open task runs are closed, the run is started again, or someone is notified."""

import datetime as dt
from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger, task
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Crashed, Scheduled
from prefect.utilities.urls import url_for

from slimpajama.core.errors import ConfigError, printable
from tasks.observe import PAGE, RETRY

# A run that replaces a dead one has this tag, with the number of the attempt.
ATTEMPT = "attempt-"

# Tasks take a run's id, not the run: Prefect would wait for the state in the run as for a task.


@task(name="should-restart", cache_policy=NO_CACHE, **RETRY)
def should_restart(flow_run: UUID) -> bool:
    """Return whether a run died, rather than failed, and is no part of another run."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run)
    return bool(run.state and run.state.is_crashed() and not run.parent_task_run_id)


@task(name="mark-children-crashed", cache_policy=NO_CACHE, **RETRY)
def mark_children_crashed(flow_run: UUID) -> int:
    """Set orphaned task runs and subflows of the dead process to Crashed; return how many."""
    closed = 0
    died: State[Any] = Crashed(message="Its process died.")
    with get_client(sync_client=True) as client:
        for task_run in _open_task_runs(client, flow_run):
            child = task_run.state and task_run.state.state_details.child_flow_run_id
            if child:
                closed += mark_children_crashed.fn(child)
                client.set_flow_run_state(child, died, force=True)
            client.set_task_run_state(task_run.id, died, force=True)
            closed += 1
    return closed


@task(name="start-again", cache_policy=NO_CACHE, **RETRY)
def start_again(attempts: int, flow_run: UUID) -> str:
    """Schedule the dead run's deployment once more and return the new run's name; none after so many attempts.

    The night goes on where it stopped: its manifests list what is done. A run is replaced once, however often its
    death is reported.
    """
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run)
        attempt = 1 + max((int(tag.removeprefix(ATTEMPT)) for tag in run.tags if _counts(tag)), default=0)
        if attempt > attempts or run.deployment_id is None:
            return ""
        tags = [tag for tag in run.tags if not _counts(tag)]
        again = client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            tags=[*tags, f"{ATTEMPT}{attempt}"],
            state=Scheduled(scheduled_time=dt.datetime.now(dt.UTC)),
            idempotency_key=f"instead-of-{run.id}",
        )
    get_run_logger().info("recover: %s died, attempt %d follows", run.name, attempt)
    return again.name


@task(name="notify", cache_policy=NO_CACHE, **RETRY)
def notify(alert: str, flow_run: UUID, about: str) -> bool:
    """Send a message about a run to a notification block; return whether there is one.

    Args:
        about: Where the run worked, or why that cannot be said.
    """
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run)
    state = f"{run.state.name}: {run.state.message}" if run.state else ""
    subject = printable(f"slimpajama: {run.name} did not come through")
    body = f"{printable(state, 2000)}\n{printable(about, 2000)}\n{url_for(run) or ''}"
    get_run_logger().error("%s\n%s", subject, body)
    if not alert:
        return False
    # This function is no coroutine, so the call waits here.
    cast(Any, notification_block(alert)).notify(body, subject=subject)
    return True


def notification_block(name: str) -> NotificationBlock:
    """Return the block that `recovery.alert` names.

    Raises:
        ConfigError: The server has no such block, or it cannot notify.
    """
    try:
        block = Block.load(name)
    except ValueError as error:
        hint = "Make it in the UI, under Blocks, or name another; empty notifies nobody."
        raise ConfigError("the server has no such block", where="recovery.alert", found=name, hint=hint) from error
    if not isinstance(block, NotificationBlock):
        hint = "`prefect block type ls` lists what can notify."
        raise ConfigError("not a notification block", where="recovery.alert", found=name, hint=hint)
    return block


def _open_task_runs(client: SyncPrefectClient, run: UUID) -> Iterator[TaskRun]:
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    found: list[TaskRun] = []
    while page := client.read_task_runs(flow_run_filter=of_run, limit=PAGE, offset=len(found)):
        found += page
    yield from (task_run for task_run in found if not (task_run.state and task_run.state.is_final()))


def _counts(tag: str) -> bool:
    return tag.startswith(ATTEMPT) and tag.removeprefix(ATTEMPT).isdecimal()
