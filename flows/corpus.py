"""Preparation: raw files to cleaned, deduplicated, segmented, encoded shards of one published night."""

from typing import Annotated

from pydantic import Field

from slimpajama.core.config import Config
from slimpajama.core.progress import numbered
from slimpajama.core.result import NOTHING_NEW
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
from tasks.observe import configuration, deployed, named, run_context
from tasks.share import with_workers

Start = Annotated[str, Field(json_schema_extra={"enum": ["", *NAMES]})]
"""The UI's form offers the steps as a list."""


def _verdict(manifest: Manifest | None) -> tuple[str, str]:
    if manifest is None:
        return NOTHING_NEW, "no new or changed file"
    return "Completed", f"night {manifest.depends_on['night']} is published, {len(manifest.files)} files"


@deployed("prepare-corpus", named(Nights.choose_preparation), _verdict)
def prepare_corpus(
    config: Config | None = None,
    config_file: str = "",
    overrides: tuple[str, ...] = (),
    night: str = "",
    start: Start = "",
) -> Manifest | None:
    """Turn new and changed raw files into a published night.

    Args:
        config: The whole configuration; leave it empty to read `config_file`.
        config_file: TOML file on the worker's machine, read at every run.
        overrides: Settings of the file for this run alone, each `section.key=value`; later ones win.
        night: Name of the night; empty continues an unfinished one or takes today's date.
        start: Step to begin at again, for instance dedup; empty goes on where the night stopped.

    Returns:
        The night's manifest, or None where there was nothing new to read.
    """
    config = configuration(config, config_file, overrides)
    with run_context(config, night, Nights.choose_preparation) as (config, night):
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
