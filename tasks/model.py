"""The model half of a night: train, evaluate, gate, generate, tune."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from slimpajama.apps.tune.stage import TuneReport, tune
from slimpajama.core.config import Config
from slimpajama.model.evaluate.stage import EvaluateReport, evaluate
from slimpajama.model.generate.stage import GenerateReport, write_samples
from slimpajama.model.train.memory import require_memory
from slimpajama.model.train.stage import train
from slimpajama.ops.report.tuning import tuning_artifact
from tasks.observe import RETRY, workspace_of


def require_model(config: Config) -> None:
    """Refuse a model that cannot be trained here, before a night is prepared for it."""
    require_memory(config, config.tokenizer.vocab_size)


@task(name="train", task_run_name="train-{night}", cache_policy=NO_CACHE, **RETRY)
def train_task(config: Config, night: str) -> str:
    """Train the night's model from the champion before it; return its id."""
    workspace = workspace_of(config)
    report = train(workspace, config, workspace.nights.published(), night, workspace.models.champion_before(night))
    get_run_logger().info("train: %s after %d steps, bits per byte %s", report.uri, report.steps, report.bits_per_byte)
    return report.model


@task(name="evaluate", task_run_name="evaluate-{night}", cache_policy=NO_CACHE, **RETRY)
def evaluate_task(config: Config, night: str, model: str = "") -> EvaluateReport:
    """Score the night's model and the champion before it on the same held-out documents."""
    workspace = workspace_of(config)
    nights = workspace.nights.published()
    challenger = workspace.models.of_night(night, model)
    until = nights[: nights.index(night) + 1]
    report = evaluate(workspace, config, challenger, until, workspace.models.champion_before(night))
    get_run_logger().info("evaluate: %s: %s", challenger, report.reason)
    return report


@task(name="gate", task_run_name="gate-{evaluation.model}", cache_policy=NO_CACHE, **RETRY)
def gate_task(config: Config, evaluation: EvaluateReport) -> bool:
    """Make the model the champion where the evaluation says so; say whether it is carried out."""
    return evaluation.promote and workspace_of(config).models.promote_once(evaluation.model, evaluation.reason)


@task(name="generate", task_run_name="generate-{night}", cache_policy=NO_CACHE, **RETRY)
def generate_task(config: Config, night: str, model: str = "") -> GenerateReport:
    """Continue the night's prompts with its model and with the champion before it."""
    workspace = workspace_of(config)
    challenger = workspace.models.of_night(night, model)
    report = write_samples(workspace, config, night, challenger, workspace.models.champion_before(night))
    get_run_logger().info("generate: %d texts -> %s", len(report.samples), report.uri)
    return report


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
