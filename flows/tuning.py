"""Tuning: the champion and pairs to a model that summarises, translates and answers."""

from __future__ import annotations

from prefect import flow

from slimpajama.apps.tune.stage import TuneReport
from slimpajama.core.config import Config
from slimpajama.workspace.nights import Nights
from tasks.observe import named, run_context
from tasks.tuning import tune_task


@flow(name="tune-model", flow_run_name=named(Nights.choose_published))
def tune_model(config: Config | None = None, config_file: str = "", night: str = "", model: str = "") -> TuneReport:
    """Teach the champion the pairs of `[pairs]`, measure it on the test pairs, and let it serve what it is better at.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: A published night; empty takes the newest.
        model: Model to tune; empty takes the champion.
    """
    with run_context(config, config_file, night, Nights.choose_published) as (config, night):
        return tune_task(config, night, model)
