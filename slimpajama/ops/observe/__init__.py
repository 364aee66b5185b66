"""What a run tells other systems: OpenLineage events, metrics for Prometheus, logs as JSON. All by option.

Observers are sinks of `slimpajama.core.progress`: told of stages, bars and manifests, they ask the stages for nothing
and change nothing. Whatever goes wrong in one is a warning, and the night goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from slimpajama.core.config import Config
from slimpajama.core.errors import printable
from slimpajama.core.extras import needs
from slimpajama.core.progress import Sink, say
from slimpajama.workspace.store import Store

__all__ = ["Observer", "harmless", "observers"]

# Failures; a server that hangs must not cost a night more than that.
PATIENCE = 3


class Observer(Sink):
    """A sink that may fail: see `harmless`."""

    name = ""
    failures = 0


def harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Let a method of an `Observer` fail with a warning; after `PATIENCE` failures none of them is called any more."""

    @functools.wraps(method)
    def run(self: Observer, *arguments: Any) -> None:
        if self.failures >= PATIENCE:
            return
        try:
            method(self, *arguments)
        except Exception as error:
            self.failures += 1
            gone = ", given up for this run" if self.failures >= PATIENCE else ""
            say("observe", f"{self.name} failed{gone}: {printable(error)}", "warning")

    return run


def observers(cfg: Config, store: Store, night: str, flow: str) -> list[Sink]:
    """Return what `[observe]` asks for.

    Args:
        cfg: `observe` and where the sources lie are used.
        store: The workspace.
        night: The night that the run works on.
        flow: What runs, for instance `nightly`.

    Raises:
        ConfigError: A package is not installed.
    """
    made: list[Sink] = []
    if cfg.observe.openlineage:
        with needs("openlineage", "openlineage"):
            from slimpajama.ops.observe.lineage import Lineage
        made.append(Lineage(cfg, store, night, flow))
    if cfg.observe.metrics:
        from slimpajama.ops.observe.metrics import Metrics

        made.append(Metrics(cfg.observe.metrics, store, night, flow))
    return made
