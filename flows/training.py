"""Training: a night's shards, and a share of earlier ones, to a published model."""

from __future__ import annotations

from prefect import flow

from slimpajama.core.config import Config
from slimpajama.workspace.nights import Nights
from tasks.model import train_task
from tasks.observe import named, run_context


@flow(name="train-model", flow_run_name=named(Nights.choose_published))
def train_model(config: Config | None = None, config_file: str = "", night: str = "") -> str:
    """Train the model of a published night, starting from the champion.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: A published night; empty takes the newest.

    Returns:
        The model's id.
    """
    with run_context(config, config_file, night, Nights.choose_published) as (config, night):
        return train_task(config, night)
