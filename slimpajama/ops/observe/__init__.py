"""What a run tells other systems: OpenLineage events and metrics for Prometheus. Both by option.

A reader follows the run as a sink of `slimpajama.core.progress`, and two writers hear from it. They ask the steps for
nothing and change nothing. Whatever goes wrong in one is a warning, and the night goes on.
"""

from __future__ import annotations

from slimpajama.core.config import Config
from slimpajama.core.extras import require_extra
from slimpajama.core.progress import Sink
from slimpajama.ops.observe.reader import Reader, RunInfo, Writer
from slimpajama.workspace.open import Workspace

__all__ = ["observers"]


def observers(cfg: Config, workspace: Workspace, night: str, flow: str) -> list[Sink]:
    """Return what `[observe]` asks for.

    Args:
        cfg: `observe` and where the sources lie are used.
        flow: What runs, for instance `nightly`.

    Raises:
        ConfigError: A package is not installed.
    """
    run, writers = RunInfo(workspace, night, flow), list[Writer]()
    if cfg.observe.openlineage:
        with require_extra("openlineage", "openlineage"):
            from slimpajama.ops.observe.lineage import Lineage
        writers.append(Lineage(cfg.observe.openlineage, run, cfg.run.source_root))
    if cfg.observe.metrics:
        from slimpajama.ops.observe.metrics import Metrics

        writers.append(Metrics(cfg.observe.metrics, run))
    return [Reader(run, writers)] if writers else []
