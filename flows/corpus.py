"""Preparation: raw files to cleaned, deduplicated, segmented, encoded shards of one published night."""

from prefect import flow

from slimpajama.core.config import Config
from slimpajama.core.progress import numbered
from slimpajama.corpus.dedup.stage import DEDUP
from slimpajama.corpus.index import INDEX
from slimpajama.corpus.ingest import INGEST
from slimpajama.corpus.pipeline import NAMES, walk
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.nights import Nights
from tasks.corpus import (
    STEP_TASKS,
    begin_at_task,
    discard_task,
    find_published_task,
    index_nights_task,
    publish_task,
    require_documents_task,
)
from tasks.observe import named, run_context
from tasks.share import with_workers


@flow(name="prepare-corpus", flow_run_name=named(Nights.choose_preparation))
def prepare_corpus(
    config: Config | None = None, config_file: str = "", night: str = "", start: str = ""
) -> Manifest | None:
    """Turn new and changed raw files into a published night.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        night: Name of the night; empty continues an unfinished one or takes today's date.
        start: Step to begin at again, for instance dedup; empty goes on where the night stopped.

    Returns:
        The night's manifest, or None where there was nothing new to read.
    """
    with run_context(config, config_file, night, Nights.choose_preparation) as (config, night):
        with with_workers(config, night), numbered([*NAMES, INDEX.name]):
            manifest = publish_night(config, night, start)
            index_nights_task(config)
        return manifest


def publish_night(config: Config, night: str, start: str) -> Manifest | None:
    """Run the steps of a preparation one after the other, and publish what they made."""
    if start:
        begin_at_task(config, night, start)
    if found := find_published_task(config, night):
        return found
    made: list[Manifest] = []
    for manifest in walk(night, lambda step, before: STEP_TASKS[step.name](config, night, before)):
        made.append(manifest)
        if manifest.name == INGEST.name and not manifest.counts["files"]:
            return discard_task(config, night)
        if manifest.name == DEDUP.name:
            require_documents_task(config, night, made)
    return publish_task(config, night, made)
