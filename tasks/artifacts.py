"""The night's report as artifacts in Prefect's UI."""

from __future__ import annotations

import json

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from slimpajama.core.config import Config
from slimpajama.ops.report.markdown import pieces
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.parquet import read_verified
from tasks.observe import workspace_of

# Artifacts of one key are versions of each other, so the UI shows how nights compare.
KEY = "night"


@task(name="artifacts", task_run_name="artifacts-{night}", cache_policy=NO_CACHE)
def publish_artifacts(config: Config, night: str) -> list[str]:
    """Show a finished report in the UI: `night-verdict`, `night-funnel`, ...; return the artifacts' keys."""
    workspace = workspace_of(config)
    manifest = load_manifest(workspace.store, f"reports/{night}/manifest.json")
    entries = [entry for entry in manifest.files if entry.path.endswith("/report.json")] if manifest else []
    made = pieces(json.loads(read_verified(workspace.store, entries[0])), workspace.uri) if entries else {}
    for name, text in made.items():
        create_markdown_artifact(text, key=f"{KEY}-{name}", description=f"night {night} of {workspace.uri}")
    return [f"{KEY}-{name}" for name in made]
