"""A whole night with lineage, metrics and JSON logs on: all three read back, and not one published byte is another."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow.parquet as pq
from prometheus_client.parser import text_string_to_metric_families
from small_corpus import arguments, published


@contextmanager
def lineage_server():
    """Yield the address of a server that takes OpenLineage events, and the list that they end up in."""
    events = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_): ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", events
        server.shutdown()


STAGES = [
    "ingest",
    "clean",
    "compare",
    "decontaminate",
    "passages",
    "dedup",
    "segment",
    "tokenizer",
    "shards",
    "index",
    "train",
    "memory",
    "evaluate",
    "gate",
    "generate",
    "report",
]


def test_an_observed_night_tells_everything_and_publishes_the_same_bytes(corpus, undisturbed, slimpajama, tmp_path):
    workspace, metrics = tmp_path / "工作区 w", tmp_path / "slimpajama.prom"
    with lineage_server() as (address, events):
        done = slimpajama(
            *arguments(corpus, workspace),
            "--set",
            f"observe.openlineage={address}",
            "--set",
            f"observe.metrics={metrics}",
            "--set",
            "observe.logs=json",
            "--json",
        )
    assert published(workspace) == undisturbed

    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert {record["stage"] for record in records} >= {*STAGES} - {"gate"}
    assert {(record["night"], record["workspace"], record["level"]) for record in records} == {
        ("n1", str(workspace), "info")
    }

    told = [(event["job"]["name"], event["eventType"]) for event in events]
    assert told == [
        ("nightly", "START"),
        *((stage, state) for stage in STAGES for state in ("START", "COMPLETE")),
        ("nightly", "COMPLETE"),
    ]
    completed = {event["job"]["name"]: event for event in events if event["eventType"] == "COMPLETE"}
    outputs = {
        stage: {one["name"].removeprefix(f"{workspace}/"): one for one in event["outputs"]}
        for stage, event in completed.items()
    }
    inputs = {
        stage: [one["name"].removeprefix(f"{workspace}/") for one in event["inputs"]]
        for stage, event in completed.items()
    }
    shards = outputs["shards"]["nights/n1/shards/train"]
    rows = sum(pq.read_metadata(file).num_rows for file in (workspace / "nights/n1/shards/train").glob("*.parquet"))
    assert shards["outputFacets"]["outputStatistics"]["rowCount"] == rows > 0
    assert "input_ids" in [one["name"] for one in shards["facets"]["schema"]["fields"]]
    assert inputs["ingest"] == [str(corpus / "raw"), str(corpus / "raw" / "notes")]
    assert inputs["shards"] == ["nights/n1/documents", "nights/n1/tokenizer", "nights/n1/work/segment"]
    assert inputs["train"] == ["nights/n1/shards/train", "nights/n1/shards/validation", "nights/n1/tokenizer"]
    assert inputs["index"] == ["nights/n1/shards/train", "nights/n1/tokenizer"]
    assert [*outputs["index"]] == ["nights/n1/index"]
    (model,) = outputs["train"]
    assert inputs["evaluate"] == [model, "nights/n1/shards/test"]

    families = text_string_to_metric_families(metrics.read_text(encoding="utf-8"))
    samples = {(s.name, s.labels.get("language"), s.labels.get("outcome")): s for f in families for s in f.samples}
    value = {key: sample.value for key, sample in samples.items()}
    summary = json.loads(done.stdout.splitlines()[-1])
    for lang in ("zh", "en"):
        assert value["slimpajama_bits_per_byte", lang, None] == summary["bits_per_byte"][lang]
    read, kept, removed = (value["slimpajama_night_documents", None, one] for one in ("read", "kept", "removed"))
    assert read == kept + removed > kept > 0
    assert value["slimpajama_run_success", None, None] == 1
    assert value["slimpajama_train_tokens_per_second", None, None] > 0
    assert {sample.labels["workspace"] for sample in samples.values()} == {str(workspace)}
