"""A preparation by the library's stages, without Prefect: what faults are tried on.

    python library_night.py CONFIG WORKSPACE NIGHT [before|after PATH]

stops itself (SIGSTOP) before or after it changes a file whose path has PATH in it, for the first time.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from dying import arm

from slimpajama.core.config import load_config
from slimpajama.core.progress import Sink, report_to
from slimpajama.corpus.pipeline import prepare as run_steps
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.step import Context


def prepare(config, workspace, night="n1"):
    """Prepare and publish a night."""
    prepare_night(replace(load_config(Path(config)), workspace=str(workspace)), night)


def prepare_night(cfg, night):
    """Prepare and publish a night, or end its publication where that was broken off."""
    store = open_store(cfg.workspace)
    with report_to(Sink()), store.lock(f"night {night}"):
        if Nights(store).finish_publication(night, cfg) is None:
            Nights(store).publish(night, list(run_steps(Context(Workspace(store), cfg, night))), cfg)


if __name__ == "__main__":
    config, workspace, night, *point = sys.argv[1:]
    if point:
        arm(point[0], 1, point[1], lambda: os.kill(os.getpid(), signal.SIGSTOP))
    prepare(config, workspace, night)
