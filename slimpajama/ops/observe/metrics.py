"""A run's figures for Prometheus, in a file that node_exporter's textfile collector reads.

The file outlives the run: what a run does not measure, such as the last success of a night when one fails, stays as
the file had it. All are gauges; a rate is that of the last time. One file a workspace.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from slimpajama.core.errors import printable
from slimpajama.core.progress import Bar, ManifestLike, StageLike, Timing
from slimpajama.ops.observe.base import Observer, harmless
from slimpajama.workspace.manifest import total
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import read_json

PREFIX = "slimpajama_"
# Read as it is: the registry would load torch, which a preparation does without.
CHAMPION = "models/champion.json"
# Name -> labels beside `workspace`, meaning.
METRICS: dict[str, tuple[tuple[str, ...], str]] = {
    "run_success": (("flow",), "Whether the last run came through."),
    "run_end_timestamp_seconds": (("flow",), "When the last run ended."),
    "run_last_success_timestamp_seconds": (("flow",), "When a run last came through."),
    "run_seconds": (("flow",), "How long the last run took."),
    "stage_seconds": (("stage",), "How long the stage took when it last ran without a break."),
    "stage_documents_per_second": (("stage",), "Documents a second that the stage passed on."),
    "stage_bytes_per_second": (("stage",), "Bytes of text a second that the stage passed on."),
    "night_documents": (("outcome",), "Documents of the night last worked on: read, kept, removed."),
    "train_loss": (("loss",), "Last point of the loss curve, in nats a token."),
    "train_tokens_per_second": ((), "Tokens a second in training."),
    "bits_per_byte": (("language", "model"), "On held-out text, of the champion and of tonight's model."),
    "champion_age_nights": ((), "Nights published since the champion's own."),
    "champion_timestamp_seconds": (
        ("model",),
        "When the champion was promoted, or the day of its night.",
    ),
    "workspace_bytes": ((), "Size of the workspace."),
}


class Metrics(Observer, Collector):
    """Keeps the figures and writes the file at the end of each stage and of the run.

    Args:
        path: `NAME.prom`.
        workspace: The workspace.
        night: The night that the run works on.
        flow: What runs.
    """

    name = "metrics"

    def __init__(self, path: str, workspace: Workspace, night: str, flow: str) -> None:
        self.path, self.workspace, self.night, self.flow = path, workspace, night, flow
        self.label = printable(workspace.uri, 1000)
        self.values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in METRICS}
        self.began = time.time()
        self.begun: dict[str, float] = {}
        self.bits: dict[str, dict[str, float]] = {}
        self.speed = 0.0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every figure; what `prometheus_client` asks for."""
        for name, (labels, meaning) in METRICS.items():
            family = GaugeMetricFamily(PREFIX + name, meaning, labels=("workspace", *labels))
            for values, value in sorted(self.values[name].items()):
                family.add_metric((self.label, *values), value)
            yield family

    @harmless
    def open(self) -> None:
        if not Path(self.path).exists():
            return
        for family in text_string_to_metric_families(Path(self.path).read_text(encoding="utf-8")):
            name = family.name.removeprefix(PREFIX)
            for sample in family.samples if name in METRICS else ():
                if sample.labels["workspace"] == self.label:
                    self.values[name][tuple(sample.labels[label] for label in METRICS[name][0])] = sample.value

    @harmless
    def end(self, bar: Bar, timing: Timing) -> None:
        if bar.name == "train":
            self.speed = bar.rate_over(timing.seconds)

    @harmless
    def manifest_read(self, manifest: ManifestLike) -> None:
        for entry in manifest.files if manifest.name == "evaluate" else ():
            _, model, _, night, _ = entry.path.split("/")
            if night == self.night:
                self.bits[model] = manifest.counts["bits_per_byte"]

    def stage_begun(self, stage: StageLike) -> None:
        if not stage.resumed:
            self.begun[stage.manifest_path] = time.perf_counter()

    @harmless
    def stage_finished(self, stage: StageLike) -> None:
        counts = stage.result.counts
        if stage.manifest_path in self.begun:
            seconds = time.perf_counter() - self.begun.pop(stage.manifest_path)
            self.values["stage_seconds"][stage.name,] = seconds
            if documents := total(counts.get("documents", counts.get("kept", 0))):
                self.values["stage_documents_per_second"][stage.name,] = documents / seconds
                if read := total(counts.get("kept_bytes", counts.get("bytes", 0))):
                    self.values["stage_bytes_per_second"][stage.name,] = read / seconds
        if stage.name == "train":
            losses = {name: loss for name, loss in counts["losses"].items() if name not in ("step", "tokens")}
            self.values["train_loss"] = {(name,): loss for name, loss in losses.items()}
            self.values["train_tokens_per_second"][()] = self.speed
        self.manifest_read(stage.result)
        self._write()

    @harmless
    def close(self, error: BaseException | None) -> None:
        flow, now = (self.flow,), time.time()
        self.values["run_success"][flow] = float(error is None)
        self.values["run_end_timestamp_seconds"][flow] = now
        self.values["run_seconds"][flow] = now - self.began
        if error is None:
            self.values["run_last_success_timestamp_seconds"][flow] = now
        self._look_at_workspace(now)
        self._write()

    @harmless
    def _look_at_workspace(self, now: float) -> None:
        self.values["workspace_bytes"][()] = self.workspace.store.size()
        nights = self.workspace.nights.published()
        if self.night in nights:
            counts = self.workspace.nights.load(self.night).counts
            self.values["night_documents"] = {
                ("read",): total(counts.get("ingest", {}).get("documents", 0)),
                ("kept",): total(counts.get("dedup", {}).get("kept", 0)),
                ("removed",): sum(total(one["removed"]) for one in counts.values() if "removed" in one),
            }
        if self.workspace.store.exists(CHAMPION):
            pointer = read_json(self.workspace.store, CHAMPION)
            model, night = pointer["model"], pointer["night"]
            if (model,) not in self.values["champion_timestamp_seconds"]:
                since = now if night == self.night else _day(night, now)
                self.values["champion_timestamp_seconds"] = {(model,): since}
            if night in nights:
                self.values["champion_age_nights"][()] = len(nights) - 1 - nights.index(night)
            for name, bits in self.bits.items():
                roles = {"champion": name == model, "tonight": name.rsplit("-", 2)[0] == self.night}
                for role in (role for role, holds in roles.items() if holds):
                    self.values["bits_per_byte"] |= {(lang, role): value for lang, value in bits.items()}

    def _write(self) -> None:
        registry = CollectorRegistry()
        registry.register(self)
        write_to_textfile(self.path, registry)


def _day(night: str, otherwise: float) -> float:
    """Return the day that a night is named after, in seconds."""
    try:
        return dt.datetime.fromisoformat(f"{night[:10]}T00:00:00+00:00").timestamp()
    except ValueError:
        return otherwise
