"""A training's curve, as it is made, for TensorBoard or MLflow; both by option, neither changes a weight.

A run that was killed goes on in the same place: TensorBoard drops what lies beyond the checkpoint, MLflow finds its
run by the model's name.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slimpajama.core.config import TrainConfig
from slimpajama.core.errors import ConfigError, printable
from slimpajama.core.extras import require_extra
from slimpajama.core.logs import step_log

Log = Callable[[int, Mapping[str, float]], None]
"""Takes a step and figures by name, for instance `loss/continue`."""
EXPERIMENT = "slimpajama"
# By default its client asks a server that is down for minutes, each time.
BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


@contextlib.contextmanager
def tracking(cfg: TrainConfig, name: str, settings: Mapping[str, Any]) -> Iterator[Log]:
    """Give what sends a step's figures to every tracker that `cfg` names; to none by default.

    The settings are recorded with the run, where the tracker has a place for them. A tracker that fails, at the start
    or later, is a warning: a full disk or a server that is down must not cost the night its model.

    Raises:
        ConfigError: A tracker's package is not installed.
    """
    trackers = [_tensorboard(Path(cfg.tensorboard) / name)] if cfg.tensorboard else []
    trackers += [_mlflow(cfg.mlflow, name, settings)] if cfg.mlflow else []
    logs: list[Log] = []
    with contextlib.ExitStack() as stack:
        for tracker in trackers:
            try:
                logs.append(stack.enter_context(tracker))
            except ConfigError:
                raise
            except Exception as error:
                step_log("train").warning(f"not tracked: {printable(error)}")

        def log(step: int, figures: Mapping[str, float]) -> None:
            for one in [*logs]:
                try:
                    one(step, figures)
                except Exception as error:
                    logs.remove(one)
                    step_log("train").warning(f"no longer tracked: {printable(error)}")

        yield log


@contextlib.contextmanager
def _tensorboard(folder: Path) -> Iterator[Log]:
    with require_extra("tensorboard", "tensorboard"):
        from torch.utils.tensorboard import SummaryWriter

    writers: list[Any] = []

    def log(step: int, figures: Mapping[str, float]) -> None:
        # The first step of this process: what an earlier one wrote from here on is void.
        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=step))
        for key, value in figures.items():
            writers[0].add_scalar(key, value, step)
        writers[0].flush()

    try:
        yield log
    finally:
        for writer in writers:
            with contextlib.suppress(Exception):
                writer.close()


@contextlib.contextmanager
def _mlflow(uri: str, name: str, settings: Mapping[str, Any]) -> Iterator[Log]:
    with require_extra("mlflow", "mlflow"):
        from mlflow import MlflowClient
        from mlflow.entities import Param

    for variable, value in BRIEF.items():
        os.environ.setdefault(variable, value)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    found = client.search_runs([experiment_id], filter_string=f"tags.model = '{name}'")
    run = found[0] if found else client.create_run(experiment_id, run_name=name, tags={"model": name})
    run_id = run.info.run_id
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in settings.items()])

    def log(step: int, figures: Mapping[str, float]) -> None:
        for key, value in figures.items():
            client.log_metric(run_id, key, value, step=step)

    status = "FAILED"
    try:
        yield log
        status = "FINISHED"
    finally:
        # It has been told before that the server is gone.
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, status)
