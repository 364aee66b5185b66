"""The stage between documents and shards: `documents/part-*.parquet` in, words with content flags out.

Each part is one unit of work, so its words lie under the part's own name and in its row order.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from slimpajama.config import Config
from slimpajama.manifest import Counts, Manifest, Part, Stage
from slimpajama.night import work_folder
from slimpajama.progress import track
from slimpajama.schema import WORDS
from slimpajama.storage import Store, read_table
from slimpajama.text.segment import Segmenter, engine_versions
from slimpajama.text.stopwords import content_flags

__all__ = ["segment"]


def segment(store: Store, cfg: Config, night: str, documents: Manifest) -> Manifest:
    """Cut tonight's kept documents into words.

    Args:
        store: The workspace.
        cfg: `text` is used.
        night: The night the documents belong to.
        documents: Manifest of the deduplication.

    Returns:
        The stage's manifest. Its files have the schema WORDS and the names of the documents' files; its counts
        are `documents`, `bytes`, `words` and `content_words`, each by language.
    """
    about = {"version": 1, "settings": cfg.text, "engine": engine_versions(cfg.text), "documents": documents.digest}
    stage = Stage(store, "segment", work=work_folder(night, "segment"), about=about)
    if stage.finished:
        return stage.result
    segmenter = Segmenter(cfg.text)
    entries = [entry for entry in documents.files if entry.path.startswith(f"nights/{night}/documents/")]
    units = [(entry.path.rsplit("/", 1)[1].removesuffix(".parquet"), entry.path) for entry in entries]

    with track("segment", total=sum(documents.counts.get("kept_bytes", {}).values()), unit="B") as bar:

        def make(path: str) -> Part:
            table = read_table(store, path, ["id", "text", "lang", "n_bytes"])
            words, counts = _words(table, segmenter, cfg)
            bar.advance(sum(counts["bytes"].values()))
            return Part({f"{stage.work}/{path.rsplit('/', 1)[1]}": words}, counts)

        stage.map(units, make, cfg.run.threads())
    return stage.finish()


def _words(table: pa.Table, segmenter: Segmenter, cfg: Config) -> tuple[pa.Table, Counts]:
    """Return the WORDS rows of DOCUMENTS rows, and what was counted on the way, by language."""
    counts = {name: Counter[str]() for name in ("documents", "bytes", "words", "content_words")}
    words, content = [], []
    columns = (table[name].to_pylist() for name in ("text", "lang", "n_bytes"))
    for text, lang, n_bytes in zip(*columns, strict=True):
        cut = segmenter.cut(text)
        flags = content_flags(cut, cfg.text)
        words.append(cut)
        content.append(flags)
        for name, amount in (("documents", 1), ("bytes", n_bytes), ("words", len(cut)), ("content_words", sum(flags))):
            counts[name][lang] += amount
    rows = {"id": table["id"], "words": words, "content": content}
    return pa.table(rows, schema=WORDS), {name: dict(counter) for name, counter in counts.items()}
