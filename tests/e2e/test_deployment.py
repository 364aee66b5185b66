"""`make up`, a deployment run, `make down`: what a user does, with the real server and a real worker."""

import json

import pytest
from servers import BIN, command, installation, post


@pytest.fixture(scope="module")
def up(corpus, tmp_path_factory):
    """The whole installation: what `make up` said, and where its API is."""
    with installation(corpus / "config.toml", tmp_path_factory.mktemp("run")) as (said, api, _):
        yield said, api


def test_up_says_where_everything_is(up):
    said, api = up
    assert api.removesuffix("/api") in said
    assert "make down" in said


def test_every_deployment_is_there_and_the_night_is_scheduled(up):
    _, api = up
    found = {d["name"]: d for d in post(api, "/deployments/filter", {})}
    names = {
        "nightly",
        "prepare-corpus",
        "train-model",
        "evaluate-model",
        "generate-text",
        "tune-model",
        "clean-up",
        "recover",
    }
    assert set(found) == names
    assert [s["schedule"]["cron"] for s in found["nightly"]["schedules"]] == ["0 2 * * *"]


def test_the_ui_shows_parameters_as_forms_with_descriptions(up):
    _, api = up
    (nightly,) = post(api, "/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})
    schema = nightly["parameter_openapi_schema"]
    assert set(schema["properties"]) == {"config", "config_file", "night", "start"}
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
