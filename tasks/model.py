"""What follows a publication: a task for each step that works on a published night."""

from collections.abc import Callable

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from slimpajama.core.config import Config
from slimpajama.core.progress import stage
from slimpajama.core.result import Result
from slimpajama.model.train.memory import require_memory
from slimpajama.ops.pipeline import FLOWS
from slimpajama.ops.report.tuning import tuning_artifact, tuning_finding
from slimpajama.workspace.step import Context, OnNight
from tasks.observe import RETRY, workspace_of

# What the UI shows of a step's report, below its key.
ARTIFACTS = {"tune": ("tuned", tuning_artifact, tuning_finding)}


def require_model(config: Config) -> None:
    """Refuse a model that cannot be trained here, before a night is prepared for it."""
    require_memory(config, config.tokenizer.vocab_size)


def task_of(name: str, use: OnNight) -> Callable[[Config, str, str], Result]:
    """Return the task that runs a step on a published night; without a model, the step chooses."""

    @task(name=name, task_run_name=f"{name}-{{night}}", cache_policy=NO_CACHE, **RETRY)
    def run(config: Config, night: str, model: str = "") -> Result:
        with stage(name):
            report = use.start(Context(workspace_of(config), config, night), model)
        for line in report.text().splitlines():
            get_run_logger().info("%s: %s", name, line.strip())
        if name in ARTIFACTS:
            key, markdown, finding = ARTIFACTS[name]
            create_markdown_artifact(markdown(report.as_dict()), key=key, description=finding(report.as_dict()))
        return report

    return run


STEP_TASKS = {name: task_of(name, use) for steps in FLOWS.values() for name, use in steps.items()}
