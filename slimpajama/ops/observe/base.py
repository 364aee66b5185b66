"""What observers share: none of them can fail a run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from slimpajama.core.errors import printable
from slimpajama.core.progress import Sink, say

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
