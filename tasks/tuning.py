"""The applications' part of a night: tune, measure, gate."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from slimpajama.apps.tune.stage import TuneReport, tune
from slimpajama.core.config import Config
from slimpajama.ops.report.artifacts import tuning_artifact
from tasks.observe import RETRY, workspace_of


@task(name="tune", task_run_name="tune-{night}", cache_policy=NO_CACHE, **RETRY)
def tune_task(config: Config, night: str, model: str = "") -> TuneReport:
    """Tune a model, by default the champion."""
    workspace = workspace_of(config)
    report = tune(workspace, config, model or workspace.models.require_champion())
    text = tuning_artifact(report.as_dict())
    create_markdown_artifact(text, key="tuned", description=f"{report.model} of {workspace.uri}")
    for line in report.text().splitlines():
        get_run_logger().info("tune: %s", line.strip())
    return report
