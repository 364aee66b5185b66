"""Messages by the standard `logging`: the step `clean` writes to the logger `slimpajama.clean`.

Here is what a record looks like, as text for people and as JSON for machines. `slimpajama.core.console` writes records
to stderr; a flow run sends them to Prefect, too.
"""

import contextlib
import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

log = logging.getLogger("slimpajama")
# The longest step's name has so many characters.
WIDTH = 13
# Workspace and night of the flow that runs.
labels: dict[str, str] = {}


def step_log(step: str) -> logging.Logger:
    """Return the logger of a step."""
    return log.getChild(step)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record says beside its message: workspace, night, step and, of a bar, the figures."""
    step = record.name.removeprefix(f"{log.name}.")
    return {**labels, "stage": step, **getattr(record, "figures", {})}


class TextFormatter(logging.Formatter):
    """One line for people: `step          message`."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == log.name:
            return f"{log.name}: {record.getMessage()}"
        return f"{fields(record)['stage']:<{WIDTH}} {record.getMessage()}"


class JsonFormatter(logging.Formatter):
    """One JSON object in ASCII, so that no text can break or forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        level, message = record.levelname.lower(), " ".join(record.getMessage().split())
        return json.dumps({"time": now, "level": level, **fields(record), "message": message})


class LineHandler(logging.Handler):
    """Gives each record of a level or above to `write` as one line; text by default."""

    def __init__(
        self, write: Callable[[str], None], formatter: logging.Formatter | None = None, level: int = logging.INFO
    ) -> None:
        super().__init__(level)
        self.write = write
        self.setFormatter(formatter or TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record))


@contextlib.contextmanager
def logged_to(*handlers: logging.Handler, only: bool = False) -> Iterator[None]:
    """Send messages to `handlers` while the block runs, and to those before unless these are the `only` ones."""
    before, level, propagate = log.handlers, log.level, log.propagate
    log.handlers, log.propagate = [*([] if only else before), *handlers], False
    # Each handler has its own.
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.handlers, log.propagate = before, propagate
        log.setLevel(level)
