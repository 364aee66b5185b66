"""What a command shows on stderr: a live line on a terminal, else a line a message, or JSON by option."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from slimpajama.core.logs import WIDTH, JsonFormatter, LineHandler, log, logged_to
from slimpajama.core.progress import Bar, Sink, Stage, amount, report_to

# Seconds between two lines about the same work.
EVERY_S = 10.0
# Characters of a bar.
METER = 12

_json = False


class _Terminal(Sink):
    """A live line by rich for the stage that runs; messages, and a line for each finished stage, stand above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, ProgressColumn, Task
        from rich.text import Text

        class Line(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(live_line(task.fields["stage"]), no_wrap=True, overflow="ellipsis")

        console = Console(stderr=True)
        self.progress = Progress(Line(), console=console)
        self.tasks: dict[int, Any] = {}
        self.handler = LineHandler(lambda line: console.print(line, markup=False, highlight=False))

    def stage_begun(self, stage: Stage) -> None:
        self.tasks[id(stage)] = self.progress.add_task(stage.name, total=None, stage=stage)

    def stage_finished(self, stage: Stage) -> None:
        self.progress.remove_task(self.tasks.pop(id(stage)))
        # Else the next message is written above what was shown last.
        self.progress.refresh()


def live_line(stage: Stage) -> str:
    """Return how far a stage is; what matters less stands further to the right, where a narrow terminal cuts it off."""
    bar, seconds = stage.bar, time.perf_counter() - stage.began
    # What follows a bar that is full, nobody knows.
    left = bar.seconds_left if bar and bar.done < bar.total else None
    clock = f"{timedelta(seconds=round(seconds if left is None else left))} {'so far' if left is None else 'left'}"
    parts = [f"{stage.name:<{WIDTH}}", f"stage {stage.place}" if stage.place else "", f"{clock:<14}"]
    if bar and bar.total:
        share = min(bar.done / bar.total, 1.0)
        parts.append(f"{'━' * round(METER * share):<{METER}} {share:4.0%}")
    if bar:
        own = "" if bar.name == stage.name else bar.name
        rate = f"{amount(bar.rate, bar.unit)}/s" if bar.rate >= 0.05 else ""
        parts += [own, amount(bar.done, bar.unit), rate, bar.note]
    return " ".join(filter(None, parts))


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
