"""The stages of a night over a sample, measured, in a temporary workspace through which the real one shows."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pyarrow.compute as pc
from numba.core import event

from slimpajama.core.config import Config
from slimpajama.corpus.ingest import ingest
from slimpajama.corpus.pipeline import run_stages
from slimpajama.corpus.sources.discover import InputFile, Plan
from slimpajama.corpus.sources.records import Batch, ReadOptions
from slimpajama.ops.forecast.sample import PIECE, Sample
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import Store

NIGHT = "dry-run"
WORK = f"nights/{NIGHT}/work/"
GROWS_WITH = {
    "ingest": "text",
    "clean": "text",
    "compare": "cleaned",
    "decontaminate": "cleaned",
    "dedup": "cleaned",
    "segment": "kept",
    "tokenizer": "once",
    "shards": "kept",
}
"""What a stage's work grows with: `text`, `cleaned` or `kept` bytes, or nothing; a tokenizer learns from a bounded
number of words."""


@dataclass(slots=True)
class Cost:
    """What a stage took."""

    grows_with: str
    seconds: float
    cpu_seconds: float
    published: float
    """Bytes of files."""
    work: float
    """Bytes of files that last until the night is published."""


@dataclass(slots=True)
class Pass:
    """One run of all stages over a part of the sample."""

    costs: dict[str, Cost]
    manifests: dict[str, Manifest]
    read: dict[InputFile, tuple[int, int, int]]
    """Documents, bytes of text and broken records by file."""
    in_flight: float
    """Bytes of text that the workers hold at most at once."""
    peak_bytes: float
    """Peak of the process's resident set so far."""

    def by_source(self, stage: str, count: str) -> dict[str, int]:
        """Return one of a stage's counts; empty where the stage did not run."""
        return dict(self.manifests[stage].counts.get(count, {})) if stage in self.manifests else {}


def run_pass(store: Store, sample: Sample, every: int) -> Pass:
    """Run the stages over every n-th piece of the sample."""
    chosen, cfg = sample.every(every), _settings(sample, every)
    counted: dict[InputFile, tuple[int, int, int]] = {}

    def take(file: InputFile, options: ReadOptions) -> Iterator[Batch]:
        documents = n_bytes = broken = 0
        for piece in chosen[file]:
            for batch in piece.read():
                documents += batch.table.num_rows
                n_bytes += pc.sum(pc.binary_length(batch.table["text"])).as_py() or 0
                broken += len(batch.rejected)
                yield batch
        counted[file] = documents, n_bytes, broken

    units: list[list[InputFile]] = []
    size = 0.0
    for file in chosen:
        if not units or size >= cfg.ingest.part_mb * 1e6:
            units, size = [*units, []], 0.0
        units[-1].append(file)
        size += sample.expected(file) * sample.files[file].share / every
    todo = Plan(tuple(tuple(unit) for unit in units))
    costs: dict[str, Cost] = {}
    manifests: dict[str, Manifest] = {}
    with event.install_listener("numba:compile", event.TimingListener()) as compiling:  # type: ignore[no-untyped-call]
        before = _clocks(compiling)
        for manifest in run_stages(Workspace(store), cfg, NIGHT, partial(ingest, todo=todo, take=take)):
            after = _clocks(compiling)
            work = sum(entry.bytes for entry in manifest.files if entry.path.startswith(WORK))
            published = sum(entry.bytes for entry in manifest.files) - work
            seconds, cpu_seconds = (max(0.0, end - start) for start, end in zip(before, after, strict=True))
            costs[manifest.name] = Cost(GROWS_WITH[manifest.name], seconds, cpu_seconds, published, work)
            manifests[manifest.name] = manifest
            before = _clocks(compiling)
    text = sum(n_bytes for _, n_bytes, _ in counted.values())
    return Pass(costs, manifests, counted, in_flight(cfg, text), _peak_bytes())


def in_flight(cfg: Config, text: float) -> float:
    """Return the bytes of text that workers hold at most at once: a part or a shard each."""
    return min(text, cfg.run.threads() * max(cfg.ingest.part_mb, cfg.shards.target_mb) * 1e6)


def _settings(sample: Sample, every: int) -> Config:
    """Return settings with parts and shards so much smaller that each worker has its share of them."""
    cfg = sample.cfg
    drawn = sum(sample.expected(file) * drawn.share for file, drawn in sample.files.items())
    parts = min(2 * cfg.run.threads(), max(1, round(sample.expected_bytes / 1e6 / cfg.ingest.part_mb)))
    size = max(drawn / every / parts, PIECE) / 1e6
    return replace(
        cfg,
        ingest=replace(cfg.ingest, part_mb=min(size, cfg.ingest.part_mb)),
        shards=replace(cfg.shards, target_mb=min(size, cfg.shards.target_mb)),
    )


def _clocks(compiling: event.TimingListener) -> tuple[float, float]:
    """Return wall and processor time without that of compiling kernels, which the next run finds compiled."""
    lost = compiling.duration if compiling.done else 0.0
    return time.perf_counter() - lost, time.process_time() - lost


def _peak_bytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
