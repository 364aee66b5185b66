"""The forecast, against what the steps then do; time is measured in benchmarks."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from steps import clean, compare, decontaminate, deduplicate, ingest, make_shards, make_tokenizer, segment

from slimpajama.core.config import Config, SourceConfig
from slimpajama.corpus.index import index_nights
from slimpajama.ops.forecast import Forecast, forecast, sample
from slimpajama.ops.forecast.estimate import distinct
from slimpajama.workspace.manifest import Manifest, load_manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store

AddLines = Callable[[str, Iterable[int]], None]


def real_night(cfg: Config, night: str) -> Manifest:
    """Run and publish a night as `flows.corpus` does."""
    store = open_store(cfg.workspace)
    raw = ingest(Workspace(store), cfg, night)
    cleaned = clean(Workspace(store), cfg, night, raw)
    compared = compare(Workspace(store), cfg, night, cleaned)
    contaminated = decontaminate(Workspace(store), cfg, night, cleaned, compared)
    documents = deduplicate(Workspace(store), cfg, night, cleaned, compared, contaminated)
    words = segment(Workspace(store), cfg, night, documents)
    tokenizer = make_tokenizer(Workspace(store), cfg, night, documents, words)
    shards = make_shards(Workspace(store), cfg, night, documents, words, tokenizer)
    return Nights(store).publish(
        night, [raw, cleaned, compared, contaminated, documents, words, tokenizer, shards], cfg
    )


def contents(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def figures(expected: Forecast) -> dict[str, tuple[float, ...]]:
    """Return what is counted, by source."""
    return {s.name: (s.documents, s.text_bytes, s.cleaned, s.kept, s.kept_bytes) for s in expected.sources}


def test_everything_counted_is_exact_where_the_sample_is_everything(cfg: Config) -> None:
    expected = forecast(cfg)
    published = real_night(cfg, "n1")
    counts = published.counts
    assert expected.whole
    assert {s.name: s.documents for s in expected.sources} == counts["ingest"]["documents"]
    assert {s.name: s.text_bytes for s in expected.sources} == counts["ingest"]["bytes"]
    assert {s.name: s.cleaned for s in expected.sources} == counts["clean"]["documents"]
    assert {s.name: s.kept for s in expected.sources} == counts["dedup"]["kept"]
    assert {s.name: s.kept_bytes for s in expected.sources} == counts["dedup"]["kept_bytes"]
    assert expected.tokens == sum(sum(split.values()) for split in counts["shards"]["tokens"].values())
    lines = next(s for s in expected.sources if s.name == "lines")
    assert (lines.documents, lines.broken, lines.cleaned) == (361, 1, 360)
    assert lines.kept == 300, "30 exact and 30 near-duplicates are in there"
    store = open_store(cfg.workspace)
    index_nights(Workspace(store), cfg)
    index = load_manifest(store, "nights/n1/index/manifest.json")
    assert index
    real = sum(entry.bytes for entry in [*published.files, *index.files])
    assert expected.disk_bytes == pytest.approx(real, rel=0.05), "parts are cut elsewhere"
    assert expected.peak_disk_bytes > expected.disk_bytes


def test_a_dry_run_makes_no_workspace_and_changes_none(cfg: Config, add_lines: AddLines) -> None:
    forecast(cfg)
    assert not Path(cfg.workspace).exists()
    real_night(cfg, "n1")
    before = contents(Path(cfg.workspace))
    add_lines("new.jsonl", range(20))
    forecast(cfg)
    assert contents(Path(cfg.workspace)) == before


def test_what_an_earlier_night_has_is_not_kept_again(cfg: Config, add_lines: AddLines) -> None:
    real_night(cfg, "n1")
    assert forecast(cfg).sources == ()
    add_lines("new.jsonl", [*range(20), *range(9000, 9015)])
    (source,) = forecast(cfg).sources
    assert (source.files, source.documents, source.kept) == (1, 35, 15)


def test_a_sample_forecasts_documents_and_bytes_of_every_format(
    cfg: Config, add_lines: AddLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        add_lines(f"e{number}.jsonl", range(10_000 * number + 20_000, 10_000 * number + 21_500))
    whole = figures(forecast(cfg))
    monkeypatch.setattr(sample, "SAMPLE_MB", 0.3)
    monkeypatch.setattr(sample, "PIECE", 2000)
    expected = forecast(cfg)
    assert not expected.whole
    assert expected.sampled_bytes < 500_000
    for name, found in figures(expected).items():
        assert found[:2] == pytest.approx(whole[name][:2], rel=0.15), name
    assert expected.total("kept") == pytest.approx(sum(row[3] for row in whole.values()), rel=0.15)
    assert next(s.documents for s in expected.sources if s.name == "notes") == pytest.approx(20), "one a file"


def test_the_same_sources_give_the_same_counts(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "SAMPLE_MB", 0.05)
    monkeypatch.setattr(sample, "PIECE", 2000)
    first, second = forecast(cfg), forecast(replace(cfg, run=replace(cfg.run, workers=2)))
    assert figures(first) == figures(second)
    assert not first.whole


def test_a_source_may_mix_files_that_are_documents_with_files_of_records(
    cfg: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = replace(cfg, ingest=replace(cfg.ingest, sources=(SourceConfig(name="all", uri="raw/*"),)))
    (whole,) = forecast(mixed).sources
    assert (whole.files, whole.documents, whole.broken, whole.sampled) == (44, 561, 1, 1.0)
    monkeypatch.setattr(sample, "SAMPLE_MB", 0.1)
    monkeypatch.setattr(sample, "PIECE", 2000)
    (some,) = forecast(mixed).sources
    assert some.sampled < 0.6
    assert some.documents == pytest.approx(561, rel=0.15)
    assert some.text_bytes == pytest.approx(whole.text_bytes, rel=0.15)


def test_a_night_of_which_nothing_is_kept_has_a_forecast(cfg: Config) -> None:
    expected = forecast(replace(cfg, clean=replace(cfg.clean, min_chars=100_000, min_chars_han=100_000)))
    assert expected.total("documents") == 561
    assert (expected.total("cleaned"), expected.total("kept"), expected.tokens) == (0, 0, 0)


def test_clusters_are_counted_where_all_places_are_sampled() -> None:
    assert distinct([1, 2, 1, 30, 5], share=1.0) == 5
    assert distinct([], share=0.5) == 0


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_clusters_that_lie_far_apart_are_extrapolated(copies: int) -> None:
    """Drawn without replacement, so equal copies are what the estimate is exact for: the rest is chance."""
    draw = random.Random(copies)
    places = draw.sample([n % 4000 for n in range(4000 * copies)], 1000 * copies)
    met = list(Counter(places).values())
    assert distinct(met, share=0.25) == pytest.approx(4000, rel=0.1)


def test_a_text_that_is_everywhere_does_not_make_the_others_duplicates() -> None:
    assert distinct([500, *[1] * 500], share=0.1) == pytest.approx(5001, rel=0.01)
