"""The end of a night: the report, its artifacts in the UI, and the summary."""

from dataclasses import replace
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from slimpajama.core.config import Config
from slimpajama.ops.report.artifacts import artifacts, descriptions
from slimpajama.ops.report.stage import write_report
from slimpajama.ops.report.summary import NightSummary, nothing_new, summarise_night
from slimpajama.workspace import layout
from slimpajama.workspace.parquet import published_json
from tasks.observe import RETRY, workspace_of

# Artifacts of one key are versions of each other, so the UI shows how nights compare.
KEY = "night"


@task(name="report", task_run_name="report-{night}", cache_policy=NO_CACHE, **RETRY)
def report_task(config: Config, night: str, reports: dict[str, Any]) -> NightSummary:
    """Write the night's report, which is what makes the night finished; `reports` are of the steps before, by name."""
    workspace = workspace_of(config)
    write_report(workspace, night, *(reports[name].model if name in reports else "" for name in ("train", "tune")))
    summary = summarise_night(workspace.uri, night, workspace.models.champion(), reports)
    found = published_json(workspace.store, layout.report(night).manifest, "report.json") or {}
    place = f"{workspace.uri}/{workspace.store.name(layout.report(night).page)}"
    return replace(summary, report=place, problems=[one["text"] for one in found.get("problems", [])])


@task(name="nothing-new", task_run_name="nothing-new-{night}", cache_policy=NO_CACHE)
def nothing_new_task(config: Config, night: str) -> NightSummary:
    """Say that there was nothing to do."""
    return nothing_new(night, workspace_of(config).models.champion())


@task(name="artifacts", task_run_name="artifacts-{night}", cache_policy=NO_CACHE)
def publish_artifacts(config: Config, night: str) -> list[str]:
    """Show a finished report in the UI: `night-verdict`, `night-funnel`, ...; return the artifacts' keys."""
    workspace = workspace_of(config)
    report = published_json(workspace.store, layout.report(night).manifest, "report.json")
    texts = artifacts(report, workspace.uri, workspace.store.name) if report else {}
    described = descriptions(report) if report else {}
    for name, text in texts.items():
        create_markdown_artifact(text, key=f"{KEY}-{name}", description=described[name])
    return [f"{KEY}-{name}" for name in texts]
