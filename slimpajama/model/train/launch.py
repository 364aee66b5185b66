"""Several processes for one training, which torchrun starts: `python -m slimpajama.model.train.launch JOB.json`.

They end with a checkpoint of the last step in the model's folder; whoever started them goes on from it, finds the
budget used and publishes. So a training that is killed with its processes is resumed as any other, by any number of
processes, and on several machines the same job is started by torchrun's own means:

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
        -m slimpajama train --config FILE.toml        # on each machine, with the workspace on S3
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from slimpajama.core.config import Config, validate
from slimpajama.core.console import console, use_json
from slimpajama.core.errors import ModelError, SlimpajamaError
from slimpajama.core.logs import log, step_log
from slimpajama.core.machine import steady_streams
from slimpajama.core.temporary import temporary_folder
from slimpajama.workspace.open import open_workspace
from slimpajama.workspace.store import Store

# What the processes run: this file.
WORKER = "slimpajama.model.train.launch"


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
        done = subprocess.run([*torchrun, *worker], stdout=sys.stderr, check=False)
    if done.returncode:
        raise ModelError(
            "a process of the training failed",
            where=f"train.processes {cfg.train.processes}",
            found=f"exit code {done.returncode}",
            hint="Its own message is above; the last checkpoint is kept.",
        )


def main(path: str) -> None:
    """Do this process's part of a job."""
    from slimpajama.model.train.stage import train_worker

    job = json.loads(Path(path).read_text(encoding="utf-8"))
    threading.Thread(target=_end_with, args=(int(job["launcher"]),), daemon=True).start()
    cfg = validate(job["config"])
    steady_streams()
    use_json(cfg.observe.logs == "json")
    with console():
        try:
            train_worker(open_workspace(job["workspace"]), cfg, job["nights"], job["night"], job["champion"])
        except SlimpajamaError as error:
            log.error(str(error))
            raise SystemExit(error.exit_code) from None


def _end_with(launcher: int) -> None:
    """End when the process that wants the result is gone: its successor must not meet us at the checkpoints."""
    while True:
        try:
            os.kill(launcher, 0)
        except OSError:
            os._exit(1)
        time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1])
