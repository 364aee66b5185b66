"""A small corpus in two languages and in every way that a sample is drawn: pages, lines, tables, packed or not."""

from __future__ import annotations

import csv
import gzip
import html
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slimpajama.core.config import CleanConfig, Config, IngestConfig, RunConfig, SourceConfig, TokenizerConfig

ZH = "研究 图书馆 整理 一批 旧报纸 天气 数据 结果 令人 满意 今年 春天 老师 检查 古代 地图 昨天 下午".split()
EN = "the model reads data and learns today while weather stays fine over old maps near a quiet town".split()


def text(seed: int, n_words: int = 60) -> str:
    """Return a text that only its seed has: Chinese for even ones, English for odd ones."""
    draw = random.Random(seed)
    words = [draw.choice((ZH, EN)[seed % 2]) + draw.choice(["", "", f"{draw.randrange(999)}"]) for _ in range(n_words)]
    return "，".join(words) + "。" if seed % 2 == 0 else " ".join(words) + "."


def write_lines(path: Path, texts: list[str]) -> None:
    """Write JSON lines, packed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    """Return settings over `tmp_path/raw`; the workspace does not exist yet."""
    raw = tmp_path / "raw"
    texts = [text(seed) for seed in range(200)]
    write_lines(raw / "a.jsonl.gz", [*texts, *texts[:30], *(one + "（转载）" for one in texts[30:60]), "太短"])
    write_lines(raw / "b.jsonl", [text(1000 + seed) for seed in range(100)])
    with (raw / "b.jsonl").open("a", encoding="utf-8") as file:
        file.write("broken\n")
    with (raw / "c.csv").open("w", encoding="utf-8", newline="") as rows:
        csv.writer(rows).writerows([["text"], *([text(2000 + seed)] for seed in range(80))])
    pq.write_table(pa.table({"text": [text(3000 + seed) for seed in range(80)]}), raw / "d.parquet", row_group_size=40)
    for seed in range(20):
        (raw / f"{seed:02d}.txt").write_text(text(4000 + seed), encoding="utf-8")
        (raw / f"{seed:02d}.html").write_text(f"<p>{html.escape(text(5000 + seed))}</p>", encoding="utf-8")
    sources = tuple(
        SourceConfig(name=name, uri=uri)
        for name, uri in {
            "lines": "raw/*.jsonl*",
            "rows": "raw/*.csv",
            "table": "raw/*.parquet",
            "notes": "raw/*.txt",
            "pages": "raw/*.html",
            "none": "raw/*.warc",
        }.items()
    )
    return Config(
        workspace=str(tmp_path / "workspace"),
        ingest=IngestConfig(sources=sources),
        clean=CleanConfig(min_chars=50, min_chars_han=30),
        tokenizer=TokenizerConfig(vocab_size=400),
        run=RunConfig(workers=1, source_root=str(tmp_path)),
    )


@pytest.fixture
def add_lines(tmp_path: Path) -> Callable[[str, Iterable[int]], None]:
    """Return a function that writes the texts of seeds as a file of JSON lines beside the others."""
    return lambda name, seeds: write_lines(tmp_path / "raw" / name, [text(seed) for seed in seeds])
