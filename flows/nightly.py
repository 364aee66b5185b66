"""The night: prepare -> train -> evaluate -> generate -> tune where it is wanted -> report, one after the other.

    slimpajama run --config slimpajama.toml
    prefect deployment run nightly/nightly

do the same work. Each part is a flow of its own and can be run alone.
"""

from __future__ import annotations

from prefect import flow

from flows.corpus import prepare_corpus
from flows.model import evaluate_model, generate_text, train_model, tune_model
from slimpajama.core.config import Config
from slimpajama.ops.report.summary import NightSummary
from slimpajama.workspace.nights import Nights
from tasks.model import require_model
from tasks.observe import named, run_context, without_ui_edge
from tasks.report import nothing_new_task, publish_artifacts, report_task


@flow(name="nightly", flow_run_name=named(Nights.choose))
def nightly(config: Config | None = None, config_file: str = "", night: str = "", start: str = "") -> NightSummary:
    """Run one night of the whole lifecycle, or finish the one that was begun.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: Name of the night; empty continues an unfinished one or takes today's date.
        start: Stage of the preparation to begin at again, for instance dedup; empty goes on where the night stopped.
    """
    with run_context(config, config_file, night, Nights.choose) as (config, night):
        require_model(config)
        corpus = prepare_corpus(config, night=night, start=start)
        if corpus is None:
            return nothing_new_task(config, night)
        evaluation = samples = tuning = None
        if "shards" in corpus.counts:
            model = train_model(config, night=night)
            evaluation = evaluate_model(config, night=night, model=model)
            samples = generate_text(config, night=night, model=model)
            if config.tune.nightly:
                tuning = tune_model(config, night=night)
        summary = report_task(
            without_ui_edge(config),
            night,
            without_ui_edge(evaluation),
            without_ui_edge(samples),
            without_ui_edge(tuning),
        )
        publish_artifacts(without_ui_edge(config), night)
        return summary
