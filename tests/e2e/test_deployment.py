"""`make up`, a deployment run, `make down`: what a user does, with the real server and a real worker."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium
from servers import ROOT, Installation, installation

sys.path.append(str(ROOT))

from benchmarks.attacks import pages


@pytest.fixture(scope="module")
def up(corpus, tmp_path_factory):
    """The whole installation."""
    with installation(corpus / "config.toml", tmp_path_factory.mktemp("root")) as it:
        yield it


def test_up_says_where_everything_is_and_shows_the_password_to_nobody_else(up):
    assert up.origin in up.said
    assert "make down" in up.said
    file = up.root / "prefect.toml"
    assert str(file) in up.said
    assert file.stat().st_mode & 0o777 == 0o600
    _, password = up.client["auth_string"].split(":")
    assert len(password) > 40
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [command for command in commands if password.encode() in command]


def test_up_refuses_a_port_that_another_program_has(tmp_path, corpus):
    """Our worker would do what that program says."""
    it = Installation(tmp_path, corpus / "config.toml")
    with socket.create_server(("127.0.0.1", it.port)):
        done = subprocess.run(
            ["sh", "infra/local/up.sh"],
            cwd=it.root,
            env=os.environ | it.settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"another program listens on port {it.port}" in done.stderr
    assert not (tmp_path / "prefect.toml").exists()


def test_every_deployment_is_there_and_the_night_is_scheduled(up):
    found = {d["name"]: d for d in up.ask("/deployments/filter", {})}
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


@pytest.mark.parametrize("variable", ["command=touch /tmp/x", "env.PYTHONPATH=/tmp", "working_dir=/tmp"])
def test_a_run_brings_no_command_environment_or_folder_of_its_own(up, variable):
    with pytest.raises(AssertionError, match="Additional"):
        up.prefect("deployment", "run", "generate-text/generate-text", "--job-variable", variable)


@pytest.mark.skipif(not chromium(), reason="no Chromium or Chrome is installed: apt-get install chromium")
def test_a_page_of_another_origin_reads_and_starts_nothing(up, tmp_path):
    (deployment,) = up.ask("/deployments/filter", {"deployments": {"name": {"any_": ["generate-text"]}}})
    target = pages.prefect_target("make up", up.origin, up.ask, deployment["id"], str(tmp_path / "trace"))
    with pages.visitor() as context, pages.site() as elsewhere:
        assert pages.visit(context, target, elsewhere, pages.every_try()) == []


@pytest.mark.skipif(not chromium(), reason="no Chromium or Chrome is installed: apt-get install chromium")
def test_the_ui_asks_for_the_password_and_then_shows_the_deployments(up):
    with pages.visitor() as context:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{up.origin}/deployments")
        page.locator("input[type=password]").fill(up.client["auth_string"])
        page.keyboard.press("Enter")
        page.get_by_text("prepare-corpus").first.wait_for()


def test_the_ui_shows_parameters_as_forms_with_descriptions(up):
    (nightly,) = up.ask("/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})
    schema = nightly["parameter_openapi_schema"]
    assert set(schema["properties"]) == {"config", "config_file", "overrides", "night", "start"}
    assert schema["properties"]["start"]["enum"][:3] == ["", "ingest", "clean"]
    assert schema["definitions"]["DedupConfig"]["properties"]["threshold"]["description"].startswith("Exact Jaccard")


def test_a_deployment_run_does_a_whole_night_and_its_artifacts_tell_the_story(up, corpus):
    up.prefect("deployment", "run", "nightly/nightly", "--watch", "--param", 'overrides=["generate.max_tokens=7"]')
    (index,) = (corpus / "workspace").glob("nights/index.json")
    (night,) = json.loads(index.read_text())["nights"]
    assert (corpus / "workspace" / "reports" / night / "report.html").exists()
    states = {run["name"]: run["state"] for run in up.ask("/flow_runs/filter", {})}
    for part in ("prepare-corpus", "train-model", "evaluate-model", "generate-text"):
        assert states[f"{part}-workspace-{night}"]["type"] == "COMPLETED"
    verdict = states[f"nightly-workspace-{night}"]
    assert (verdict["type"], verdict["name"]) == ("COMPLETED", "New champion")
    assert verdict["message"] == states[f"evaluate-model-workspace-{night}"]["message"] == "There was no champion yet."
    shown = {one["key"]: one["description"] for one in up.ask("/artifacts/filter", {}) if one["key"]}
    assert {f"night-{name}" for name in ("verdict", "funnel", "samples", "training", "flow")} <= set(shown)
    assert "documents kept" in shown["night-funnel"]
    settings = json.loads((corpus / "workspace" / "reports" / night / "report.json").read_text())["settings"]
    assert settings["generate"]["max_tokens"] == 7
