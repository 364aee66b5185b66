"""What follows a publication: train, evaluate and gate, generate, and tune for the applications."""

from collections.abc import Callable
from typing import Any

from slimpajama.core.config import Config
from slimpajama.core.progress import numbered
from slimpajama.ops.pipeline import FLOWS
from slimpajama.ops.report.summary import outcome
from slimpajama.workspace.nights import Nights
from tasks.model import STEP_TASKS
from tasks.observe import configuration, deployed, named, run_context

CHOOSE = Nights.choose_published


def _verdict(reports: dict[str, Any]) -> tuple[str, str]:
    if decided := reports.get("evaluate"):
        return outcome(decided), decided.reason
    return "Completed", ""


def flow_of(name: str) -> Callable[..., dict[str, Any]]:
    """Return the flow that runs some steps on a published night."""

    @deployed(name, named(CHOOSE), _verdict)
    def run(
        config: Config | None = None,
        config_file: str = "",
        overrides: tuple[str, ...] = (),
        night: str = "",
        model: str = "",
    ) -> dict[str, Any]:
        """Work on a published night.

        Args:
            config: The whole configuration; leave it empty to read `config_file`.
            config_file: TOML file on the worker's machine, read at every run.
            overrides: Settings of the file for this run alone, each `section.key=value`; later ones win.
            night: A published night; empty takes the newest.
            model: The model to measure, or to ask; empty takes that of the night. For a training or a tuning, the
                model to start from; empty takes the champion.

        Returns:
            The report of each step by its name.
        """
        config = configuration(config, config_file, overrides)
        with run_context(config, night, CHOOSE) as (config, night), numbered(list(FLOWS[name])):
            return {step: STEP_TASKS[step](config, night, model) for step in FLOWS[name]}

    return run


MODEL_FLOWS = {name: flow_of(name) for name in FLOWS}
# What `prefect.yaml` deploys.
train_model, evaluate_model = MODEL_FLOWS["train-model"], MODEL_FLOWS["evaluate-model"]
generate_text, tune_model = MODEL_FLOWS["generate-text"], MODEL_FLOWS["tune-model"]
