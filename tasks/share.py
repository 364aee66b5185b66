"""Units of stages on a cluster's workers: Dask's or Ray's, by one setting."""

import contextlib
from collections.abc import Iterator
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed

from slimpajama.core.config import Config
from slimpajama.core.extras import require_extra
from slimpajama.corpus.pipeline import BY_NAME
from slimpajama.workspace.claims import use_executor
from slimpajama.workspace.step import Context
from slimpajama.workspace.worker import run_some
from tasks.observe import RETRY, workspace_of

# A worker and stage: small enough to even out, large enough that entering the stage costs little.
SHARES = 4


@task(name="share", task_run_name="{stage}-share-{number}", cache_policy=NO_CACHE, **RETRY)
def share_task(config: Config, night: str, stage: str, keys: list[str], number: int) -> None:
    """Make some units of a stage on a worker; made twice, they are the same."""
    run_some(BY_NAME[stage], Context(workspace_of(config), config, night), keys)


@contextlib.contextmanager
def with_workers(config: Config, night: str) -> Iterator[None]:
    """Let the cluster's workers make units of the stages in the block, where the configuration names a cluster."""
    if config.run.engine == "threads":
        yield
        return
    with _runner(config) as runner:

        def others(stage: str, keys: list[str]) -> Iterator[list[str]]:
            count = min(len(keys), max(1, SHARES * _slots(config, runner)))
            shares = [keys[number::count] for number in range(count)]
            sent = {
                runner.submit(share_task, {"config": config, "night": night, "stage": stage, "keys": s, "number": n}): s
                for n, s in enumerate(shares)
            }
            for future in as_completed(list(sent)):
                future.wait()
                if future.state.is_completed():
                    yield sent[future]
                else:
                    get_run_logger().warning("%s: a share failed and is made here: %s", stage, future.state.message)

        with use_executor(others):
            yield


def _runner(config: Config) -> Any:
    """Return the task runner of the cluster; entered without an address, it starts a cluster on this machine."""
    address, workers = config.run.address, config.run.threads()
    if config.run.engine == "dask":
        with require_extra("dask", "prefect_dask"):
            from prefect_dask import DaskTaskRunner
        own = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": "CRITICAL"}
        return DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=own)
    with require_extra("ray", "prefect_ray"):
        from prefect_ray import RayTaskRunner
    own = {"num_cpus": workers, "include_dashboard": False}
    return RayTaskRunner(address=address) if address else RayTaskRunner(init_kwargs=own)


def _slots(config: Config, runner: Any) -> int:
    """Return how many units the cluster makes at a time."""
    if config.run.engine == "dask":
        return int(sum(runner.client.ncores().values()))
    import ray

    return int(dict(ray.cluster_resources()).get("CPU", 1))
