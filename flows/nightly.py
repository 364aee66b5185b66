"""The night: the preparation, what follows its publication, and the report, one after the other.

    slimpajama run --config slimpajama.toml
    prefect deployment run nightly/nightly

do the same work. Each part is a flow of its own and can be run alone.
"""

from typing import Any

from flows.corpus import Start, prepare_corpus
from flows.model import MODEL_FLOWS
from slimpajama.core.config import Config
from slimpajama.core.progress import numbered
from slimpajama.core.result import SKIPPED
from slimpajama.ops.pipeline import follow, stages
from slimpajama.ops.report.summary import NightSummary
from slimpajama.workspace.nights import Nights
from tasks.model import require_model
from tasks.observe import configuration, deployed, named, run_context, without_ui_edge
from tasks.report import nothing_new_task, publish_artifacts, report_task
from tasks.schedule import missed


@deployed("nightly", named(Nights.choose), lambda summary: (summary.outcome, summary.verdict))
def nightly(
    config: Config | None = None,
    config_file: str = "",
    overrides: tuple[str, ...] = (),
    night: str = "",
    start: Start = "",
) -> NightSummary:
    """Run one night of the whole lifecycle, or finish the one that was begun.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        overrides: Settings of the file for this run alone, each `section.key=value`; later ones win.
        night: Name of the night; empty continues an unfinished one or takes today's date.
        start: Step of the preparation to begin at again, for instance dedup; empty goes on where the night stopped.
    """
    config = configuration(config, config_file, overrides)
    if reason := missed(config):
        return NightSummary(night=night, outcome=SKIPPED, verdict=reason)
    with run_context(config, night, Nights.choose) as (config, night), numbered(stages(config)):
        require_model(config)
        corpus = prepare_corpus(config, night=night, start=start)
        if corpus is None:
            return nothing_new_task(config, night)
        reports: dict[str, Any] = {}
        # A night whose documents were all known, or too poor, has nothing to train on.
        if "shards" in corpus.counts:
            reports = follow(config, lambda flow, model: MODEL_FLOWS[flow](config, night=night, model=model))
        summary = report_task(without_ui_edge(config), night, without_ui_edge(reports))
        publish_artifacts(without_ui_edge(config), night)
        return summary
