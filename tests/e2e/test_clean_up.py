"""`clean-up` against a real server: old finished runs of ours go with what they showed, all others stay."""

import contextlib
import datetime as dt
import functools
import json
import sqlite3
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, LogCreate
from prefect.client.schemas.filters import ArtifactFilter, LogFilter
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running
from servers import until


@pytest.fixture
def client(prefect_server):
    with temporary_settings({PREFECT_API_URL: prefect_server["PREFECT_API_URL"]}), get_client(sync_client=True) as it:
        yield it


@pytest.fixture
def run_of(client, prefect_server):
    """Return what makes a run that ended some days ago."""
    database = Path(prefect_server["PREFECT_HOME"], "prefect.db")
    return functools.partial(make_run, client, database)


def make_run(client, database, name, state, days):
    run = client.create_flow_run(flow(lambda: None, name=name))
    client.set_flow_run_state(run.id, Running(), force=True)
    if state.is_final():
        client.set_flow_run_state(run.id, state, force=True)
        # the server takes no clock but its own, so its database is told
        ended = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
        with contextlib.closing(sqlite3.connect(database, timeout=60)) as db, db:
            found = db.execute("UPDATE flow_run SET end_time = ? WHERE replace(id, '-', '') = ?", (ended, run.id.hex))
            assert found.rowcount == 1
    client.create_logs(
        [LogCreate(name="x", level=20, message="记录", timestamp=dt.datetime.now(dt.UTC), flow_run_id=run.id)]
    )
    client.create_artifact(ArtifactCreate(key="night-verdict", type="markdown", data="好", flow_run_id=run.id))
    return run.id


def is_there(client, run):
    try:
        return client.read_flow_run(run).id == run
    except ObjectNotFound:
        return False


def test_old_finished_runs_go_with_logs_and_artifacts_and_all_others_stay(client, run_of, slimpajama, tmp_path):
    old = run_of("nightly", Completed(), 31)
    stay = [
        run_of("nightly", Completed(), 29),
        run_of("somebody-elses", Completed(), 31),
        run_of("nightly", Running(), 31),
    ]
    command = ("clean-up", "--workspace", tmp_path / "w", "--json")
    planned = json.loads(slimpajama(*command, "--dry-run").stdout.splitlines()[-1])
    assert planned["runs"] == 1
    assert is_there(client, old)
    assert json.loads(slimpajama(*command).stdout.splitlines()[-1])["runs"] == 1
    assert not is_there(client, old)
    assert all(is_there(client, run) for run in stay)
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter.model_validate({"key": {"any_": ["night-verdict"]}})
    )
    assert {artifact.flow_run_id for artifact in artifacts} >= set(stay)
    assert old not in {artifact.flow_run_id for artifact in artifacts}
    of_old = LogFilter.model_validate({"flow_run_id": {"any_": [str(old)]}})
    until(lambda: not client.read_logs(log_filter=of_old) or 1 / 0, 60, "the server to drop the logs")
