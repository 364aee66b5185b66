"""Progress as records with fields: one JSON object a line on stderr, `extra` in the log of a flow run."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from typing import Any

from slimpajama.core.progress import Bar, Sink, Timing, labels

EVERY_S = 10.0

Emit = Callable[[str, str, dict[str, Any]], None]
"""Takes a level, a text and the fields beside it."""


class Records(Sink):
    """Gives messages, progress and finished work to `emit`.

    Args:
        emit: Where a record goes.
        every_s: Seconds between two records of the same work; None for none before it is done.
    """

    def __init__(self, emit: Emit, every_s: float | None = None) -> None:
        self.emit, self.every_s = emit, every_s
        self.shown: dict[int, float] = {}

    def start(self, bar: Bar) -> None:
        if self.every_s is not None:
            self.shown[id(bar)] = time.monotonic()
            bar.on_change = self.update

    def update(self, bar: Bar) -> None:
        now = time.monotonic()
        if now - self.shown[id(bar)] >= (self.every_s or 0.0):
            self.shown[id(bar)] = now
            self.say(bar.name, bar.note or "running", **_figures(bar))

    def end(self, bar: Bar, timing: Timing) -> None:
        self.shown.pop(id(bar), None)
        self.say(bar.name, bar.summary(timing.seconds), **_figures(bar))

    def say(self, stage: str, text: str, level: str = "info", **figures: Any) -> None:
        self.emit(level, text, {**labels, "stage": stage, **figures})


def _figures(bar: Bar) -> dict[str, Any]:
    """Return where work stands; `eta_s` is null where nothing says how much there is."""
    left = bar.seconds_left
    eta = None if left is None else round(left, 1)
    return {"done": bar.done, "total": bar.total, "unit": bar.unit, "rate": round(bar.rate, 3), "eta_s": eta}


def json_lines(write: Callable[[str], None]) -> Sink:
    """Return a sink that writes one JSON object a line, in ASCII: no text can break or forge a line."""

    def emit(level: str, text: str, fields: dict[str, Any]) -> None:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        write(json.dumps({"time": now, "level": level, **fields, "message": " ".join(text.split())}))

    return Records(emit, EVERY_S)
