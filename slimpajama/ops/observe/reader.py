"""What writers hear of a run: which steps began and ended, what each was made from, and what came out.

Every manifest that a step depends on was read or written in this process, so the reader has met it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slimpajama.core.errors import printable
from slimpajama.core.logs import step_log
from slimpajama.core.progress import Bar, Sink, Timing
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Run

# A writer may fail so many times: a server that hangs must not cost a night more than that.
PATIENCE = 3
DIGEST = re.compile(rb'"([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Which run it is."""

    workspace: Workspace
    night: str
    flow: str


@dataclass(slots=True)
class StepRun:
    """One run of one step."""

    name: str
    path: str
    """Path of the manifest: the same in every run of the step."""
    inputs: set[str]
    """Folders that it reads, of the manifests that it depends on."""
    raw: list[dict[str, Any]]
    """Entries of the files that it reads from outside the workspace."""
    began: float | None
    """None where an earlier run did a part: the time of the rest says nothing."""
    seconds: float | None = None
    rate: float = 0.0
    """What its bar counted, a second."""


class Writer:
    """Tells another system what the reader has seen. Its methods may fail: see `Reader`."""

    name = ""

    def open(self) -> None: ...
    def manifest_read(self, manifest: Manifest) -> None: ...
    def step_begun(self, step: StepRun) -> None: ...
    def step_finished(self, step: StepRun, manifest: Manifest) -> None: ...
    def step_failed(self, step: StepRun, error: BaseException | None) -> None: ...
    def close(self, error: BaseException | None) -> None: ...


class Reader(Sink):
    """Follows a run and tells the writers. None of them can fail the run.

    Args:
        writers: Told in this order; one that fails costs a warning, and hears no more after `PATIENCE` of them.
    """

    def __init__(self, run: RunInfo, writers: Sequence[Writer]) -> None:
        self.failures = dict.fromkeys(writers, 0)
        self.tokenizer = layout.night(run.night).tokenizer
        self.folders: dict[str, set[str]] = {}
        self.running: dict[str, StepRun] = {}
        self.rates: dict[str, float] = {}

    def open(self) -> None:
        self._tell("open")

    def end(self, bar: Bar, timing: Timing) -> None:
        self.rates[bar.name] = bar.rate_over(timing.seconds)

    def manifest_read(self, manifest: Manifest) -> None:
        self.folders[manifest.digest] = {layout.folder_of(entry.path) for entry in manifest.files}
        # Steps depend on the vocabulary by its own hash, which is the same in many nights.
        for entry in manifest.entries(self.tokenizer):
            self.folders[entry.sha256] = {layout.folder_of(entry.path)}
        self._tell("manifest_read", manifest)

    def step_begun(self, step: Run) -> None:
        wanted = re.compile(rf"(.*/)?({step.step.folders})")
        digests = {match.decode() for match in DIGEST.findall(json_bytes(step.depends_on))}
        folders = {folder for digest in digests for folder in self.folders.get(digest, ())}
        raw = step.depends_on[step.step.raw] if step.step.raw else []
        began = None if step.resumed else time.perf_counter()
        running = StepRun(step.name, step.manifest_path, set(filter(wanted.fullmatch, folders)), raw, began)
        self.running[running.path] = running
        self._tell("step_begun", running)

    def step_finished(self, step: Run) -> None:
        if (running := self.running.pop(step.manifest_path, None)) is None:
            return
        running.rate = self.rates.get(step.name, 0.0)
        running.seconds = None if running.began is None else time.perf_counter() - running.began
        self._tell("step_finished", running, step.result)
        self.manifest_read(step.result)

    def close(self, error: BaseException | None) -> None:
        for step in self.running.values():
            self._tell("step_failed", step, error)
        self._tell("close", error)

    def _tell(self, event: str, *what: Any) -> None:
        for writer, failures in self.failures.items():
            if failures < PATIENCE:
                self._never_raise(writer, event, *what)

    def _never_raise(self, writer: Writer, event: str, *what: Any) -> None:
        try:
            getattr(writer, event)(*what)
        except Exception as error:
            self.failures[writer] += 1
            given_up = ", given up for this run" if self.failures[writer] >= PATIENCE else ""
            step_log("observe").warning(f"{writer.name} failed{given_up}: {printable(error)}")
