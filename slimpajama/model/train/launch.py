"""Several processes for one training: torchrun on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from pydantic import TypeAdapter

from slimpajama.core.config import Config
from slimpajama.core.errors import ModelError
from slimpajama.core.logs import step_log
from slimpajama.core.stopping import kill
from slimpajama.core.temporary import temporary_folder
from slimpajama.workspace.store import Store

WORKER = "slimpajama.model.train.worker"


def is_worker() -> bool:
    """Say whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(store: Store, cfg: Config, nights: Sequence[str], night: str, champion: str | None) -> None:
    """Train with `train.processes` processes on this machine until their last checkpoint is written.

    Raises:
        ModelError: If one of them failed; its own message is above.
    """
    job = {
        "workspace": store.uri,
        "config": TypeAdapter(Config).dump_python(cfg, mode="json"),
        "nights": list(nights),
        "night": night,
        "champion": champion,
        "launcher": os.getpid(),
    }
    with temporary_folder() as folder:
        path = folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        step_log("train").info(f"{cfg.train.processes} processes")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        worker = ["--nproc-per-node", str(cfg.train.processes), "-m", WORKER, str(path)]
        # In a session of its own: of a terminal's Ctrl-C, this process alone says what came of it.
        process = subprocess.Popen([*torchrun, *worker], stdout=sys.stderr, start_new_session=True)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            kill(process.pid)
            raise
    if code:
        raise ModelError(
            "a process of the training failed",
            where=f"train.processes {cfg.train.processes}",
            found=f"exit code {code}",
            hint="Its own message is above; the last checkpoint is kept.",
        )
