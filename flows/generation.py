"""Generation: the night's prompts, continued by the new model and by the champion."""

from __future__ import annotations

from prefect import flow

from slimpajama.core.config import Config
from slimpajama.model.generate.stage import GenerateReport
from slimpajama.workspace.nights import Nights
from tasks.model import generate_task
from tasks.observe import named, run_context


@flow(name="generate-text", flow_run_name=named(Nights.choose_published))
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
    with run_context(config, config_file, night, Nights.choose_published) as (config, night):
        return generate_task(config, night, model)
