"""The applications' part of a night: tune, measure, gate."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from slimpajama.apps.tune.stage import TuneReport, tune
from slimpajama.core.config import Config
from slimpajama.ops.report.markdown import tuning
from slimpajama.workspace.open import open_store
from slimpajama.workspace.registry import require_champion
from tasks.observe import RETRY


@task(name="tune", task_run_name="tune-{night}", cache_policy=NO_CACHE, **RETRY)
def tune_task(config: Config, night: str, model: str = "") -> TuneReport:
    """Tune a model, by default the champion."""
    store = open_store(config.workspace)
    report = tune(store, config, model or require_champion(store))
    create_markdown_artifact(tuning(report.as_dict()), key="tuned", description=f"{report.model} of {store.uri}")
    for line in report.text().splitlines():
        get_run_logger().info("tune: %s", line.strip())
    return report
