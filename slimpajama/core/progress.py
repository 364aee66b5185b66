"""Progress of long work: bars with rate and ETA on a terminal, one line a stage elsewhere, JSON by option.

Stages call `track`; who runs them chooses where that goes by `report_to`. The clock's readings go to the
screen, to the run's log and to what observes it (`slimpajama.ops.observe`) only, never into published files.
"""

from __future__ import annotations

import contextlib
import contextvars
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

# Of the longest stage's name.
WIDTH = 13


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
    note: str = ""
    on_change: Callable[[Bar], None] | None = None
    before: float = 0.0
    """Of `done`, what an earlier run did: it counts for the share, not for the rate."""
    _began: float = field(default_factory=time.perf_counter)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def resume(self, amount: float) -> None:
        """Begin at `amount` units, which an earlier run did."""
        self.before = amount
        self.advance(amount)

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` units; `note` is a short live figure such as a loss."""
        with self._mutex:
            self.done += amount
            self.note = note or self.note
            if self.on_change:
                self.on_change(self)

    def rate_over(self, seconds: float) -> float:
        """Return units a second in so many seconds; what an earlier run did counts for none."""
        return (self.done - self.before) / seconds if seconds > 0 else 0.0

    @property
    def rate(self) -> float:
        """Units a second so far."""
        return self.rate_over(time.perf_counter() - self._began)

    @property
    def seconds_left(self) -> float | None:
        """What the rest takes at the rate so far; None where nothing says how much there is, or how fast it goes."""
        rate = self.rate
        return max(self.total - self.done, 0.0) / rate if self.total and rate > 0 else None

    def describe(self) -> str:
        """Return `5,200 tokens of 12,000 tokens, 50 tokens/s, 0:02:16 left, loss 0.770`, or what is known of it."""
        rate = self.rate
        parts = [amount(self.done, self.unit) + (f" of {amount(self.total, self.unit)}" if self.total else "")]
        if rate > 0:
            parts.append(f"{amount(rate, self.unit)}/s")
        if left := self.seconds_left:
            parts.append(f"{timedelta(seconds=round(left))} left")
        return ", ".join([*parts, self.note] if self.note else parts)

    def summary(self, seconds: float) -> str:
        """Return amount, time and rate of finished work for people."""
        rate = amount(self.rate_over(seconds), self.unit)
        note = f"  {self.note}" if self.note else ""
        return f"{amount(self.done, self.unit):>16} in {seconds:6.1f} s  {rate}/s{note}"


class ManifestLike(Protocol):
    """What a sink may look at of a manifest of the workspace."""

    @property
    def name(self) -> str: ...
    @property
    def counts(self) -> dict[str, Any]: ...
    @property
    def files(self) -> Sequence[Any]: ...
    @property
    def digest(self) -> str: ...


class StageLike(Protocol):
    """What a sink may look at of a stage that runs."""

    @property
    def name(self) -> str: ...
    @property
    def manifest_path(self) -> str: ...
    @property
    def about(self) -> dict[str, Any]: ...
    @property
    def finished(self) -> bool: ...
    @property
    def resumed(self) -> bool: ...
    @property
    def result(self) -> ManifestLike: ...


class Sink:
    """Where progress goes; this one is silent. It is told of bars, messages, stages and manifests."""

    def open(self) -> None: ...
    def start(self, bar: Bar) -> None: ...
    def end(self, bar: Bar, timing: Timing) -> None: ...
    def say(self, stage: str, text: str, level: str = "info") -> None: ...
    def manifest_read(self, manifest: ManifestLike) -> None: ...
    def stage_begun(self, stage: StageLike) -> None: ...
    def stage_finished(self, stage: StageLike) -> None: ...
    def close(self, error: BaseException | None) -> None: ...


class _Live(Sink):
    """Shows a running stage every so often, from a thread of its own: whoever is slow to show it delays no stage."""

    def __init__(self, show: Callable[[Bar], None], every_s: float) -> None:
        self.show, self.every_s = show, every_s
        self.running: dict[int, tuple[threading.Event, threading.Thread]] = {}

    def start(self, bar: Bar) -> None:
        over = threading.Event()
        # So that `show` knows which task it speaks for.
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._watch, bar, over), name="progress", daemon=True)
        self.running[id(bar)] = over, thread
        thread.start()

    def _watch(self, bar: Bar, over: threading.Event) -> None:
        shown = False
        while not over.wait(self.every_s):
            self.show(bar)
            shown = True
        # The last word; a stage that was over at once needs none.
        if shown:
            self.show(bar)

    def end(self, bar: Bar, timing: Timing) -> None:
        over, thread = self.running.pop(id(bar))
        over.set()
        thread.join(self.every_s)


_sink: Sink = Sink()
# Workspace and night of what runs, for sinks that name them.
labels: dict[str, str] = {}
# Of this process, in the order the stages ended.
timings: list[Timing] = []


def amount(value: float, unit: str) -> str:
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


def say(stage: str, text: str, level: str = "info") -> None:
    """Tell the person who runs this one thing of a stage, such as that it is skipped."""
    _sink.say(stage, text, level)


def current() -> Sink:
    """Return where progress goes now."""
    return _sink


@contextlib.contextmanager
def report_to(sink: Sink) -> Iterator[None]:
    """Send progress to `sink` while the block runs."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before


def _each(method: str) -> Any:
    def tell(self: _Tee, *arguments: Any) -> None:
        for sink in self.sinks:
            getattr(sink, method)(*arguments)

    return tell


class _Tee(Sink):
    """Several sinks at once: the terminal, the flow run's log, what observes the run."""

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = sinks

    start, end, say = _each("start"), _each("end"), _each("say")
    manifest_read, stage_begun, stage_finished = (_each("manifest_read"), _each("stage_begun"), _each("stage_finished"))


@contextlib.contextmanager
def also_to(*sinks: Sink, **named: str) -> Iterator[None]:
    """Send progress to `sinks` besides where it goes already; inside a block that does, change nothing.

    Args:
        sinks: Opened now, and closed with the error that ends the block, if one does.
        named: What `labels` holds meanwhile.
    """
    if isinstance(_sink, _Tee):
        yield
        return
    ended: BaseException | None = None
    with report_to(_Tee(_sink, *sinks)):
        labels.update(named)
        try:
            for sink in sinks:
                sink.open()
            yield
        except BaseException as error:
            ended = error
            raise
        finally:
            for sink in sinks:
                sink.close(ended)
            labels.clear()


def live(show: Callable[[Bar], None], every_s: float) -> Sink:
    """Return a sink that calls `show` with a running stage's bar, every `every_s` and at its end."""
    return _Live(show, every_s)
