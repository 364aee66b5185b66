"""The steps of a night run over a sample and measured, in a scratch workspace through which the real one shows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow.compute as pc
from numba.core import event

from slimpajama.core.config import Config
from slimpajama.core.progress import peak_bytes
from slimpajama.corpus.pipeline import BY_NAME, prepare
from slimpajama.corpus.sources.discover import InputFile, Plan
from slimpajama.corpus.sources.records import Batch, ReadOptions
from slimpajama.ops.forecast.sample import PIECE, Sample
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Context

NIGHT = "dry-run"


@dataclass(slots=True)
class Cost:
    """What a step took."""

    grows_with: str
    """`text`, `cleaned` or `kept` for the bytes of these; `once` for none."""
    seconds: float
    cpu_seconds: float
    published: float
    """Bytes of its published files."""
    work: float
    """Bytes of its files that are deleted when the night is published."""


@dataclass(slots=True)
class Pass:
    """One run of all steps over a part of the sample."""

    costs: dict[str, Cost]
    manifests: dict[str, Manifest]
    read: dict[InputFile, tuple[int, int, int]]
    """Documents, bytes of text and broken records by file."""
    in_flight: float
    """The most bytes of text that the workers hold at once."""
    peak_bytes: float
    """Peak of the process's resident set so far."""

    def by_source(self, stage: str, count: str) -> dict[str, int]:
        """Return one of a step's counts; empty where the step did not run."""
        return dict(self.manifests[stage].counts.get(count, {})) if stage in self.manifests else {}


def run_pass(scratch: Workspace, sample: Sample, every: int) -> Pass:
    """Run the steps over every n-th piece of the sample."""
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
        for manifest in prepare(Context(scratch, cfg, NIGHT), todo=todo, take=take):
            after = _clocks(compiling)
            work = sum(entry.bytes for entry in manifest.entries(f"{layout.night(NIGHT).work()}/"))
            published = sum(entry.bytes for entry in manifest.files) - work
            seconds, cpu_seconds = (max(0.0, end - start) for start, end in zip(before, after, strict=True))
            costs[manifest.name] = Cost(BY_NAME[manifest.name].grows_with, seconds, cpu_seconds, published, work)
            manifests[manifest.name] = manifest
            before = _clocks(compiling)
    text = sum(n_bytes for _, n_bytes, _ in counted.values())
    return Pass(costs, manifests, counted, in_flight(cfg, text), peak_bytes())


def in_flight(cfg: Config, text: float) -> float:
    """Return the most bytes of text that the workers hold at once: a part or a shard each."""
    return min(text, cfg.run.threads() * max(cfg.ingest.part_mb, cfg.shards.target_mb) * 1e6)


def _settings(sample: Sample, every: int) -> Config:
    """Return settings with parts and shards so small that every worker gets some of them."""
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
    """Return wall and processor time without the compilation of kernels, which the next run finds compiled."""
    lost = compiling.duration if compiling.done else 0.0
    return time.perf_counter() - lost, time.process_time() - lost
