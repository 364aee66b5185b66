"""Preparation: raw files to cleaned, deduplicated, segmented, encoded shards of one published night."""

from __future__ import annotations

from prefect import flow

from slimpajama.core.config import Config
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.nights import Nights
from tasks.corpus import (
    begin_at_task,
    clean_task,
    compare_task,
    decontaminate_task,
    dedup_task,
    discard_task,
    find_published_task,
    ingest_task,
    publish_task,
    require_documents_task,
    segment_task,
    shards_task,
    tokenizer_task,
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
        start: Stage to begin at again, for instance dedup; empty goes on where the night stopped.

    Returns:
        The night's manifest, or None where there was nothing new to read.
    """
    with (
        run_context(config, config_file, night, Nights.choose_preparation) as (config, night),
        with_workers(config, night),
    ):
        if start:
            begin_at_task(config, night, start)
        if found := find_published_task(config, night):
            return found
        raw = ingest_task(config, night)
        if not raw.counts["files"]:
            return discard_task(config, night)
        cleaned = clean_task(config, night, raw)
        compared = compare_task(config, night, cleaned)
        contaminated = decontaminate_task(config, night, cleaned, compared)
        documents = dedup_task(config, night, cleaned, compared, contaminated)
        made = [raw, cleaned, compared, contaminated, documents]
        if not require_documents_task(config, night, documents):
            return publish_task(config, night, made)
        words = segment_task(config, night, documents)
        tokenizer = tokenizer_task(config, night, documents, words)
        shards = shards_task(config, night, documents, words, tokenizer)
        return publish_task(config, night, [*made, words, tokenizer, shards])
