"""The model's part of a night: train, evaluate, generate, and tune for the applications."""

from __future__ import annotations

from prefect import flow

from slimpajama.apps.tune.stage import TuneReport
from slimpajama.core.config import Config
from slimpajama.model.evaluate.stage import EvaluateReport
from slimpajama.model.generate.stage import GenerateReport
from slimpajama.workspace.nights import Nights
from tasks.model import evaluate_task, gate_task, generate_task, train_task, tune_task
from tasks.observe import named, run_context

CHOOSE = Nights.choose_published


@flow(name="train-model", flow_run_name=named(CHOOSE))
def train_model(config: Config | None = None, config_file: str = "", night: str = "") -> str:
    """Train the model of a published night, starting from the champion.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: A published night; empty takes the newest.

    Returns:
        The model's id.
    """
    with run_context(config, config_file, night, CHOOSE) as (config, night):
        return train_task(config, night)


@flow(name="evaluate-model", flow_run_name=named(CHOOSE))
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
    with run_context(config, config_file, night, CHOOSE) as (config, night):
        evaluation = evaluate_task(config, night, model)
        gate_task(config, evaluation)
        return evaluation


@flow(name="generate-text", flow_run_name=named(CHOOSE))
def generate_text(
    config: Config | None = None, config_file: str = "", night: str = "", model: str = ""
) -> GenerateReport:
    """Continue the prompts of `[generate]`.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: A published night; empty takes the newest.
        model: Model to ask; empty takes the newest of that night.
    """
    with run_context(config, config_file, night, CHOOSE) as (config, night):
        return generate_task(config, night, model)


@flow(name="tune-model", flow_run_name=named(CHOOSE))
def tune_model(config: Config | None = None, config_file: str = "", night: str = "", model: str = "") -> TuneReport:
    """Teach the champion the pairs of `[pairs]`, measure it on the test pairs, and let it serve what it is better at.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: A published night; empty takes the newest.
        model: Model to tune; empty takes the champion.
    """
    with run_context(config, config_file, night, CHOOSE) as (config, night):
        return tune_task(config, night, model)
