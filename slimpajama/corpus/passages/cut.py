"""Documents without the passages that are cut out of them."""

from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import CleanConfig
from slimpajama.core.schema import CLEANED, QUALITY, removed_rows
from slimpajama.corpus.clean.quality import measure
from slimpajama.corpus.clean.rules import too_short

RULE = "repeated-passages"


def cut(cleaned: pa.Table, passages: pa.Table, cfg: CleanConfig, night: str) -> tuple[pa.Table, pa.Table, int]:
    """Cut passages out of documents.

    Args:
        cleaned: CLEANED rows.
        passages: What is cut out, PASSAGES rows in the order of the documents.
        cfg: Its rules of length say which documents are too short then.
        night: Which removes these.

    Returns:
        CLEANED rows of the documents that lost a passage, with text, language and signals of what is left; REMOVED rows
        of those that are too short, with the whole text; and how many bytes of text both have lost.
    """
    rows = passages.select(["id", "begin", "end"]).to_pylist()
    of_documents = groupby(rows, lambda row: row["id"])
    spans = {id_: [(row["begin"], row["end"]) for row in some] for id_, some in of_documents}
    whole = cleaned.filter(pc.is_in(cleaned["id"], value_set=pa.array(spans)))
    left = [without(row["text"], spans[row["id"]]) for row in whole.select(["id", "text"]).to_pylist()]
    texts = pa.array(left, pa.large_string())
    langs, n_chars, quality = measure(texts)
    signals = quality.to_pylist()
    verdicts = [too_short(signal, lang, cfg) for signal, lang in zip(signals, langs, strict=True)]
    stays = pa.array([verdict is None for verdict in verdicts], pa.bool_())
    changed: dict[str, Any] = {
        "text": texts,
        "lang": pa.array(langs, pa.string()),
        "n_chars": pa.array(n_chars),
        "n_bytes": pc.binary_length(texts),
        "quality": quality.cast(QUALITY),
    }
    columns = [changed.get(name, whole[name]) for name in CLEANED.names]
    shortened = pa.table(columns, schema=CLEANED).filter(stays)
    why = {
        "rule": pa.repeat(RULE, len(whole)),
        "value": pa.array([verdict.value if verdict else "" for verdict in verdicts], pa.string()),
        "threshold": pa.array([verdict.threshold if verdict else "" for verdict in verdicts], pa.string()),
    }
    lost = pc.invert(stays)
    removed = removed_rows(whole, night, "passages", why).filter(lost)
    taken = (pc.sum(whole["n_bytes"]).as_py() or 0) - (pc.sum(shortened["n_bytes"]).as_py() or 0)
    return shortened, removed, taken


def without(text: str, spans: list[tuple[int, int]]) -> str:
    """Return a text without some spans of its characters, which are in order; no white space is left at its ends."""
    begins = [0, *(end for _, end in spans)]
    ends = [*(begin for begin, _ in spans), len(text)]
    return "".join(text[begin:end] for begin, end in zip(begins, ends, strict=True)).strip()
