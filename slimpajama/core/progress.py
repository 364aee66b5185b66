"""Progress of long work: how far, how fast, how long still.

Steps call `track`; whoever runs them chooses by `report_to` and `also_to` who follows. What the clock says goes to the
screen, to the log and to observers (`slimpajama.ops.observe`) only, never into published files.
"""

import contextlib
import contextvars
import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from slimpajama.core import stopping
from slimpajama.core.logs import labels, logged_to, step_log


@dataclass(slots=True)
class Bar:
    """What a step advances; safe to use from several threads."""

    name: str
    total: float
    unit: str
    done: float = 0.0
    note: str = ""
    on_change: Callable[["Bar"], None] | None = None
    before: float = 0.0
    """The part of `done` that an earlier run did: it counts for the share, not for the rate."""
    _began: float = field(default_factory=time.perf_counter)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def resume(self, amount: float) -> None:
        """Begin at `amount` units, done by an earlier run."""
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
        """Return units a second if this run took so many seconds; units of an earlier run do not count."""
        return (self.done - self.before) / seconds if seconds > 0 else 0.0

    @property
    def rate(self) -> float:
        """Units a second so far."""
        return self.rate_over(time.perf_counter() - self._began)

    @property
    def seconds_left(self) -> float | None:
        """What the rest takes at the rate so far; None if the total or the rate is not known."""
        rate = self.rate
        return max(self.total - self.done, 0.0) / rate if self.total and rate > 0 else None

    def describe(self) -> str:
        """Return `5,200 tokens of 12,000 tokens, 50 tokens/s, 0:02:16 left, loss 0.770`, or the known part of it."""
        rate = self.rate
        parts = [amount(self.done, self.unit) + (f" of {amount(self.total, self.unit)}" if self.total else "")]
        if rate > 0:
            parts.append(f"{amount(rate, self.unit)}/s")
        if left := self.seconds_left:
            parts.append(f"{timedelta(seconds=round(left))} left")
        return ", ".join([*parts, self.note] if self.note else parts)

    def figures(self) -> dict[str, Any]:
        """Return where work stands; `eta_s` is None if the total is not known."""
        left = self.seconds_left
        eta = None if left is None else round(left, 1)
        return {"done": self.done, "total": self.total, "unit": self.unit, "rate": round(self.rate, 3), "eta_s": eta}

    def summary(self, seconds: float, place: str = "") -> str:
        """Return amount, time and rate of finished work for people; `place` is that of its stage among all."""
        rate = amount(self.rate_over(seconds), self.unit)
        parts = [f"{amount(self.done, self.unit):>16} in {seconds:6.1f} s", place, f"{rate}/s", self.note]
        return "  ".join(filter(None, parts))


@dataclass(slots=True)
class Stage:
    """A part of a run that people see as one line, however many bars it has one after the other."""

    name: str
    place: str = ""
    """`3 of 12`; empty where nobody has said how many there are."""
    skipped: bool = False
    """Whether an earlier run did some of it."""
    bar: Bar | None = None
    """The bar that runs, or ran last."""
    sums: dict[str, Bar] = field(default_factory=dict)
    """What its finished bars have done, by unit."""
    began: float = field(default_factory=time.perf_counter)

    def add(self, bar: Bar) -> None:
        """Count a bar that has ended."""
        total = self.sums.setdefault(bar.unit, Bar(self.name, 0, bar.unit, _began=self.began))
        total.total += bar.total
        total.done += bar.done
        total.before += bar.before
        total.note = bar.note

    def tell(self) -> None:
        """Log the one line, if there is anything to tell."""
        seconds, bars = time.perf_counter() - self.began, list(self.sums.values())
        if len(bars) > 1:
            done = ", ".join(amount(bar.done, bar.unit) for bar in bars)
            line = "  ".join(filter(None, [f"{done} in {seconds:.1f} s", self.place]))
        elif bars:
            line = bars[0].summary(seconds, self.place)
        else:
            line = "finished before, skipped"
        if bars or self.skipped:
            step_log(self.name).info(line, extra={"figures": bars[0].figures()} if bars else {})


class Sink:
    """Follows a run: bars, steps and manifests. This one does nothing."""

    def open(self) -> None: ...
    def stage_begun(self, stage: Stage) -> None: ...
    def stage_finished(self, stage: Stage) -> None: ...
    def start(self, bar: Bar) -> None: ...
    def end(self, bar: Bar, seconds: float) -> None: ...
    def manifest_read(self, manifest: Any) -> None: ...
    def step_begun(self, step: Any) -> None: ...
    def step_finished(self, step: Any) -> None: ...
    def close(self, error: BaseException | None) -> None: ...


