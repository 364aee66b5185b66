"""What flows and tasks share: the workspace they hold, their names, the retry policy, and the run's log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from prefect import get_run_logger, runtime

from slimpajama.config import Config, load_config
from slimpajama.errors import StorageError
from slimpajama.manifest import Manifest
from slimpajama.night import choose_night, choose_published
from slimpajama.progress import also_to, lines
from slimpajama.storage import open_store

__all__ = ["RETRY", "report", "run_name", "tonight"]


@contextlib.contextmanager
def tonight(
    config: Config | None, config_file: str, night: str, *, published: bool = False
) -> Iterator[tuple[Config, str]]:
    """Settle the configuration and the night's name, and hold the workspace while the flow runs.

    Args:
        config: Used as it is where it is given.
        config_file: Read otherwise, at every run, so that an edit counts from the next night on.
        night: Name of the night; empty continues an unfinished one or takes today's date.
        published: The flow works on a published night; empty takes the newest.
    """
    config = config or load_config(config_file or None)
    store = open_store(config.workspace)
    choose = choose_published if published else choose_night
    with store.lock(f"{runtime.flow_run.flow_name} {runtime.flow_run.name}"), also_to(lines(get_run_logger().info)):
        yield config, choose(store, night)


def run_name() -> str:
    """Name a flow run after its flow, workspace and night, for example `nightly-corpus-2026-11-23`."""
    given = runtime.flow_run.parameters
    config = given.get("config") or load_config(given.get("config_file") or None)
    workspace = config.workspace.rstrip("/").rsplit("/", 1)[-1]
    return (
        f"{runtime.flow_run.flow_name}-{workspace}-{choose_night(open_store(config.workspace), given.get('night', ''))}"
    )


def may_pass(task: Any, run: Any, state: Any) -> bool:
    """Retry what may succeed the second time: a store that did not answer, not a wrong setting or a defect."""
    return isinstance(state.result(raise_on_failure=False), StorageError | OSError)


RETRY: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [5, 60], "retry_condition_fn": may_pass}


def report(manifest: Manifest) -> Manifest:
    """Log what a stage wrote and hand its manifest on."""
    size = sum(entry.bytes for entry in manifest.files)
    get_run_logger().info("%s: %d files, %.1f MB, %s", manifest.name, len(manifest.files), size / 1e6, manifest.counts)
    return manifest
