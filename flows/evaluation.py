"""Evaluation: a model on held-out text, beside the champion, and the gate between them."""

from __future__ import annotations

from prefect import flow

from slimpajama.core.config import Config
from slimpajama.model.evaluate.stage import EvaluateReport
from slimpajama.workspace.nights import Nights
from tasks.model import evaluate_task, gate_task
from tasks.observe import named, run_context


@flow(name="evaluate-model", flow_run_name=named(Nights.choose_published))
def evaluate_model(
    config: Config | None = None, config_file: str = "", night: str = "", model: str = ""
) -> EvaluateReport:
    """Measure a model and make it the champion if it is better.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: A published night; empty takes the newest.
        model: Model to measure; empty takes the newest of that night.
    """
    with run_context(config, config_file, night, Nights.choose_published) as (config, night):
        evaluation = evaluate_task(config, night, model)
        gate_task(config, evaluation)
        return evaluation
