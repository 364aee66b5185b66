"""The steps of a preparation, in order."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from slimpajama.corpus.clean.stage import CLEAN
from slimpajama.corpus.decontaminate import DECONTAMINATE
from slimpajama.corpus.dedup.stage import COMPARE, DEDUP
from slimpajama.corpus.ingest import INGEST
from slimpajama.corpus.passages.stage import PASSAGES
from slimpajama.corpus.segment import SEGMENT
from slimpajama.corpus.shards.stage import SHARDS, TOKENIZER
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.step import Context, Step, run_step

STEPS = (INGEST, CLEAN, COMPARE, DECONTAMINATE, PASSAGES, DEDUP, SEGMENT, TOKENIZER, SHARDS)
BY_NAME = {step.name: step for step in STEPS}
NAMES = tuple(BY_NAME)


def walk(night: str, run: Callable[[Step, Mapping[str, Manifest]], Manifest]) -> Iterator[Manifest]:
    """Yield the manifest of each step of a preparation; deduplication's is the last where it leaves no document.

    `run` runs a step, given the manifests that it takes.
    """
    made: dict[str, Manifest] = {}
    for step in STEPS:
        made[step.name] = run(step, {name: made[name] for name in step.before()})
        yield made[step.name]
        if step is DEDUP and not made[step.name].entries(layout.night(night).documents):
            return


def prepare(context: Context, **options: Any) -> Iterator[Manifest]:
    """Run a preparation's steps in this process, without Prefect; `options` are of the first one."""

    def run(step: Step, before: Mapping[str, Manifest]) -> Manifest:
        return run_step(step, context, before, **options if step is INGEST else {}).result

    return walk(context.night, run)
