"""One of the processes that torchrun starts for `train.processes`: `python -m slimpajama.model.train.worker JOB.json`.

They end with a checkpoint of the last step in the model's folder; whoever started them goes on from it, finds the
budget used and publishes. So a training that is killed with its processes is resumed as any other, by any number of
processes, and on several machines the same job is started by torchrun's own means:

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \
        -m slimpajama train --config FILE.toml        # on each machine, with the workspace on S3
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from slimpajama.core.stopping import LOOKS_EVERY_S


def main(path: str) -> None:
    """Do this process's part of a job."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    # Before all else, since the imports below take seconds.
    threading.Thread(target=_end_with, args=(int(job["launcher"]),), daemon=True).start()
    from slimpajama.core.config import validate
    from slimpajama.core.console import console, use_json
    from slimpajama.core.errors import SlimpajamaError
    from slimpajama.core.logs import log
    from slimpajama.core.machine import steady_streams
    from slimpajama.model.train.stage import train_worker
    from slimpajama.workspace.open import open_workspace

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
    """End with torchrun and with the process that wants the result: its successor must not meet us at checkpoints."""
    parent = os.getppid()
    with contextlib.suppress(OSError):
        while os.getppid() == parent:
            os.kill(launcher, 0)
            time.sleep(LOOKS_EVERY_S)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
