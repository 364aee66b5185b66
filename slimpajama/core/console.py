"""Where progress goes in a terminal, a pipe or a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from slimpajama.core.progress import WIDTH, Bar, Sink, Timing, amount, report_to, say


class _Lines(Sink):
    """One line a finished stage, for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def end(self, bar: Bar, timing: Timing) -> None:
        self.say(bar.name, bar.summary(timing.seconds))

    def say(self, stage: str, text: str, level: str = "info") -> None:
        self.write(f"{stage:<{WIDTH}} {text}")


class _Terminal(Sink):
    """Live bars on stderr by rich, one a stage, with rate and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn(f"{{task.description:<{WIDTH}}}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]:>16}"),
            TextColumn("{task.fields[rate]:>14}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
        )
        self.progress.start()
        self.tasks: dict[int, Any] = {}

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

    def end(self, bar: Bar, timing: Timing) -> None:
        self.update(bar)
        self.progress.update(self.tasks.pop(id(bar)), total=bar.done or 1, completed=bar.done or 1)

    def say(self, stage: str, text: str, level: str = "info") -> None:
        self.console.print(f"{stage:<{WIDTH}} {text}", markup=False, highlight=False)


_json = False


def lines(write: Callable[[str], None]) -> Sink:
    """Return a sink that writes one line a stage."""
    return _Lines(write)


def log_as(form: str) -> None:
    """Choose what `console` and `complain` write in this process: `text` or `json`."""
    global _json
    _json = form == "json"


def complain(text: str) -> None:
    """Write to stderr why a command ends, in the form of its other messages."""
    if _json:
        with console():
            say("slimpajama", text, "error")
    else:
        print(f"slimpajama: {text}", file=sys.stderr)


@contextlib.contextmanager
def console() -> Iterator[None]:
    """Report to stderr: JSON where `log_as` asked for it, else live bars on a terminal and plain lines elsewhere."""

    def write(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if _json or not sys.stderr.isatty():
        from slimpajama.core.logs import json_lines

        with report_to(json_lines(write) if _json else _Lines(write)):
            yield
        return
    terminal = _Terminal()
    try:
        with report_to(terminal):
            yield
    finally:
        terminal.progress.stop()
