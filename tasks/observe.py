"""What flows and tasks share: the workspace, the names of runs, the retry policy, and the run's log."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import Flow, flow, get_run_logger, runtime
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import ConfigError, SlimpajamaError, StorageError
from slimpajama.core.logs import LineHandler, fields, logged_to
from slimpajama.core.progress import Bar, Live, also_to
from slimpajama.ops.observe import observers
from slimpajama.workspace.manifest import Manifest, total
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_workspace

# The most that Prefect's server returns at once.
PAGE = 200
SHOWN_EVERY_S = 5.0
P = ParamSpec("P")
T = TypeVar("T")
Choose = Callable[[Nights, str], str]
"""Takes the nights and the name asked for, which may be empty; returns the night to work on."""


@contextlib.contextmanager
def run_context(config: Config, night: str, choose: Choose) -> Iterator[tuple[Config, str]]:
    """Choose the night, and lock the workspace while the flow runs."""
    workspace, flow = workspace_of(config), runtime.flow_run.flow_name
    with contextlib.ExitStack() as stack:
        # It may wait for a lease, and says so.
        with logged_to(RunLog()):
            stack.enter_context(workspace.store.lock(f"{flow} {runtime.flow_run.name}"))
        night = choose(workspace.nights, night)
        shown = Live(show_progress(), SHOWN_EVERY_S)
        watching = observers(config, workspace, night, flow)
        with also_to(RunLog(), shown, *watching, workspace=workspace.uri, night=night):
            yield config, night


class RunLog(LineHandler):
    """Sends messages to Prefect's log of the flow run, the fields beside them as `extra`."""

    def __init__(self) -> None:
        # Taken once: a step's threads know of no run.
        self.logger = get_run_logger()
        # Prefect chooses what it keeps: PREFECT_LOGGING_LEVEL.
        super().__init__(self.logger.info, level=logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        self.logger.log(record.levelno, "%s", self.format(record), extra=fields(record))


def show_progress() -> Callable[[Bar], None]:
    """Return a function that shows a running step as a progress artifact of its task."""
    # It holds the bar, so that no other bar gets the same id.
    made: dict[int, tuple[Bar, UUID]] = {}

    def show(bar: Bar) -> None:
        percent = min(100.0, 100 * bar.done / bar.total) if bar.total else 0.0
        # If the server does not answer, a line on a page is missing; the night goes on.
        with contextlib.suppress(Exception):
            if found := made.get(id(bar)):
                update_progress_artifact(found[1], percent, bar.describe())
            else:
                artifact = create_progress_artifact(percent, f"progress-{bar.name}", bar.describe())
                made[id(bar)] = bar, cast(UUID, artifact)

    return show


def without_ui_edge(value: T) -> T:
    """Wrap a subflow's result, so that Prefect draws no line from the subflow to the task that takes it.

    If a task depends on a subflow, the classic UI shows none of the flow's task runs. Prefect unwraps the value.
    """
    return cast(T, quote(value))


@functools.cache
def _opened(uri: str) -> Workspace:
    return open_workspace(uri)


def workspace_of(config: Config) -> Workspace:
    """Return the configuration's workspace, opened once a process; every worker of a cluster opens its own."""
    return _opened(config.workspace)


def configuration(config: Config | None, config_file: str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that a flow was given, or read its file: at every run, so that an edit counts.

    Raises:
        ConfigError: A setting is wrong, or there are overrides of a configuration that is given whole.
    """
    if config and overrides:
        raise ConfigError("overrides are of a file", where="overrides", hint="Leave config empty, or write them there.")
    return config or load_config(config_file or None, [*overrides])


def deployed(
    name: str, run_name: Callable[[], str], verdict: Callable[[Any], tuple[str, str]]
) -> Callable[[Callable[P, T]], Flow[P, T]]:
    """Return what makes a function a flow whose last state says what came of it, in words.

    An error that the user can act on ends the run as failed with the error's own sentence; it is raised where the flow
    was called.

    Args:
        verdict: Takes what the function returned; returns name and message of the state. `infra/local/automations.yaml`
            lists the names.
    """

    def made(function: Callable[P, T]) -> Flow[P, T]:
        @flow(name=name, flow_run_name=run_name)
        @functools.wraps(function)
        def run(*args: P.args, **given: P.kwargs) -> Any:
            try:
                result = function(*args, **given)
            except SlimpajamaError as error:
                return Failed(message=str(error), data=error)
            state, message = verdict(result)
            return Completed(name=state, message=message or None, data=result)

        return cast(Flow[P, T], run)

    return made


def named(choose: Choose | None = None) -> Callable[[], str]:
    """Return a function that names runs by flow, workspace and night, for example `nightly-corpus-2026-11-23`.

    Args:
        choose: Chooses the night; None for a flow that has none.
    """

    def name() -> str:
        given = runtime.flow_run.parameters
        parts = [runtime.flow_run.flow_name]
        # A setting is wrong, or no night is published yet: the flow reports that itself, where it ends as failed.
        with contextlib.suppress(SlimpajamaError):
            config = configuration(given.get("config"), given.get("config_file", ""), given.get("overrides", ()))
            parts.append(config.workspace.rstrip("/").rsplit("/", 1)[-1])
            if choose:
                parts.append(choose(workspace_of(config).nights, given.get("night", "")))
        return "-".join(parts)

    return name


def may_pass(task: Any, run: Any, state: Any) -> bool:
    """Retry what may succeed the second time: a store that did not answer, not a wrong setting or a defect."""
    return isinstance(state.result(raise_on_failure=False), StorageError | OSError)


RETRY: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [5, 60], "retry_condition_fn": may_pass}


def report(manifest: Manifest) -> Manifest:
    """Log what a step wrote, and return its manifest."""
    size = sum(entry.bytes for entry in manifest.files)
    # A night's counts are those of its steps, told before.
    own = {} if manifest.name == "night" else manifest.counts
    counts = "".join(f", {name} {total(value):,}" for name, value in own.items())
    get_run_logger().info("%s: %d files, %.1f MB%s", manifest.name, len(manifest.files), size / 1e6, counts)
    return manifest
