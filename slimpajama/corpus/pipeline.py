"""The steps of a preparation, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from slimpajama.corpus.clean.stage import CLEAN
from slimpajama.corpus.decontaminate import DECONTAMINATE
from slimpajama.corpus.dedup.stage import COMPARE, DEDUP
from slimpajama.corpus.ingest import INGEST
from slimpajama.corpus.segment import SEGMENT
from slimpajama.corpus.shards.stage import SHARDS, TOKENIZER
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.step import Context, run_step

STEPS = (INGEST, CLEAN, COMPARE, DECONTAMINATE, DEDUP, SEGMENT, TOKENIZER, SHARDS)
BY_NAME = {step.name: step for step in STEPS}
NAMES = tuple(BY_NAME)


def prepare(context: Context, **options: Any) -> Iterator[Manifest]:
    """Run a preparation's steps in this process, as the flow `prepare-corpus` does; `options` are of the first one.

    Yields:
        The manifest of each step; deduplication's is the last where it leaves no document.
    """
    made: dict[str, Manifest] = {}
    for step in STEPS:
        made[step.name] = run_step(step, context, made, **options if step is INGEST else {}).result
        yield made[step.name]
        if step is DEDUP and not made[step.name].entries(layout.night(context.night).documents):
            return
