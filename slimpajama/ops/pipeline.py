"""A whole night, step by step: the tuples of all wings, joined, and the walk through what follows a publication.

A preparation alone goes through `slimpajama.corpus.pipeline`, and so does without torch.
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any

from slimpajama.apps.pipeline import STEPS as APPLICATION_STEPS
from slimpajama.apps.tune.stage import TUNE
from slimpajama.core.config import Config
from slimpajama.corpus.index import INDEX, MERGE
from slimpajama.corpus.pipeline import STEPS as CORPUS_STEPS
from slimpajama.model.pipeline import STEPS as MODEL_STEPS
from slimpajama.ops.report.stage import REPORT
from slimpajama.workspace.step import OnNight

PIPELINE = (*CORPUS_STEPS, INDEX, MERGE, *MODEL_STEPS, *APPLICATION_STEPS, REPORT)
BY_NAME = {step.name: step for step in PIPELINE}
# Name and use of each step that works on a published night.
_ON_NIGHT = [(step.name, step.on_night) for step in PIPELINE if step.on_night]
FLOWS: dict[str, dict[str, OnNight]] = {
    flow: dict(steps) for flow, steps in groupby(_ON_NIGHT, lambda named: named[1].flow)
}
"""The flows that work on a published night, in order: name -> their steps."""


def stages(cfg: Config) -> tuple[str, ...]:
    """Return the names of all stages of a night, in order."""
    following = (name for name, _ in _ON_NIGHT if name != TUNE.name or cfg.tune.nightly)
    return *(step.name for step in CORPUS_STEPS), *following, REPORT.name


def follow(cfg: Config, run: Callable[[str, str], dict[str, Any]]) -> dict[str, Any]:
    """Walk through the flows that follow a publication.

    Args:
        run: Runs a flow on a model, by their names, and returns what each of its steps reports; without a model, the
            flow chooses.

    Returns:
        The report of each step by its name.
    """
    reports: dict[str, Any] = {}
    for flow, steps in FLOWS.items():
        uses = list(steps.values())
        if all(use.wanted(cfg, reports) for use in uses):
            # Settings may have changed between two tries of a night: then it has several models.
            reports |= run(flow, reports["train"].model if uses[0].model == "night" else "")
    return reports
