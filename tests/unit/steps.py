"""Steps as functions, for tests that run one of them on manifests of their own making."""

from slimpajama.core.config import Config, RunConfig
from slimpajama.corpus.clean.stage import CLEAN
from slimpajama.corpus.decontaminate import DECONTAMINATE
from slimpajama.corpus.dedup.stage import COMPARE, DEDUP
from slimpajama.corpus.ingest import INGEST
from slimpajama.corpus.passages.stage import PASSAGES
from slimpajama.corpus.pipeline import BY_NAME, prepare
from slimpajama.corpus.segment import SEGMENT
from slimpajama.corpus.shards.stage import SHARDS, TOKENIZER
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Context, Run, Step, run_step
from slimpajama.workspace.worker import run_some


def begin_step(store, name, *, work, about, manifest=""):
    """Begin a step that depends on `about` alone, in a folder of its own."""
    like = BY_NAME.get(name)
    step = Step(
        name,
        version=about.get("version", 1),
        inputs=lambda run: about,
        make=lambda run: None,
        place=lambda run: (work, manifest or f"{work}/manifest.json"),
        folders=like.folders if like else ".*",
        raw=like.raw if like and like.raw in about else "",
    )
    run = Run(step, Context(Workspace(store), Config(run=RunConfig(workers=1)), night="n"))
    run.begin()
    return run


def ingest(workspace, cfg, night, **options):
    return run_step(INGEST, Context(workspace, cfg, night), **options).result


def clean(workspace, cfg, night, raw):
    return run_step(CLEAN, Context(workspace, cfg, night), {"ingest": raw}).result


def compare(workspace, cfg, night, cleaned):
    return run_step(COMPARE, Context(workspace, cfg, night), {"clean": cleaned}).result


def decontaminate(workspace, cfg, night, cleaned, compared):
    made = {"clean": cleaned, "compare": compared}
    return run_step(DECONTAMINATE, Context(workspace, cfg, night), made).result


def find_passages(workspace, cfg, night, cleaned, compared, contaminated):
    made = {"clean": cleaned, "compare": compared, "decontaminate": contaminated}
    return run_step(PASSAGES, Context(workspace, cfg, night), made).result


def deduplicate(workspace, cfg, night, cleaned, compared, contaminated):
    made = {"clean": cleaned, "compare": compared, "decontaminate": contaminated}
    made["passages"] = find_passages(workspace, cfg, night, cleaned, compared, contaminated)
    return run_step(DEDUP, Context(workspace, cfg, night), made).result


def segment(workspace, cfg, night, documents):
    return run_step(SEGMENT, Context(workspace, cfg, night), {"dedup": documents}).result


def make_tokenizer(workspace, cfg, night, documents, words):
    made = {"dedup": documents, "segment": words}
    return run_step(TOKENIZER, Context(workspace, cfg, night), made).result


def make_shards(workspace, cfg, night, documents, words, tokenizer):
    made = {"dedup": documents, "segment": words, "tokenizer": tokenizer}
    return run_step(SHARDS, Context(workspace, cfg, night), made).result


def run_steps(workspace, cfg, night):
    return prepare(Context(workspace, cfg, night))


def run_share(workspace, cfg, night, name, keys):
    return run_some(BY_NAME[name], Context(workspace, cfg, night), keys)
