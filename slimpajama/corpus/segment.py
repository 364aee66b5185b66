"""The stage between documents and shards: `documents/part-*.parquet` in, the lengths of their words out.

Each part is one unit of work, so its words lie under the part's own name and in its row order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import Config
from slimpajama.core.errors import ConfigError
from slimpajama.core.progress import track
from slimpajama.core.schema import WORDS
from slimpajama.text.lattice import UserWord
from slimpajama.text.segment import Segmenter, engine_versions, parse_user_dictionary
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, Manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.stage import Part, Stage


def segment(workspace: Workspace, cfg: Config, night: str, documents: Manifest) -> Manifest:
    """Cut tonight's kept documents into words.

    Args:
        workspace: The workspace.
        cfg: `text` is used.
        night: The night the documents belong to.
        documents: Manifest of the deduplication.

    Returns:
        The stage's manifest. Its files have the schema WORDS and the names of the documents' files; its counts
        are `documents`, `bytes` and `words`, each by language.

    Raises:
        ConfigError: If the user dictionary cannot be read.
        InputError: If a line of it is no entry.
    """
    user_words = _user_words(cfg)
    engine = engine_versions(cfg.text, user_words)
    about = {"version": 3, "settings": cfg.text, "engine": engine, "documents": documents.digest}
    stage = Stage(workspace.store, "segment", work=layout.night(night).work("segment"), about=about)
    if stage.finished:
        return stage.result
    segmenter = Segmenter(cfg.text, user_words)
    entries = [entry for entry in documents.files if entry.path.startswith(f"nights/{night}/documents/")]
    units = [(entry.path.rsplit("/", 1)[1].removesuffix(".parquet"), entry.path) for entry in entries]

    total = sum(documents.counts.get("kept_bytes", {}).values())

    def make(path: str) -> Part:
        words, counts = _words(read_table(workspace.store, path, ["id", "text", "lang", "n_bytes"]), segmenter)
        return Part({f"{stage.work}/{path.rsplit('/', 1)[1]}": words}, counts)

    with track("segment", total=total, unit="B") as bar:
        stage.map(units, make, cfg.run.threads(), lambda _: bar.advance(total / len(units)))
    return stage.finish()


def _user_words(cfg: Config) -> tuple[UserWord, ...]:
    if not cfg.text.user_dictionary:
        return ()
    file = Path(cfg.run.source_root, cfg.text.user_dictionary)
    try:
        return parse_user_dictionary(file.read_bytes(), cfg.text.user_dictionary)
    except OSError as error:
        raise ConfigError(
            "the user dictionary cannot be read",
            where="text.user_dictionary",
            found=f"{file}: {error.strerror}",
            expected="a file of words, one a line",
        ) from None


def _words(table: pa.Table, segmenter: Segmenter) -> tuple[pa.Table, Counts]:
    """Return the WORDS rows of DOCUMENTS rows, and what was counted on the way, by language."""
    lengths = segmenter.lengths(table["text"].cast(pa.large_string()).combine_chunks())
    counted = pa.table(
        {
            "lang": table["lang"],
            "documents": np.ones(len(table), np.int64),
            "bytes": table["n_bytes"],
            "words": pc.binary_length(lengths),
        }
    )
    counts: Counts = {"documents": {}, "bytes": {}, "words": {}}
    for row in counted.group_by("lang").aggregate([(name, "sum") for name in counts]).to_pylist():
        for name, by_lang in counts.items():
            by_lang[row["lang"]] = row[f"{name}_sum"]
    return pa.table({"id": table["id"], "lengths": lengths}, schema=WORDS), counts
