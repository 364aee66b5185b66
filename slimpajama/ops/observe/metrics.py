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
from slimpajama.ops.observe.reader import RunInfo, StepRun, Writer
from slimpajama.ops.overview import add_up
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.store import read_json

PREFIX = "slimpajama_"
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
    "champion_timestamp_seconds": (("model",), "When the champion was promoted, or the day of its night."),
    "workspace_bytes": ((), "Size of the workspace."),
}


class Metrics(Writer, Collector):
    """Keeps the figures and writes the file at the end of each step and of the run.

    Args:
        path: `NAME.prom`.
        run: Which run it is.
    """

    name = "metrics"

    def __init__(self, path: str, run: RunInfo) -> None:
        self.path, self.run = path, run
        self.label = printable(run.workspace.uri, 1000)
        self.values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in METRICS}
        self.began = time.time()
        self.bits: dict[str, dict[str, float]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every figure; what `prometheus_client` asks for."""
        for name, (labels, meaning) in METRICS.items():
            family = GaugeMetricFamily(PREFIX + name, meaning, labels=("workspace", *labels))
            for values, value in sorted(self.values[name].items()):
                family.add_metric((self.label, *values), value)
            yield family

    def open(self) -> None:
        if not Path(self.path).exists():
            return
        for family in text_string_to_metric_families(Path(self.path).read_text(encoding="utf-8")):
            name = family.name.removeprefix(PREFIX)
            for sample in family.samples if name in METRICS else ():
                if sample.labels["workspace"] == self.label:
                    self.values[name][tuple(sample.labels[label] for label in METRICS[name][0])] = sample.value

    def manifest_read(self, manifest: Manifest) -> None:
        for entry in manifest.files if manifest.name == "evaluate" else ():
            place = layout.place(entry.path)
            if entry.path.startswith(layout.model(place.owner).evaluation(self.run.night).within("")):
                self.bits[place.owner] = manifest.counts["bits_per_byte"]

    def step_finished(self, step: StepRun, manifest: Manifest) -> None:
        counts = manifest.counts
        if step.seconds is not None:
            self.values["stage_seconds"][step.name,] = step.seconds
            if documents := add_up(counts.get("documents", counts.get("kept", 0))):
                self.values["stage_documents_per_second"][step.name,] = documents / step.seconds
                if read := add_up(counts.get("kept_bytes", counts.get("bytes", 0))):
                    self.values["stage_bytes_per_second"][step.name,] = read / step.seconds
        if step.name == "train":
            losses = {name: loss for name, loss in counts["losses"].items() if name not in ("step", "tokens")}
            self.values["train_loss"] = {(name,): loss for name, loss in losses.items()}
            self.values["train_tokens_per_second"][()] = step.rate
        self._write()

    def close(self, error: BaseException | None) -> None:
        flow, now = (self.run.flow,), time.time()
        self.values["run_success"][flow] = float(error is None)
        self.values["run_end_timestamp_seconds"][flow] = now
        self.values["run_seconds"][flow] = now - self.began
        if error is None:
            self.values["run_last_success_timestamp_seconds"][flow] = now
        # What stands already is written, should the workspace not answer.
        self._write()
        self._measure_workspace()
        self._measure_champion(now)
        self._write()

    def _measure_workspace(self) -> None:
        workspace, night = self.run.workspace, self.run.night
        self.values["workspace_bytes"][()] = workspace.store.size()
        if night in workspace.nights.published():
            counts = workspace.nights.load(night).counts
            self.values["night_documents"] = {
                ("read",): add_up(counts.get("ingest", {}).get("documents", 0)),
                ("kept",): add_up(counts.get("dedup", {}).get("kept", 0)),
                ("removed",): sum(add_up(one["removed"]) for one in counts.values() if "removed" in one),
            }

    def _measure_champion(self, now: float) -> None:
        store, nights = self.run.workspace.store, self.run.workspace.nights.published()
        if not store.exists(layout.CHAMPION):
            return
        pointer = read_json(store, layout.CHAMPION)
        champion, night = pointer["model"], pointer["night"]
        if (champion,) not in self.values["champion_timestamp_seconds"]:
            since = now if night == self.run.night else _day(night, now)
            self.values["champion_timestamp_seconds"] = {(champion,): since}
        if night in nights:
            self.values["champion_age_nights"][()] = len(nights) - 1 - nights.index(night)
        for model, bits in self.bits.items():
            roles = {"champion": model == champion, "tonight": model.rsplit("-", 2)[0] == self.run.night}
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
