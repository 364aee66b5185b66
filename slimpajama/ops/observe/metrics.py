"""A run's figures for Prometheus, in a file that node_exporter's textfile collector reads.

The file outlives the run: what a run does not measure, such as the last success of a night when one fails, stays as
the file had it. All are gauges; a rate is that of the last time. One file a workspace.
"""

import datetime as dt
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from slimpajama.core.errors import printable
from slimpajama.ops.observe.reader import Reader, StepRun
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, total
from slimpajama.workspace.open import Workspace
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


class Metrics(Reader):
    """Keeps the figures and writes the file at the end of each step and of the run."""

    name = "metrics"

    def __init__(self, path: str, workspace: Workspace, night: str, flow: str) -> None:
        super().__init__(workspace, night, flow)
        self.path, self.label = path, printable(workspace.uri, 1000)
        self.registry = CollectorRegistry()
        self.gauges = {
            name: Gauge(PREFIX + name, meaning, ("workspace", *labels), registry=self.registry)
            for name, (labels, meaning) in METRICS.items()
        }
        self.began = time.time()
        self.bits: dict[str, dict[str, float]] = {}

    def begun(self) -> None:
        if not Path(self.path).exists():
            return
        for family in text_string_to_metric_families(Path(self.path).read_text(encoding="utf-8")):
            name = family.name.removeprefix(PREFIX)
            for sample in family.samples if name in METRICS else ():
                if sample.labels["workspace"] == self.label:
                    self.gauges[name].labels(**sample.labels).set(sample.value)

    def manifest_met(self, manifest: Manifest) -> None:
        for entry in manifest.files if manifest.name == "evaluate" else ():
            model = layout.place(entry.path).owner
            if entry.path.startswith(layout.model(model).evaluation(self.night).within("")):
                self.bits[model] = manifest.counts["bits_per_byte"]

    def finished_step(self, step: StepRun, manifest: Manifest) -> None:
        counts = manifest.counts
        if step.seconds is not None:
            self._set("stage_seconds", step.seconds, step.name)
            if documents := total(counts.get("documents", counts.get("kept", 0))):
                self._set("stage_documents_per_second", documents / step.seconds, step.name)
                if read := total(counts.get("kept_bytes", counts.get("bytes", 0))):
                    self._set("stage_bytes_per_second", read / step.seconds, step.name)
        if step.name == "train":
            self.gauges["train_loss"].clear()
            for name, loss in counts["losses"].items():
                if name not in ("step", "tokens"):
                    self._set("train_loss", loss, name)
            self._set("train_tokens_per_second", step.rate)
        write_to_textfile(self.path, self.registry)

    def ended(self, error: BaseException | None) -> None:
        flow, now = self.flow, time.time()
        self._set("run_success", float(error is None), flow)
        self._set("run_end_timestamp_seconds", now, flow)
        self._set("run_seconds", now - self.began, flow)
        if error is None:
            self._set("run_last_success_timestamp_seconds", now, flow)
        # Should the workspace not answer, this stands already.
        write_to_textfile(self.path, self.registry)
        self._measure_workspace()
        self._measure_champion(now)
        write_to_textfile(self.path, self.registry)

    def _measure_workspace(self) -> None:
        workspace, night = self.workspace, self.night
        self._set("workspace_bytes", workspace.store.size())
        if night in workspace.nights.published():
            counts = workspace.nights.load(night).counts
            removed = sum(total(one["removed"]) for one in counts.values() if "removed" in one)
            self._set("night_documents", total(counts.get("ingest", {}).get("documents", 0)), "read")
            self._set("night_documents", total(counts.get("dedup", {}).get("kept", 0)), "kept")
            self._set("night_documents", removed, "removed")

    def _measure_champion(self, now: float) -> None:
        store, nights = self.workspace.store, self.workspace.nights.published()
        if not store.exists(layout.CHAMPION):
            return
        pointer = read_json(store, layout.CHAMPION)
        champion, night = pointer["model"], pointer["night"]
        since, labels = "champion_timestamp_seconds", {"workspace": self.label, "model": champion}
        if self.registry.get_sample_value(PREFIX + since, labels) is None:
            self.gauges[since].clear()
            self._set(since, now if night == self.night else _day(night, now), champion)
        if night in nights:
            self._set("champion_age_nights", len(nights) - 1 - nights.index(night))
        for model, bits in self.bits.items():
            roles = {"champion": model == champion, "tonight": model.rsplit("-", 2)[0] == self.night}
            for role in (role for role, holds in roles.items() if holds):
                for language, value in bits.items():
                    self._set("bits_per_byte", value, language, role)

    def _set(self, name: str, value: float, *labels: str) -> None:
        self.gauges[name].labels(self.label, *labels).set(value)


def _day(night: str, otherwise: float) -> float:
    """Return the day that a night is named after, in seconds."""
    try:
        return dt.datetime.fromisoformat(f"{night[:10]}T00:00:00+00:00").timestamp()
    except ValueError:
        return otherwise
