"""The stages of a night over a sample, measured, in a temporary workspace through which the real one shows."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import pyarrow.compute as pc
from numba.core import event

from slimpajama.clean.stage import clean
from slimpajama.config import Config
from slimpajama.decontaminate.stage import decontaminate
from slimpajama.dedup.stage import compare, deduplicate
from slimpajama.forecast.sample import PIECE, Sample
from slimpajama.ingest.discover import InputFile, Plan
from slimpajama.ingest.stage import Take, ingest
from slimpajama.manifest import Manifest
from slimpajama.readers.records import Batch, Want
from slimpajama.shards.stage import make_shards, make_tokenizer
from slimpajama.storage import LocalStore, Store
from slimpajama.text.stage import segment

__all__ = ["NIGHT", "Cost", "Overlay", "Pass", "run_pass"]

NIGHT = "dry-run"
WORK = f"nights/{NIGHT}/work/"


def _stages(store: Store, cfg: Config, todo: Plan, take: Take) -> Iterator[tuple[str, Manifest]]:
    """Run the stages as `flows.corpus` does.

    Yields:
        Of each stage what its work grows with (`text`, `cleaned` or `kept` bytes, or nothing: `once`), and its
        manifest.
    """
    raw = ingest(store, cfg, NIGHT, todo, take)
    yield "text", raw
    cleaned = clean(store, cfg, NIGHT, raw)
    yield "text", cleaned
    compared = compare(store, cfg, NIGHT, cleaned)
    yield "cleaned", compared
    contaminated = decontaminate(store, cfg, NIGHT, cleaned, compared)
    yield "cleaned", contaminated
    documents = deduplicate(store, cfg, NIGHT, cleaned, compared, contaminated)
    yield "cleaned", documents
    if not documents.paths(f"nights/{NIGHT}/documents/"):
        return
    words = segment(store, cfg, NIGHT, documents)
    yield "kept", words
    tokenizer = make_tokenizer(store, cfg, NIGHT, documents, words)
    yield "once", tokenizer  # it learns from a bounded number of words
    yield "kept", make_shards(store, cfg, NIGHT, documents, words, tokenizer)


class Overlay(LocalStore):
    """A temporary workspace in which another one shows through: reads find both, writes stay here."""

    def __init__(self, root: str, base: Store | None) -> None:
        super().__init__(root)
        self._base = base

    def _below(self, path: str) -> Store | None:
        return None if super().exists(path) else self._base

    def exists(self, path: str) -> bool:
        """Whether either has it."""
        below = self._below(path)
        return below.exists(path) if below else super().exists(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Return it, or bytes of it, from here or from below."""
        below = self._below(path)
        return below.read(path, start, end) if below else super().read(path, start, end)

    def open(self, path: str) -> BinaryIO:
        """Open it here or below."""
        below = self._below(path)
        return below.open(path) if below else super().open(path)


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

    def take(file: InputFile, want: Want) -> Iterator[Batch]:
        documents = n_bytes = broken = 0
        for piece in chosen[file]:
            for batch in piece.read():
                documents += batch.table.num_rows
                n_bytes += pc.sum(pc.binary_length(batch.table["text"])).as_py() or 0
                broken += len(batch.bad)
                yield batch
        counted[file] = documents, n_bytes, broken

    units: list[list[InputFile]] = []
    size = 0.0
    for file in chosen:
        if not units or size >= cfg.ingest.part_mb * 1e6:
            units, size = [*units, []], 0.0
        units[-1].append(file)
        size += sample.expected(file) * sample.files[file].share / every
    costs: dict[str, Cost] = {}
    manifests: dict[str, Manifest] = {}
    with event.install_listener("numba:compile", event.TimingListener()) as compiling:  # type: ignore[no-untyped-call]
        before = _clocks(compiling)
        for grows_with, manifest in _stages(store, cfg, Plan(tuple(tuple(unit) for unit in units)), take):
            after = _clocks(compiling)
            work = sum(entry.bytes for entry in manifest.files if entry.path.startswith(WORK))
            published = sum(entry.bytes for entry in manifest.files) - work
            seconds, cpu_seconds = (max(0.0, end - start) for start, end in zip(before, after, strict=True))
            costs[manifest.name] = Cost(grows_with, seconds, cpu_seconds, published, work)
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
