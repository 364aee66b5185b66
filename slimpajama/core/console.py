"""What a command shows on stderr: live bars on a terminal, else a line a message, or JSON by option."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from slimpajama.core.logs import WIDTH, JsonFormatter, LineHandler, log, logged_to
from slimpajama.core.progress import Bar, Sink, amount, report_to

# Seconds between two lines about the same work.
EVERY_S = 10.0

_json = False


class _Terminal(Sink):
    """Live bars by rich, one a step, with rate and time left; messages stand above them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn(f"{{task.description:<{WIDTH}}}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]:>16}"),
            TextColumn("{task.fields[rate]:>14}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self.tasks: dict[int, Any] = {}
        self.handler = LineHandler(lambda line: console.print(line, markup=False, highlight=False))
        # A bar shows its own figures.
        self.handler.addFilter(lambda record: not hasattr(record, "figures"))

    def start(self, bar: Bar) -> None:
        self.tasks[id(bar)] = self.progress.add_task(bar.name, total=bar.total or None, amount="", rate="", note="")
        bar.on_change = self.update

    def update(self, bar: Bar) -> None:
        self.progress.update(
            self.tasks[id(bar)],
            total=bar.total or None,
            completed=bar.done,
            amount=amount(bar.done, bar.unit),
            rate=f"{amount(bar.rate, bar.unit)}/s",
            note=bar.note,
        )

    def end(self, bar: Bar, seconds: float) -> None:
        self.update(bar)
        self.progress.update(self.tasks.pop(id(bar)), total=bar.done or 1, completed=bar.done or 1)


class JsonLines(Sink):
    """Writes one JSON object a message, and one every `EVERY_S` about work that goes on."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.handler = LineHandler(write, JsonFormatter())
        self.shown: dict[int, float] = {}

    def start(self, bar: Bar) -> None:
        self.shown[id(bar)] = time.monotonic()
        bar.on_change = self.update

    def update(self, bar: Bar) -> None:
        now = time.monotonic()
        if now - self.shown[id(bar)] >= EVERY_S:
            self.shown[id(bar)] = now
            record = {"name": f"{log.name}.{bar.name}", "levelname": "INFO", "msg": bar.note or "running"}
            self.handler.handle(logging.makeLogRecord(record | {"figures": bar.figures()}))

    def end(self, bar: Bar, seconds: float) -> None:
        self.shown.pop(id(bar), None)


def use_json(wanted: bool) -> None:
    """Choose what `console` writes in this process: JSON or text."""
    global _json
    _json = wanted


@contextlib.contextmanager
def console(bars: bool = True) -> Iterator[None]:
    """Show messages and progress on stderr while the block runs; without `bars`, messages alone."""

    def write(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if _json:
        lines = JsonLines(write)
        with logged_to(lines.handler), report_to(lines):
            yield
    elif bars and sys.stderr.isatty():
        terminal = _Terminal()
        with terminal.progress, logged_to(terminal.handler), report_to(terminal):
            yield
    else:
        with logged_to(LineHandler(write)):
            yield
