"""Which pieces of which files stand for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from slimpajama.core.config import Config, SourceConfig
from slimpajama.corpus.sources.discover import plan
from slimpajama.ops.forecast import sample
from slimpajama.ops.forecast.sample import Sample

AddLines = Callable[[str, Iterable[int]], None]


def drawn(cfg: Config) -> Sample:
    return Sample(cfg, plan(cfg, (), quick=True))


def texts(found: Sample, every: int = 1) -> list[str]:
    """Return the texts of a sample."""
    pieces = [piece for some in found.every(every).values() for piece in some]
    return [text for piece in pieces for batch in piece.read() for text in batch.table["text"].to_pylist()]


@pytest.fixture
def large(cfg: Config, add_lines: AddLines) -> Config:
    """Settings over one file of 3,000 different lines."""
    add_lines("large.jsonl", range(3000))
    return replace(cfg, ingest=replace(cfg.ingest, sources=(SourceConfig(name="large", uri="raw/large.jsonl"),)))


def test_a_small_corpus_is_taken_whole(cfg: Config) -> None:
    found = drawn(cfg)
    assert {file.share for file in found.files.values()} == {1.0}
    assert len(texts(found)) == 561


def test_pieces_come_from_all_over_a_file_and_none_comes_twice(large: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = texts(drawn(large))
    monkeypatch.setattr(sample, "SAMPLE_MB", 0.2)
    monkeypatch.setattr(sample, "PIECE", 2000)
    found = drawn(large)
    places = [everything.index(text) for text in texts(found)]
    assert len(places) == len(set(places))
    assert max(b - a for a, b in zip([0, *places], [*places, 3000], strict=True)) < 300
    (file,) = found.files.values()
    assert file.share == pytest.approx(len(places) / 3000, rel=0.1)
    assert texts(found) == texts(drawn(large)), "the same sources, the same sample"


def test_a_file_too_large_to_pass_through_is_met_at_all_its_places(
    large: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = texts(drawn(large))
    for name, value in {"SAMPLE_MB": 0.1, "SCAN_MB": 0.05, "PIECE": 2000}.items():
        monkeypatch.setattr(sample, name, value)
    found = drawn(large)
    places = [everything.index(text) for text in texts(found)]
    assert places[0] < 300
    assert places[-1] > 2700
    (file,) = found.files.values()
    assert file.share == pytest.approx(len(places) / 3000, rel=0.1)


def test_the_small_pass_is_a_part_of_the_sample(cfg: Config) -> None:
    found = drawn(cfg)
    assert set(texts(found, 8)) < set(texts(found))


def test_an_empty_file_is_a_broken_record_and_no_error(cfg: Config, tmp_path: Path) -> None:
    (tmp_path / "raw" / "empty.jsonl").write_bytes(b"")
    rules = [
        bad.rule
        for some in drawn(cfg).every(1).values()
        for piece in some
        for batch in piece.read()
        for bad in batch.rejected
    ]
    assert rules == ["not-json", "empty-file"]


def test_many_empty_files_are_sampled_like_others(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    for number in range(9):
        (tmp_path / "empty" / f"{number}.jsonl").touch()
    monkeypatch.setattr(sample, "MAX_FILES", 4)
    sources = (SourceConfig(name="empty", uri="empty/*"),)
    assert len(drawn(replace(cfg, ingest=replace(cfg.ingest, sources=sources))).files) == 4
