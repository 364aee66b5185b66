"""What a run tells other systems: which steps began and ended, what each was made from, and what came out.

Every manifest that a step depends on was read or written in this process, so the reader has met it.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slimpajama.core.errors import printable
from slimpajama.core.logs import step_log
from slimpajama.core.progress import Bar, Sink
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Run

# A reader may fail so many times: a server that hangs must not cost a night more than that.
PATIENCE = 3
DIGEST = re.compile(rb'"([0-9a-f]{64})"')


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


class Reader(Sink):
    """Follows a run and tells another system, by the six methods that come first. They may fail, but never the run."""

    name = ""

    def __init__(self, workspace: Workspace, night: str, flow: str) -> None:
        self.workspace, self.night, self.flow = workspace, night, flow
        self.failures = 0
        self.folders: dict[str, set[str]] = {}
        self.running: dict[str, StepRun] = {}
        self.rates: dict[str, float] = {}

    def begun(self) -> None: ...
    def manifest_met(self, manifest: Manifest) -> None: ...
    def begun_step(self, step: StepRun) -> None: ...
    def finished_step(self, step: StepRun, manifest: Manifest) -> None: ...
    def failed_step(self, step: StepRun, error: BaseException | None) -> None: ...
    def ended(self, error: BaseException | None) -> None: ...

    def open(self) -> None:
        self._tell(self.begun)

    def end(self, bar: Bar, seconds: float) -> None:
        self.rates[bar.name] = bar.rate_over(seconds)

    def manifest_read(self, manifest: Manifest) -> None:
        self.folders[manifest.digest] = {layout.folder_of(entry.path) for entry in manifest.files}
        # Steps depend on the vocabulary by its own hash, which is the same in many nights; the index on shards, too.
        night = layout.night(self.night)
        for entry in [*manifest.entries(night.tokenizer), *manifest.entries(night.split("train"))]:
            self.folders[entry.sha256] = {layout.folder_of(entry.path)}
        self._tell(self.manifest_met, manifest)

    def step_begun(self, step: Run) -> None:
        wanted = re.compile(rf"(.*/)?({step.step.folders})")
        digests = {match.decode() for match in DIGEST.findall(json_bytes(step.depends_on))}
        folders = {folder for digest in digests for folder in self.folders.get(digest, ())}
        raw = step.depends_on[step.step.raw] if step.step.raw else []
        began = None if step.resumed else time.perf_counter()
        running = StepRun(step.name, step.manifest_path, set(filter(wanted.fullmatch, folders)), raw, began)
        self.running[running.path] = running
        self._tell(self.begun_step, running)

    def step_finished(self, step: Run) -> None:
        if (running := self.running.pop(step.manifest_path, None)) is None:
            return
        running.rate = self.rates.get(step.name, 0.0)
        running.seconds = None if running.began is None else time.perf_counter() - running.began
        self._tell(self.finished_step, running, step.result)
        self.manifest_read(step.result)

    def close(self, error: BaseException | None) -> None:
        for step in self.running.values():
            self._tell(self.failed_step, step, error)
        self._tell(self.ended, error)

    def _tell(self, event: Callable[..., None], *what: Any) -> None:
        if self.failures >= PATIENCE:
            return
        try:
            event(*what)
        except Exception as error:
            self.failures += 1
            given_up = ", given up for this run" if self.failures >= PATIENCE else ""
            step_log("observe").warning(f"{self.name} failed{given_up}: {printable(error)}")
