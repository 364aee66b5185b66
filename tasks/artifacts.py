"""The night's report as artifacts in Prefect's UI."""

from __future__ import annotations

import json

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from slimpajama.core.config import Config
from slimpajama.ops.report.artifacts import artifacts
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.parquet import read_verified
from tasks.observe import workspace_of

# Artifacts of one key are versions of each other, so the UI shows how nights compare.
KEY = "night"


@task(name="artifacts", task_run_name="artifacts-{night}", cache_policy=NO_CACHE)
def publish_artifacts(config: Config, night: str) -> list[str]:
    """Show a finished report in the UI: `night-verdict`, `night-funnel`, ...; return the artifacts' keys."""
    workspace = workspace_of(config)
    manifest = load_manifest(workspace.store, layout.report(night).manifest)
    entry = manifest.find("report.json") if manifest else None
    texts = artifacts(json.loads(read_verified(workspace.store, entry)), workspace.uri) if entry else {}
    for name, text in texts.items():
        create_markdown_artifact(text, key=f"{KEY}-{name}", description=f"night {night} of {workspace.uri}")
    return [f"{KEY}-{name}" for name in texts]
