"""What a run tells other systems: OpenLineage events, metrics for Prometheus, logs as JSON. All by option.

Observers are sinks of `slimpajama.core.progress`: told of stages, bars and manifests, they ask the stages for nothing
and change nothing. Whatever goes wrong in one is a warning, and the night goes on.
"""

from __future__ import annotations

from slimpajama.core.config import Config
from slimpajama.core.extras import needs
from slimpajama.core.progress import Sink
from slimpajama.workspace.open import Workspace

__all__ = ["observers"]


def observers(cfg: Config, workspace: Workspace, night: str, flow: str) -> list[Sink]:
    """Return what `[observe]` asks for.

    Args:
        cfg: `observe` and where the sources lie are used.
        workspace: The workspace.
        night: The night that the run works on.
        flow: What runs, for instance `nightly`.

    Raises:
        ConfigError: A package is not installed.
    """
    made: list[Sink] = []
    if cfg.observe.openlineage:
        with needs("openlineage", "openlineage"):
            from slimpajama.ops.observe.lineage import Lineage
        made.append(Lineage(cfg, workspace, night, flow))
    if cfg.observe.metrics:
        from slimpajama.ops.observe.metrics import Metrics

        made.append(Metrics(cfg.observe.metrics, workspace, night, flow))
    return made
