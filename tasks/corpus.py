"""The corpus half of a night: a task for each step, from raw files to published shards."""

from collections.abc import Callable, Mapping

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from slimpajama.core.config import Config
from slimpajama.core.progress import stage
from slimpajama.corpus.index import INDEX, IndexReport, index_nights
from slimpajama.corpus.losses import require_documents
from slimpajama.corpus.pipeline import NAMES, STEPS
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.step import Context, Step, run_step
from tasks.observe import RETRY, report, workspace_of

# Prefect's cache is off everywhere: the library's manifests are the one way to resume.


def task_of(step: Step) -> Callable[[Config, str, Mapping[str, Manifest]], Manifest]:
    """Return the task that runs a step, given the manifests of the steps before it."""

    @task(name=step.name, task_run_name=f"{step.name}-{{night}}", cache_policy=NO_CACHE, **RETRY)
    def run(config: Config, night: str, made: Mapping[str, Manifest]) -> Manifest:
        return report(run_step(step, Context(workspace_of(config), config, night), made).result)

    return run


STEP_TASKS = {step.name: task_of(step) for step in STEPS}


@task(name="begin-at", task_run_name="begin-at-{step}", cache_policy=NO_CACHE)
def begin_at_task(config: Config, night: str, step: str) -> None:
    """Forget what was made from a step on."""
    workspace_of(config).nights.begin_at(night, step, NAMES)


@task(name="find-published", task_run_name="find-published-{night}", cache_policy=NO_CACHE)
def find_published_task(config: Config, night: str) -> Manifest | None:
    """Return the night if an earlier run published it."""
    return workspace_of(config).nights.finish_publication(night, config)


@task(name="require-documents", task_run_name="require-documents-{night}", cache_policy=NO_CACHE)
def require_documents_task(config: Config, night: str, made: list[Manifest]) -> bool:
    """Say whether the steps so far have left documents to go on with; on a workspace's first night they must."""
    workspace = workspace_of(config)
    return require_documents(workspace.store, night, made, is_first=not workspace.nights.published())


@task(name="publish", task_run_name="publish-{night}", cache_policy=NO_CACHE, **RETRY)
def publish_task(config: Config, night: str, steps: list[Manifest]) -> Manifest:
    """Write the night's manifest and add the night to the index."""
    return report(workspace_of(config).nights.publish(night, steps, config))


@task(name="index-nights", cache_policy=NO_CACHE, **RETRY)
def index_nights_task(config: Config) -> IndexReport:
    """Make the index of each published night that has none."""
    with stage(INDEX.name):
        made = index_nights(workspace_of(config), config)
    get_run_logger().info("index: %s", made.text())
    return made


@task(name="discard", task_run_name="discard-{night}", cache_policy=NO_CACHE)
def discard_task(config: Config, night: str) -> None:
    """Forget a night that found no new or changed file."""
    workspace_of(config).nights.discard(night)
