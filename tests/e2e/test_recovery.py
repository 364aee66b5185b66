"""Runs that die are gone on with by themselves, to the same bytes; runs that keep dying are told of."""

import contextlib
import http.server
import os
import re
import signal
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.events import AutomationCore
from prefect.states import Crashed, Pending
from servers import BIN, ROOT, Installation, start_night, stop, until
from small_corpus import CONFIG, published

RECOVERY = f'{CONFIG}\n[recovery]\nattempts = 2\nalert = "custom-webhook/nights"\n'
OPEN = ["SCHEDULED", "PENDING", "RUNNING"]


@pytest.fixture(scope="module")
def heard():
    """What a notification block sends, and the address it sends to."""
    bodies = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield bodies, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def up(corpus, heard, tmp_path_factory):
    """The whole installation, with a block that alerts go to."""
    config = corpus / "recovery.toml"
    config.write_text(RECOVERY, encoding="utf-8")
    it = Installation(tmp_path_factory.mktemp("root"), config)
    try:
        # The server stays up for whoever makes the block, which was forgotten.
        it.up(code=2)
        assert "recovery.alert: the server has no such block: found custom-webhook/nights" in it.said
        with it.api():
            CustomWebhookNotificationBlock(
                name="nights", url=heard[1], json_data={"text": "{{subject}} {{body}}"}
            ).save("nights")
        it.up()
        yield it
    finally:
        it.down()


def processes_below(pid):
    """Return the ids of all processes that descend from one."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def nights_of(up, workspace):
    runs = up.ask("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
    return [run for run in runs if run["name"] == f"nightly-{workspace.name}-n1"]


def expect_recovery(up, workspace, undisturbed, seconds):
    def finished():
        first, second = nights_of(up, workspace)
        assert second["state_type"] == "COMPLETED", second["state"]
        return first, second

    first, second = until(finished, seconds, "the second attempt")
    assert first["state_type"] == "CRASHED"
    assert "attempt-1" in second["tags"]
    assert {*first["tags"]} <= {*second["tags"]}
    assert published(workspace) == undisturbed
    left = up.ask("/task_runs/filter", {"task_runs": {"state": {"type": {"any_": OPEN}}}})
    dead = [run for run in left if run["flow_run_id"] == first["id"]]
    assert dead == []
    inside = up.ask("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [first["id"]]}}})
    assert inside
    assert not [run["name"] for run in inside if run["state_type"] in OPEN]


def test_a_night_whose_process_dies_is_gone_on_with(up, corpus, undisturbed):
    workspace = start_night(corpus, up, "dies", RECOVERY)
    for pid in processes_below(up.pid("worker")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    expect_recovery(up, workspace, undisturbed, 300)


def test_a_run_that_keeps_dying_is_told_of_and_not_started_again(up, heard):
    bodies, _ = heard
    with up.api() as client:
        run = client.create_flow_run(flow(lambda: None, name="nightly"), name="一夜", tags=["slimpajama", "attempt-2"])
        client.set_flow_run_state(run.id, Crashed(message="内存不足"), force=True)
    (body,) = until(lambda: [body for body in bodies if str(run.id) in body] or 1 / 0, 120, "the alert")
    assert "\\u4e00\\u591c" in body or "一夜" in body


def test_a_wrong_setting_fails_with_its_sentence_is_not_tried_again_and_is_told_of(up, corpus, heard):
    """The file that says whom to tell cannot be read, either."""
    bodies, _ = heard
    config = corpus / "recovery.toml"
    config.write_text(f"{RECOVERY}\n[schedule]\ncorn = 5\n", encoding="utf-8")
    try:
        up.prefect("deployment", "run", "nightly/nightly")
        sentence = "schedule.corn: unknown setting"
        # A late alert about an earlier run tells of the file, too.
        about = re.compile(rf"nightly did not come through Failed: \S*: {re.escape(sentence)}")
        until(lambda: [*filter(about.search, bodies)] or 1 / 0, 600, "the alert")
    finally:
        config.write_text(RECOVERY, encoding="utf-8")
    found = up.ask("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["nightly"]}}})
    assert [(run["state_type"], run["state"]["message"].count(sentence)) for run in found] == [("FAILED", 1)]


def test_a_run_that_its_worker_took_and_never_started_counts_as_dead(up, heard):
    bodies, _ = heard
    with up.api() as client:
        (there,) = client.read_automations_by_name("slimpajama-never-started")
        as_made = AutomationCore.model_validate(there.model_dump(mode="json", exclude={"id", "owner_resource"}))
        assert as_made.trigger.within.total_seconds() == 300
        # As little as Prefect takes.
        soon = as_made.trigger.model_copy(update={"within": timedelta(seconds=10)})
        client.update_automation(there.id, as_made.model_copy(update={"trigger": soon}))
        try:
            run = client.create_flow_run(flow(lambda: None, name="nightly"), tags=["slimpajama", "attempt-2"])
            client.set_flow_run_state(run.id, Pending(), force=True)
            (body,) = until(lambda: [body for body in bodies if str(run.id) in body] or 1 / 0, 600, "the alert")
        finally:
            client.update_automation(there.id, as_made)
    assert "Crashed: A worker took it and did not start it within 5 minutes." in body


def test_a_night_that_dies_with_its_worker_is_gone_on_with_when_there_is_one_again(up, corpus, undisturbed):
    workspace = start_night(corpus, up, "silent", RECOVERY)
    worker = up.pid("worker")
    for pid in [worker, *processes_below(worker)]:
        os.kill(pid, signal.SIGKILL)
    with (up.run / "worker-again.log").open("wb") as log:
        again = subprocess.Popen(
            [BIN / "prefect", "worker", "start", "--pool", "local"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=os.environ | up.environment() | {"SLIMPAJAMA_HOME": str(ROOT)},
            start_new_session=True,
        )
    try:
        expect_recovery(up, workspace, undisturbed, 420)
    finally:
        stop(again)
