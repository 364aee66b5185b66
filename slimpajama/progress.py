"""Progress of long work: bars with rate and ETA on a terminal, one line a stage elsewhere.

Stages call `track`; who runs them chooses where that goes by `report_to`. The clock's readings go to the
screen and to the run's log only, never into published files.
"""

from __future__ import annotations

import contextlib
import contextvars
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

__all__ = ["Bar", "Timing", "also_to", "console", "lines", "live", "report_to", "say", "timings", "track"]


WIDTH = 13  # of the longest stage's name


@dataclass(slots=True)
class Timing:
    """How long one tracked stage took."""

    name: str
    seconds: float
    done: float
    unit: str
    peak_mb: float
    """Largest resident set of the whole process so far, in MB (10^6 bytes)."""


@dataclass(slots=True)
class Bar:
    """Handle that a stage advances; safe to use from several threads."""

    name: str
    total: float
    unit: str
    done: float = 0.0
    before: float = 0.0
    """Of `done`, what an earlier run had done: it counts for the share, not for the rate."""
    note: str = ""
    on_change: Callable[[Bar], None] | None = None
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` units; `note` is a short live figure such as a loss."""
        with self._mutex:
            self.done += amount
            self.note = note or self.note
            if self.on_change:
                self.on_change(self)

    def rate(self, seconds: float) -> float:
        """Return units a second after so many seconds."""
        return (self.done - self.before) / max(seconds, 1e-9)

    def describe(self, seconds: float) -> str:
        """Return `5,200 tokens of 12,000 tokens, 50 tokens/s, 0:02:16 left, loss 0.770`, or what is known of it."""
        rate = self.rate(seconds)
        parts = [_amount(self.done, self.unit) + (f" of {_amount(self.total, self.unit)}" if self.total else "")]
        if rate > 0:
            parts.append(f"{_amount(rate, self.unit)}/s")
            if self.done < self.total:
                parts.append(f"{timedelta(seconds=round((self.total - self.done) / rate))} left")
        return ", ".join([*parts, self.note] if self.note else parts)


class _Sink:
    """Where progress goes; this one is silent."""

    def start(self, bar: Bar) -> None: ...
    def end(self, bar: Bar, timing: Timing) -> None: ...
    def say(self, text: str) -> None: ...


class _Lines(_Sink):
    """One line a finished stage, for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write = write

    def end(self, bar: Bar, timing: Timing) -> None:
        self.write(
            f"{bar.name:<{WIDTH}} {_amount(bar.done, bar.unit):>16} in {timing.seconds:6.1f} s"
            f"  {_amount(bar.rate(timing.seconds), bar.unit)}/s{'  ' + bar.note if bar.note else ''}"
        )

    def say(self, text: str) -> None:
        self.write(text)


class _Terminal(_Sink):
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
        self.tasks: dict[int, tuple[Any, float]] = {}

    def start(self, bar: Bar) -> None:
        task = self.progress.add_task(bar.name, total=bar.total or None, amount="", rate="", note="")
        self.tasks[id(bar)] = (task, time.perf_counter())
        bar.on_change = self.update

    def update(self, bar: Bar) -> None:
        task, began = self.tasks[id(bar)]
        rate = bar.rate(time.perf_counter() - began)
        self.progress.update(
            task,
            total=bar.total or None,
            completed=bar.done,
            amount=_amount(bar.done, bar.unit),
            rate=f"{_amount(rate, bar.unit)}/s",
            note=bar.note,
        )

    def end(self, bar: Bar, timing: Timing) -> None:
        self.update(bar)
        self.progress.update(self.tasks.pop(id(bar))[0], total=bar.done or 1, completed=bar.done or 1)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)


class _Live(_Sink):
    """Shows a running stage every so often, from a thread of its own: whoever is slow to show it delays no stage."""

    def __init__(self, show: Callable[[Bar, float], None], every_s: float) -> None:
        self.show, self.every_s = show, every_s
        self.running: dict[int, tuple[threading.Event, threading.Thread]] = {}

    def start(self, bar: Bar) -> None:
        over = threading.Event()
        context = contextvars.copy_context()  # so that `show` knows which task it speaks for
        thread = threading.Thread(target=context.run, args=(self._watch, bar, over), name="progress", daemon=True)
        self.running[id(bar)] = over, thread
        thread.start()

    def _watch(self, bar: Bar, over: threading.Event) -> None:
        began, shown = time.perf_counter(), False
        while not over.wait(self.every_s):
            self.show(bar, time.perf_counter() - began)
            shown = True
        if shown:  # the last word; a stage that was over at once needs none
            self.show(bar, time.perf_counter() - began)

    def end(self, bar: Bar, timing: Timing) -> None:
        over, thread = self.running.pop(id(bar))
        over.set()
        thread.join(self.every_s)


_sink: _Sink = _Sink()
timings: list[Timing] = []  # of this process, in the order the stages ended


def _amount(value: float, unit: str) -> str:
    if unit == "B":
        return f"{value / 1e6:,.1f} MB" if value >= 1e6 else f"{value / 1e3:,.1f} kB"
    return f"{value:,.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"


@contextlib.contextmanager
def track(name: str, total: float = 0, unit: str = "documents") -> Iterator[Bar]:
    """Follow one stage: `with track("ingest", total=n_bytes, unit="B") as bar: bar.advance(...)`."""
    bar = Bar(name, total, unit)
    sink, began = _sink, time.perf_counter()
    sink.start(bar)
    try:
        yield bar
    finally:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak_mb = peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # bytes there, KiB here
        timing = Timing(name, time.perf_counter() - began, bar.done, unit, peak_mb)
        timings.append(timing)
        sink.end(bar, timing)


def say(stage: str, text: str) -> None:
    """Tell the person who runs this one thing of a stage, such as that it is skipped."""
    _sink.say(f"{stage:<{WIDTH}} {text}")


@contextlib.contextmanager
def report_to(sink: _Sink) -> Iterator[None]:
    """Send progress to `sink` while the block runs."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before


class _Tee(_Sink):
    """Several sinks at once: the terminal, the flow run's log, its artifacts."""

    def __init__(self, *sinks: _Sink) -> None:
        self.sinks = sinks

    def start(self, bar: Bar) -> None:
        for sink in self.sinks:
            sink.start(bar)

    def end(self, bar: Bar, timing: Timing) -> None:
        for sink in self.sinks:
            sink.end(bar, timing)

    def say(self, text: str) -> None:
        for sink in self.sinks:
            sink.say(text)


@contextlib.contextmanager
def also_to(*sinks: _Sink) -> Iterator[None]:
    """Send progress to `sinks` besides where it goes already; inside a block that does, change nothing."""
    if isinstance(_sink, _Tee):
        yield
        return
    with report_to(_Tee(_sink, *sinks)):
        yield


def lines(write: Callable[[str], None]) -> _Sink:
    """Return a sink that writes one line a stage, for instance into a flow run's log."""
    return _Lines(write)


def live(show: Callable[[Bar, float], None], every_s: float) -> _Sink:
    """Return a sink that calls `show` with a running stage's bar and its seconds, every `every_s` and at its end."""
    return _Live(show, every_s)


@contextlib.contextmanager
def console() -> Iterator[None]:
    """Report to stderr: live bars where it is a terminal, plain lines where it is not."""
    if not sys.stderr.isatty():
        with report_to(_Lines(lambda text: print(text, file=sys.stderr, flush=True))):
            yield
        return
    terminal = _Terminal()
    try:
        with report_to(terminal):
            yield
    finally:
        terminal.progress.stop()
