"""OpenLineage: what was made of what, in events that a server accepts, whatever files are called."""

from __future__ import annotations

import json
import socket
import sys
import threading
import uuid
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from openlineage.client.event_v2 import RunEvent

from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError
from slimpajama.core.schema import DOCUMENTS
from slimpajama.ops.observe import observers
from slimpajama.ops.observe.lineage import _name, run_id
from slimpajama.ops.observe.reader import PATIENCE
from slimpajama.workspace.open import Workspace


def events_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["job"]["name"], event["eventType"]) for event in events]


def names(event: dict[str, Any], side: str) -> list[str]:
    return [dataset["name"] for dataset in event.get(side, [])]


def check(event: dict[str, Any]) -> None:
    """Assert what OpenLineage demands of a run event: the client brings no schema, but classes that check."""
    assert {"eventTime", "producer", "schemaURL", "run", "job"} <= set(event)
    assert datetime.fromisoformat(event["eventTime"]).tzinfo
    assert uuid.UUID(event["run"]["runId"]).version == 5
    assert set(event["job"]) >= {"namespace", "name"}
    RunEvent(eventTime=event["eventTime"], producer=event["producer"], run=event["run"], job=event["job"])
    facets = [event["run"].get("facets", {}), event["job"].get("facets", {})]
    for dataset in event.get("inputs", []) + event.get("outputs", []):
        assert dataset["namespace"]
        assert dataset["name"]
        facets += [dataset.get("facets", {}), dataset.get("outputFacets", {})]
    for facet in (facet for some in facets for facet in some.values()):
        assert urlparse(facet["_producer"]).scheme
        assert urlparse(facet["_schemaURL"]).scheme == "https"


def test_each_stage_begins_and_completes_inside_the_night(toy: Any, tmp_path: Path):
    toy.run(openlineage=str(tmp_path / "lineage.jsonl"))
    events = events_of(tmp_path / "lineage.jsonl")
    for event in events:
        check(event)
    assert told(events) == [
        ("nightly", "START"),
        ("ingest", "START"),
        ("ingest", "COMPLETE"),
        ("segment", "START"),
        ("segment", "COMPLETE"),
        ("nightly", "COMPLETE"),
    ]
    night = events[0]["run"]["runId"]
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in events[1:-1]} == {night}
    assert toy.said == []


def test_inputs_are_what_the_stage_was_made_from_and_outputs_have_rows_and_columns(toy: Any, tmp_path: Path):
    toy.run(openlineage=f"file://{tmp_path}/lineage.jsonl")
    events = events_of(tmp_path / "lineage.jsonl")
    _, _, ingested, began, segmented, _ = events
    documents = f"{toy.store.uri}/nights/2026-01-01/documents"
    assert names(ingested, "inputs") == [str(tmp_path / toy.raw.rpartition("/")[0])]
    assert names(ingested, "outputs") == names(began, "inputs") == names(segmented, "inputs") == [documents]
    (output,) = ingested["outputs"]
    assert output["namespace"] == "file"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert [one["name"] for one in output["facets"]["schema"]["fields"]] == DOCUMENTS.names
    assert segmented["outputs"][0]["outputFacets"]["outputStatistics"]["size"] == 5


def test_run_ids_are_the_same_every_time_and_others_for_another_night():
    assert run_id("w", "n", "clean") == run_id("w", "n", "clean")
    assert len({run_id("w", "n", "clean"), run_id("w", "n", "dedup"), run_id("w", "m", "clean")}) == 3


def test_a_stage_that_breaks_fails_with_the_night_and_one_that_is_finished_is_not_told_again(toy: Any, tmp_path: Path):
    file = tmp_path / "lineage.jsonl"
    with pytest.raises(OSError, match="disk full"):
        toy.run(lambda store: toy.ingest(store, fails=True), openlineage=str(file))
    events = events_of(file)
    assert told(events)[-2:] == [("ingest", "FAIL"), ("nightly", "FAIL")]
    check(events[-1])
    assert events[-2]["run"]["facets"]["errorMessage"]["message"] == "磁盘已满 disk full \\x1b[31m\\x0a"
    toy.run(openlineage=str(file))
    toy.run(toy.ingest, openlineage=str(file))
    again = events_of(file)[len(events) :]
    assert told(again)[1:3] == [("ingest", "START"), ("ingest", "COMPLETE")]
    assert again[1]["run"]["runId"] == events[-2]["run"]["runId"]
    assert told(again)[6:] == [("nightly", "START"), ("nightly", "COMPLETE")]


def test_an_interrupted_night_is_aborted(toy: Any, tmp_path: Path):
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.run(interrupted, openlineage=str(tmp_path / "lineage.jsonl"))
    assert told(events_of(tmp_path / "lineage.jsonl"))[-1] == ("nightly", "ABORT")


def test_a_server_that_refuses_connections_costs_a_few_warnings(toy: Any, tmp_path: Path):
    with socket.socket() as taken:
        # Bound and not listening: nobody else can, so it refuses.
        taken.bind(("127.0.0.1", 0))
        toy.run(openlineage=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert len(toy.said) == PATIENCE
    assert all(line.startswith("observe       openlineage failed") for line in toy.said)
    assert "given up for this run" in toy.said[-1]
    assert toy.store.exists("nights/2026-01-01/work/segment/manifest.json")


def test_a_folder_that_is_not_there_costs_a_few_warnings(toy: Any, tmp_path: Path):
    toy.run(openlineage=str(tmp_path / "missing" / "lineage.jsonl"))
    assert len(toy.said) == PATIENCE


def test_a_server_gets_the_events(toy: Any):
    received: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        toy.run(openlineage=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert {path for path, _ in received} == {"/api/v1/lineage"}
    assert told([event for _, event in received])[-1] == ("nightly", "COMPLETE")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/数据/a", ("file", "/数据/a")),
        ("file:///data/a", ("file", "/data/a")),
        ("s3://bucket/语料/a", ("s3://bucket", "语料/a")),
    ],
)
def test_datasets_are_named_as_the_standard_names_them(uri: str, expected: tuple[str, str]):
    assert _name(uri) == expected


def test_another_protocol_is_a_wrong_setting(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"a file or http\(s\)://, got kafka://"):
        load_config(overrides=["observe.openlineage=kafka://broker/lineage"])


def test_a_missing_package_is_named_with_its_extra(toy: Any, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith(("openlineage", "slimpajama.ops.observe.lineage"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openlineage", None)
    cfg = load_config(overrides=["observe.openlineage=lineage.jsonl"])
    with pytest.raises(ConfigError, match=r"needs the extra `openlineage`"):
        observers(cfg, Workspace(toy.store), "n1", "nightly")


def test_relative_files_start_at_the_configuration_file_and_addresses_stay(tmp_path: Path):
    file = tmp_path / "slimpajama.toml"
    file.write_text('[observe]\nopenlineage = "血缘.jsonl"\nmetrics = "a/s.prom"\n', encoding="utf-8")
    observe = load_config(file).observe
    assert (observe.openlineage, observe.metrics) == (str(tmp_path / "血缘.jsonl"), str(tmp_path / "a" / "s.prom"))
    address = "http://127.0.0.1:5000"
    assert load_config(file, [f"observe.openlineage={address}"]).observe.openlineage == address
    assert load_config().observe.openlineage == load_config().observe.metrics == ""
