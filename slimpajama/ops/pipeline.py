"""A whole night, step by step: the tuples of all wings, joined.

A preparation alone goes through `slimpajama.corpus.pipeline`, and so does without torch.
"""

from __future__ import annotations

from slimpajama.apps.pipeline import STEPS as APPLICATION_STEPS
from slimpajama.corpus.pipeline import STEPS as CORPUS_STEPS
from slimpajama.model.pipeline import STEPS as MODEL_STEPS
from slimpajama.ops.report.stage import REPORT

PIPELINE = (*CORPUS_STEPS, *MODEL_STEPS, *APPLICATION_STEPS, REPORT)
BY_NAME = {step.name: step for step in PIPELINE}
