"""The corpus half of a night: one task a stage, from raw files to published shards."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from slimpajama.core.config import Config
from slimpajama.corpus.clean.stage import clean
from slimpajama.corpus.decontaminate import decontaminate
from slimpajama.corpus.dedup.stage import compare, deduplicate
from slimpajama.corpus.ingest import ingest
from slimpajama.corpus.pipeline import STAGES
from slimpajama.corpus.segment import segment
from slimpajama.corpus.shards.stage import make_shards, make_tokenizer
from slimpajama.workspace.manifest import Manifest
from tasks.observe import RETRY, report, workspace_of

# Prefect's cache is off everywhere: the library's manifests are the one way to resume.


@task(name="begin-at", task_run_name="begin-at-{stage}", cache_policy=NO_CACHE)
def begin_at_task(config: Config, night: str, stage: str) -> None:
    """Forget what was made from a stage on."""
    workspace_of(config).nights.begin_at(night, stage, tuple(STAGES))


@task(name="ingest", task_run_name="ingest-{night}", cache_policy=NO_CACHE, **RETRY)
def ingest_task(config: Config, night: str) -> Manifest:
    """Read new and changed raw files."""
    return report(ingest(workspace_of(config), config, night))


@task(name="clean", task_run_name="clean-{night}", cache_policy=NO_CACHE, **RETRY)
def clean_task(config: Config, night: str, raw: Manifest) -> Manifest:
    """Normalise text, tell its language, apply the rules."""
    return report(clean(workspace_of(config), config, night, raw))


@task(name="compare", task_run_name="compare-{night}", cache_policy=NO_CACHE, **RETRY)
def compare_task(config: Config, night: str, cleaned: Manifest) -> Manifest:
    """Find exact and near-duplicates within the night and among all earlier ones."""
    return report(compare(workspace_of(config), config, night, cleaned))


@task(name="decontaminate", task_run_name="decontaminate-{night}", cache_policy=NO_CACHE, **RETRY)
def decontaminate_task(config: Config, night: str, cleaned: Manifest, compared: Manifest) -> Manifest:
    """Name documents that overlap with evaluation files or with held-out text."""
    return report(decontaminate(workspace_of(config), config, night, cleaned, compared))


@task(name="dedup", task_run_name="dedup-{night}", cache_policy=NO_CACHE, **RETRY)
def dedup_task(config: Config, night: str, cleaned: Manifest, compared: Manifest, contaminated: Manifest) -> Manifest:
    """Write the documents without duplicates and contaminated ones."""
    return report(deduplicate(workspace_of(config), config, night, cleaned, compared, contaminated))


@task(name="segment", task_run_name="segment-{night}", cache_policy=NO_CACHE, **RETRY)
def segment_task(config: Config, night: str, documents: Manifest) -> Manifest:
    """Cut text into words and flag the ones that carry content."""
    return report(segment(workspace_of(config), config, night, documents))


@task(name="tokenizer", task_run_name="tokenizer-{night}", cache_policy=NO_CACHE, **RETRY)
def tokenizer_task(config: Config, night: str, documents: Manifest, words: Manifest) -> Manifest:
    """Keep the vocabulary of the night before, or learn the first one."""
    return report(make_tokenizer(workspace_of(config), config, night, documents, words))


@task(name="shards", task_run_name="shards-{night}", cache_policy=NO_CACHE, **RETRY)
def shards_task(config: Config, night: str, documents: Manifest, words: Manifest, tokenizer: Manifest) -> Manifest:
    """Encode, split, shuffle and write the training shards."""
    return report(make_shards(workspace_of(config), config, night, documents, words, tokenizer))


@task(name="find-published", task_run_name="find-published-{night}", cache_policy=NO_CACHE)
def find_published_task(config: Config, night: str) -> Manifest | None:
    """Return the night if an earlier run published it."""
    return workspace_of(config).nights.finish_publication(night, config)


@task(name="require-documents", task_run_name="require-documents-{night}", cache_policy=NO_CACHE)
def require_documents_task(config: Config, night: str, documents: Manifest) -> bool:
    """Say whether the night has documents to go on with; on a workspace's first night it must."""
    return workspace_of(config).nights.require_documents(night, documents)


@task(name="publish", task_run_name="publish-{night}", cache_policy=NO_CACHE, **RETRY)
def publish_task(config: Config, night: str, stages: list[Manifest]) -> Manifest:
    """Write the night's manifest and add the night to the index."""
    return report(workspace_of(config).nights.publish(night, stages, config))


@task(name="discard", task_run_name="discard-{night}", cache_policy=NO_CACHE)
def discard_task(config: Config, night: str) -> None:
    """Forget a night that found no new or changed file."""
    workspace_of(config).nights.discard(night)
