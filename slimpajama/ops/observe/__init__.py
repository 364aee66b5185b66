"""What a run tells other systems: OpenLineage events and metrics for Prometheus. Both by option.

Readers follow the run as sinks of `slimpajama.core.progress`. They ask the steps for nothing and change nothing.
Whatever goes wrong in one is a warning, and the night goes on.
"""

from slimpajama.core.config import Config
from slimpajama.core.extras import require_extra
from slimpajama.ops.observe.reader import Reader
from slimpajama.workspace.open import Workspace

__all__ = ["observers"]


def observers(cfg: Config, workspace: Workspace, night: str, flow: str) -> list[Reader]:
    """Return what `[observe]` asks for, to follow a flow such as `nightly`.

    Raises:
        ConfigError: A package is not installed.
    """
    readers = list[Reader]()
    if cfg.observe.openlineage:
        with require_extra("openlineage", "openlineage"):
            from slimpajama.ops.observe.lineage import Lineage
        readers.append(Lineage(cfg.observe.openlineage, cfg.run.source_root, workspace, night, flow))
    if cfg.observe.metrics:
        from slimpajama.ops.observe.metrics import Metrics

        readers.append(Metrics(cfg.observe.metrics, workspace, night, flow))
    return readers
