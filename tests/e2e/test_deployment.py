"""`make up`, a deployment run, `make down`: what a user does, with the real server and a real worker."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from servers import free_ports

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def command(*arguments, timeout=300, **environment):
    done = subprocess.run(
        [*map(str, arguments)], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
        timeout=timeout, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def up(corpus, tmp_path_factory):
    """The whole installation on a port and in a folder of its own."""
    (port,) = free_ports(1)
    run = tmp_path_factory.mktemp("run")
    settings = {"BIN": str(BIN), "PORT": str(port), "CONFIG": str(corpus / "config.toml"), "RUN": str(run)}
    said = command("sh", "infra/local/up.sh", **settings)
    pids = [int((run / f"{name}.pid").read_text()) for name in ("server", "worker")]
    yield said, f"http://127.0.0.1:{port}/api"
    command("sh", "infra/local/down.sh", **settings)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def post(api, path, body):
    request = urllib.request.Request(f"{api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_up_says_where_everything_is(up):
    said, api = up
    assert api.removesuffix("/api") in said
    assert "make down" in said


def test_every_deployment_is_there_and_the_night_is_scheduled(up):
    _, api = up
    found = {d["name"]: d for d in post(api, "/deployments/filter", {})}
    names = {"nightly", "prepare-corpus", "train-model", "evaluate-model", "generate-text", "clean-up"}
    assert set(found) == names
    assert [s["schedule"]["cron"] for s in found["nightly"]["schedules"]] == ["0 2 * * *"]


def test_the_ui_shows_parameters_as_forms_with_descriptions(up):
    _, api = up
    (nightly,) = post(api, "/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})
    schema = nightly["parameter_openapi_schema"]
    assert set(schema["properties"]) == {"config", "config_file", "night"}
    assert schema["definitions"]["DedupConfig"]["properties"]["threshold"]["description"].startswith("Exact Jaccard")


def test_a_deployment_run_does_a_whole_night_and_its_artifacts_tell_the_story(up, corpus):
    _, api = up
    command(BIN / "prefect", "deployment", "run", "nightly/nightly", "--watch", PREFECT_API_URL=api)
    (index,) = (corpus / "workspace").glob("nights/index.json")
    (night,) = json.loads(index.read_text())["nights"]
    assert (corpus / "workspace" / "reports" / night / "report.html").exists()
    runs = {run["name"]: run["state"]["type"] for run in post(api, "/flow_runs/filter", {})}
    assert runs[f"nightly-workspace-{night}"] == "COMPLETED"
    for part in ("prepare-corpus", "train-model", "evaluate-model", "generate-text"):
        assert runs[f"{part}-workspace-{night}"] == "COMPLETED"
    keys = {artifact["key"] for artifact in post(api, "/artifacts/filter", {})}
    assert {"verdict", "funnel", "samples", "training", "flow"} <= {key.removeprefix("night-") for key in keys if key}
