"""The cost forecast of a night, computed from what a sample took.

- Documents and bytes: a ratio by source, which is exact where the sample is everything.
- Kept: cleaning's share is taken as it is. A sample shows only some of the duplicates that lie far apart, so the number
  of clusters is extrapolated (`distinct`), and the sample's plain share is the most that can be kept. Where the two
  differ much, no error is promised: a sample says little about versions of a document that change slowly.
- Time: three passes separate what is paid once from what grows: an eighth of the sample for the first time, the same
  again, the whole sample. The first compilation of kernels does not count, since the next run finds them compiled; nor
  does the start of Prefect.
- Memory: what the sample took, plus the slope between the passes for parts and shards of full size, plus what
  deduplication holds of each document.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import polars as pl

from slimpajama.core.config import Config
from slimpajama.core.progress import silent, track
from slimpajama.core.temporary import temporary_folder
from slimpajama.corpus.ingest import plan_night
from slimpajama.corpus.losses import Finding, findings
from slimpajama.corpus.sources.discover import Plan
from slimpajama.ops.forecast.passes import NIGHT, Cost, Pass, in_flight, run_pass
from slimpajama.ops.forecast.sample import Sample
from slimpajama.workspace import layout
from slimpajama.workspace.open import Workspace, find_workspace, scratch_workspace
from slimpajama.workspace.parquet import read_table

# How far a figure may be off in a real run; docs/benchmarks/forecast.md has how far it was.
ERROR = 0.25
# Each pass takes every n-th piece of the sample.
PASSES = (8, 8, 1)
# So many neighbouring records of a file are one place.
PLACE = 16
# A cluster that is met at more places is not rare.
ABUNDANT = 10
DOCUMENT_BYTES = 125
# The index has an id and a position for each token, and one number for each piece of the vocabulary.
TOKEN_BYTES, PIECE_BYTES = 6, 8
# Memory that Prefect's client takes beside the steps.
PREFECT_BYTES = 100e6


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceForecast:
    """What is expected of one source."""

    name: str
    files: int
    bytes: int
    """Size of its new and changed files."""
    sampled: float
    """Share of these bytes that was read; 1 for everything."""
    documents: float
    text_bytes: float
    broken: float
    """Records that cannot be read."""
    cleaned: float
    """Documents that cleaning keeps."""
    cleaned_bytes: float
    kept: float
    """Documents that deduplication keeps."""
    kept_at_most: float
    """The same, if there are no more duplicates far apart than nearby."""
    kept_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected of a night."""

    plan: Plan
    problems: tuple[Finding, ...] = ()
    """What went wrong in the sample, by source and rule."""
    sources: tuple[SourceForecast, ...] = ()
    tokens: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by step, with the configured workers."""
    cpu_seconds: float = 0.0
    disk_bytes: float = 0.0
    """Size of the published files."""
    peak_disk_bytes: float = 0.0
    """The same with the work folder, which is deleted when the night is published."""
    memory_bytes: float = 0.0
    """Peak of the resident set."""
    sampled_bytes: int = 0
    """Text that went through the steps for this forecast."""

    @property
    def sure(self) -> bool:
        """Whether the error holds for what is kept, too: few duplicates, if any, lie beyond what the sample shows."""
        return self.total("kept_at_most") <= (1 + ERROR) * self.total("kept")

    @property
    def whole(self) -> bool:
        """Whether the sample was everything, so that documents and bytes are exact."""
        return all(source.sampled == 1 for source in self.sources)

    def total(self, name: str) -> float:
        """Return a figure of the sources added up."""
        return float(sum(getattr(source, name) for source in self.sources))


def forecast(cfg: Config) -> Forecast:
    """Return what `prepare` would read, keep and cost now. Nothing is written to the workspace.

    Raises:
        InputError: A source cannot be listed, or a file changed while it was read.
    """
    base = find_workspace(cfg.workspace)
    found = plan_night(base, cfg, quick=True)
    if not found.files:
        return Forecast(plan=found)
    with track("sample", total=len(PASSES), unit="passes") as bar, temporary_folder() as folder:
        sample, passes = Sample(cfg, found), []
        # The steps' messages are about the sample: a reader would take them for the night's.
        with silent():
            for number, every in enumerate(PASSES):
                scratch = scratch_workspace(f"{folder}/{number}", base)
                passes.append(run_pass(scratch, sample, every))
                bar.advance()
        expected = _estimate(found, sample, passes, _clusters(scratch, passes[-1]))
        read = passes[-1].manifests["ingest"]
        return replace(expected, problems=tuple(findings(scratch.store, NIGHT, read, {"ingest": read.counts})))


def _estimate(found: Plan, sample: Sample, passes: list[Pass], clusters: pl.DataFrame) -> Forecast:
    cfg, full = sample.cfg, passes[-1]
    sources = tuple(
        _source(sample, full, name, clusters) for name in dict.fromkeys(source for source, _ in sample.groups)
    )
    expected = Forecast(plan=found, sources=sources)
    whole = {of: expected.total(f"{of}_bytes") for of in ("text", "cleaned", "kept")} | {"once": 1.0}
    counts = {"text": ("ingest", "bytes"), "cleaned": ("clean", "bytes"), "kept": ("dedup", "kept_bytes")}
    sizes = [
        {of: float(sum(p.by_source(*count).values())) for of, count in counts.items()} | {"once": 1.0} for p in passes
    ]

    def grown(name: str, figure: Callable[[Cost], float]) -> float:
        """Return a figure of a step for the whole night."""
        of = full.costs[name].grows_with
        cold, small, large = (figure(p.costs[name]) if name in p.costs else 0.0 for p in passes)
        more, rise = sizes[-1][of] - sizes[1][of], large - small
        slope = max(0.0, rise / more if more > sizes[1][of] else large / max(sizes[-1][of], 1.0))
        return max(0.0, cold - small) + large + slope * max(0.0, whole[of] - sizes[-1][of])

    seconds = {name: grown(name, lambda cost: cost.seconds) for name in full.costs}
    seconds["ingest"] += sample.scan_seconds / cfg.run.threads()
    scale = {of: whole[of] / max(sizes[-1][of], 1.0) for of in whole}
    published = sum(cost.published * scale[cost.grows_with] for cost in full.costs.values())
    work = sum(cost.work * scale[cost.grows_with] for cost in full.costs.values())
    shards = full.manifests.get("shards")
    by_split = {split: sum(counts.values()) for split, counts in shards.counts["tokens"].items()} if shards else {}
    pieces = full.manifests["tokenizer"].counts["pieces"] if shards else 0
    published += TOKEN_BYTES * scale["kept"] * by_split.get("train", 0) + PIECE_BYTES * pieces
    return replace(
        expected,
        tokens=sum(by_split.values()) * scale["kept"],
        seconds=seconds,
        cpu_seconds=sum(grown(name, lambda cost: cost.cpu_seconds) for name in full.costs) + sample.scan_seconds,
        disk_bytes=published,
        peak_disk_bytes=published + work,
        memory_bytes=_memory(cfg, passes, expected),
        sampled_bytes=int(sizes[-1]["text"]),
    )


def _memory(cfg: Config, passes: list[Pass], expected: Forecast) -> float:
    _, small, full = passes
    slope = (full.peak_bytes - small.peak_bytes) / max(full.in_flight - small.in_flight, 1e6)
    more = max(0.0, in_flight(cfg, expected.total("text_bytes")) - full.in_flight)
    return full.peak_bytes + slope * more + DOCUMENT_BYTES * expected.total("documents") + PREFECT_BYTES


def _source(sample: Sample, full: Pass, name: str, clusters: pl.DataFrame) -> SourceForecast:
    documents = text_bytes = broken = sampled = 0.0
    groups = {pages: files for (source, pages), files in sample.groups.items() if source == name}
    for pages, files in groups.items():
        chosen = {file: sample.files[file].share for file in files if file in sample.files}
        by_bytes = sum(file.bytes for file in files) / max(sum(file.bytes for file in chosen), 1)
        by_record = len(files) / len(chosen) if pages else by_bytes
        for file, share in chosen.items():
            counts = full.read.get(file, (0, 0, 0))
            documents += counts[0] / share * by_record
            text_bytes += counts[1] / share * by_bytes
            broken += counts[2] / share * by_record
            sampled += file.bytes * share
    all_files = [file for files in groups.values() for file in files]
    n_bytes = sum(file.bytes for file in all_files)
    read = [full.read[file] for file in all_files if file in full.read]
    # Forgotten documents are in these counts, too: ingest refuses them after they were read.
    got, got_bytes = (sum(counts[n] for counts in read) for n in (0, 1))
    left, left_bytes = (full.by_source("clean", count).get(name, 0) for count in ("documents", "bytes"))
    cleaned = documents * left / max(got, 1)
    cleaned_bytes = text_bytes * left_bytes / max(got_bytes, 1)
    share = min(1.0, left / max(cleaned, 1e-9))
    met = clusters.filter(pl.col("source") == name)
    more = min(distinct(met["places"].to_list(), share) / max(len(met), 1), 1 / share) if left else 0.0
    kept, kept_bytes = (full.by_source("dedup", count).get(name, 0) for count in ("kept", "kept_bytes"))
    return SourceForecast(
        name=name,
        files=len(all_files),
        bytes=n_bytes,
        sampled=sampled / n_bytes if n_bytes else 1.0,
        documents=documents,
        text_bytes=text_bytes,
        broken=broken,
        cleaned=cleaned,
        cleaned_bytes=cleaned_bytes,
        kept=kept * more,
        kept_at_most=kept / share if left else 0.0,
        kept_bytes=kept_bytes * more * share * cleaned_bytes / max(left_bytes, 1),
    )


def _clusters(scratch: Workspace, full: Pass) -> pl.DataFrame:
    """Return the sample's duplicate clusters by `source`, with the `places` that each was met at."""
    place, listed = layout.night(NIGHT), full.manifests["dedup"]

    def rows(prefix: str, *columns: str) -> pl.DataFrame:
        found = [pl.DataFrame(read_table(scratch.store, entry, list(columns))) for entry in listed.entries(prefix)]
        return pl.concat([pl.DataFrame(schema=dict.fromkeys(columns, pl.String)), *found])

    origin = pl.concat([rows(prefix, "id", "source", "uri") for prefix in (place.documents, f"{place.removed}dedup-")])
    # It is null where records have ids of their own.
    number = pl.col("uri").str.extract(r"#(\d{1,15})$").cast(pl.Int64)
    return (
        rows(place.minhash, "id", "cluster")
        .join(origin, on="id", maintain_order="left")
        .with_columns(file=pl.col("uri").str.replace(r"#[^#]*$", ""))
        .with_columns(place=pl.coalesce(number, pl.int_range(pl.len()).over("source", "file")) // PLACE)
        .group_by("source", "cluster")
        .agg(places=pl.struct("file", "place").n_unique())
        .sort("source", "cluster")
    )


def distinct(places: list[int], share: float) -> float:
    """Estimate how many clusters all places hold from those that a share of the places holds.

    Clusters that are met at more than `ABUNDANT` places are taken to be all in the sample. Of the rare ones, those that
    were met once tell how many were not met at all; there are more of these where clusters differ more in size. Places
    are counted, not documents: a text that repeats among neighbours does so everywhere.

    Args:
        places: For each cluster of the sample, the number of sampled places that it was met at.
        share: Share of all places that was sampled, above 0 and at most 1.

    Source: Haas et al. 1995, "Sampling-based estimation of the number of distinct values of an attribute" (Duj2a).
    """
    rare = [n for n in places if n <= ABUNDANT]
    if share >= 1 or not rare:
        return float(len(places))
    met, once = sum(rare), rare.count(1)
    missed = once * (1 - share)
    equal = met * len(rare) / (met - missed)  # Duj1
    variation = max(0.0, equal * (sum(n * (n - 1) for n in rare) / met**2 + share / met) - 1)
    unequal = met / (met - missed) * (len(rare) - missed * math.log(1 - share) * variation / share)
    return len(places) - len(rare) + unequal