class Live(Sink):
    """Calls `show` with a running step's bar, every `every_s` and at its end.

    A thread of its own does it: whoever is slow to show the bar delays no step.
    """

    def __init__(self, show: Callable[[Bar], None], every_s: float) -> None:
        self.show, self.every_s = show, every_s
        self.running: dict[int, tuple[threading.Event, threading.Thread]] = {}

    def start(self, bar: Bar) -> None:
        over = threading.Event()
        # The copy tells `show` which task it speaks for.
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._watch, bar, over), name="progress", daemon=True)
        self.running[id(bar)] = over, thread
        thread.start()

    def _watch(self, bar: Bar, over: threading.Event) -> None:
        shown = False
        while not over.wait(self.every_s):
            self.show(bar)
            shown = True
        # The last state; a step that was over at once needs none.
        if shown:
            self.show(bar)

    def end(self, bar: Bar, seconds: float) -> None:
        over, thread = self.running.pop(id(bar))
        over.set()
        thread.join(self.every_s)


_sink: "Sink | _Several" = Sink()
_stage: Stage | None = None
# The stages of the run, in order, where they are known.
_planned: tuple[str, ...] = ()
# The steps of this process, in the order in which they ended; `peak_mb` is the process's largest resident set so far.
timings: list[dict[str, Any]] = []


def amount(value: float, unit: str) -> str:
    if unit == "B":
        return f"{value / 1e6:,.1f} MB" if value >= 1e6 else f"{value / 1e3:,.1f} kB"
    return f"{value:,.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"


def peak_bytes() -> float:
    """Return the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB.
    return float(peak if sys.platform == "darwin" else peak * 1024)


@contextlib.contextmanager
def numbered(stages: Sequence[str]) -> Iterator[None]:
    """Say which stages the block has, in order: each is then known as `3 of 12`. Inside such a block, do nothing."""
    global _planned
    before = _planned
    _planned = before or tuple(stages)
    try:
        with stopping.stops(": finished stages are kept; the same command goes on there"):
            yield
    finally:
        _planned = before


@contextlib.contextmanager
def stage(name: str, *, resumes: bool = True) -> Iterator[Stage]:
    """Show the block as one line; inside a stage that is the stage outside.

    Args:
        resumes: Whether the same command, run again after Ctrl-C, goes on where this was.
    """
    global _stage
    if _stage:
        yield _stage
        return
    place = f"{_planned.index(name) + 1} of {len(_planned)}" if name in _planned else ""
    one, sink = Stage(name, place), _sink
    _stage = one
    where = f" in {name}" + (f", stage {place}" if place else "")
    kept = ": what it has finished and the stages before are kept; the same command goes on there"
    sink.stage_begun(one)
    try:
        with stopping.stops(where + (kept if resumes else "; run again")):
            yield one
    finally:
        _stage = None
        sink.stage_finished(one)
    one.tell()


@contextlib.contextmanager
def track(name: str, total: float = 0, unit: str = "documents") -> Iterator[Bar]:
    """Follow some work: `with track("ingest", total=n_bytes, unit="B") as bar: bar.advance(...)`.

    It is a part of the stage that runs, or a stage of its own.
    """
    with stage(name, resumes=False) as one:
        sink, began = _sink, time.perf_counter()
        one.bar = bar = Bar(name, total, unit)
        sink.start(bar)
        try:
            yield bar
        finally:
            seconds = time.perf_counter() - began
            figures = {"seconds": seconds, "done": bar.done, "unit": unit, "peak_mb": peak_bytes() / 1e6}
            timings.append({"name": name} | figures)
            sink.end(bar, seconds)
            one.add(bar)
            step_log(name).debug(bar.summary(seconds))


def current() -> "Sink | _Several":
    """Return who follows progress now."""
    return _sink


@contextlib.contextmanager
def report_to(sink: "Sink | _Several") -> Iterator[None]:
    """Let `sink` alone follow progress while the block runs."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Show neither progress nor messages of the block."""
    with report_to(Sink()), logged_to(logging.NullHandler(), only=True):
        yield


class _Several:
    """Stands for several sinks: each of them hears what it is told."""

    def __init__(self, *sinks: Any) -> None:
        self.sinks = sinks

    def __getattr__(self, event: str) -> Any:
        return lambda *what: [getattr(sink, event)(*what) for sink in self.sinks]


@contextlib.contextmanager
def also_to(*listeners: Sink | logging.Handler, **named: str) -> Iterator[None]:
    """Let `listeners` follow, too: sinks progress, handlers messages. Inside a block that does, change nothing.

    Sinks are opened now, and closed with the error that ends the block, if one does. Meanwhile `labels` holds `named`.
    """
    if isinstance(_sink, _Several):
        yield
        return
    sinks = [one for one in listeners if isinstance(one, Sink)]
    handlers = [one for one in listeners if isinstance(one, logging.Handler)]
    ended: BaseException | None = None
    with report_to(_Several(_sink, *sinks)), logged_to(*handlers):
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
