"""What deduplication compares with besides its input: earlier nights, or the outcome of an earlier `dedup --out`."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import ConfigError, InputError
from slimpajama.core.logs import step_log
from slimpajama.corpus.dedup.columns import content_array, key_columns, large_strings, load_keys, load_texts
from slimpajama.corpus.dedup.documents import EarlierFile, HistoryBatch, LoadTexts
from slimpajama.corpus.dedup.kernel import VERSION, sketch
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import find_workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store

# Keys compare where these are equal.
SKETCH_SETTINGS = ("ngram_chars", "drop_punctuation", "sketch", "num_perm", "bands", "rows", "seed")


def of_nights(store: Store, nights: Mapping[str, Manifest], cfg: DedupConfig) -> Iterator[EarlierFile]:
    """Yield the documents of published nights, oldest night first; only files that their manifests list are read.

    A night that was sketched with other settings than `cfg`, or by another version, is sketched again from its texts.
    """
    settings = asdict(cfg)
    for name, manifest in nights.items():
        made_by = manifest.depends_on["stages"]["dedup"]
        same = (made_by["settings"].get(setting) == settings[setting] for setting in SKETCH_SETTINGS)
        comparable = made_by["version"] == VERSION and all(same)
        if not comparable:
            other = "settings" if made_by["version"] == VERSION else "rules for comparing, by another version"
            step_log("compare").info(f"night {name} was sketched with other {other}: its texts are sketched again")
        night, listed = layout.night(name), {entry.path: entry for entry in manifest.files}
        for minhash in manifest.entries(night.minhash):
            part = layout.stem(minhash.path)
            keys, text_file = listed[night.bands(part)] if comparable else None, listed[night.texts(part)]
            texts = partial(load_texts, store, text_file)
            yield EarlierFile(partial(_of_part, store, minhash, keys, texts, cfg), texts)


def _of_part(
    store: Store, minhash: FileEntry, keys: FileEntry | None, texts: LoadTexts, cfg: DedupConfig
) -> HistoryBatch:
    """Read a minhash file, and the keys of the same part where they compare."""
    table = read_table(store, minhash, ["id", "content", "cluster", "kept"])
    documents = table.select(["id", "cluster", "kept"])
    if keys:
        columns = load_keys(store, keys, range(cfg.bands + 1))
        return HistoryBatch(documents, content_array(table["content"]), columns)
    found = texts(np.arange(table.num_rows))
    kept = pc.and_(table["kept"], pc.is_valid(found))
    return _sketched(documents.set_column(2, "kept", kept), pc.fill_null(found, ""), cfg)


def _sketched(documents: pa.Table, texts: pa.LargeStringArray, cfg: DedupConfig) -> HistoryBatch:
    found = sketch(texts, cfg)
    return HistoryBatch(documents, found.content, key_columns(found.content, found.keys))


def _of_row_group(path: Path, group: int, cfg: DedupConfig) -> EarlierFile:
    """Return documents that an earlier `dedup --out` kept; they are sketched again, for its folder holds no keys."""

    def read() -> HistoryBatch:
        table = pq.ParquetFile(path).read_row_group(group, ["id", "text"])
        documents = pa.table([table["id"], table["id"], pa.repeat(True, table.num_rows)], ["id", "cluster", "kept"])
        return _sketched(documents, large_strings(table["text"]), cfg)

    def texts(rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        return large_strings(pq.ParquetFile(path).read_row_group(group, ["text"])["text"].take(pa.array(rows)))

    return EarlierFile(read, texts)


def open_history(uri: str, cfg: DedupConfig) -> list[EarlierFile]:
    """Return what a workspace or the folder of an earlier `dedup --out` holds; raises ConfigError if nothing."""
    if workspace := find_workspace(uri):
        nights = workspace.nights.manifests()
        if not nights:
            raise ConfigError("nothing is published yet", where=uri, hint="Name a workspace with at least one night.")
        return list(of_nights(workspace.store, nights, cfg))
    paths = sorted(Path(uri, "kept").glob("*.parquet"))
    if not paths:
        raise ConfigError(
            "nothing to compare with",
            where=uri,
            expected="a workspace, or a folder that holds kept/*.parquet",
            hint="A workspace is one once its first night is published; a folder is what `dedup --out` writes.",
        )
    found: list[EarlierFile] = []
    for path in paths:
        try:
            groups = pq.ParquetFile(path).num_row_groups
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"cannot be read: {error}", where=str(path)) from None
        found += [_of_row_group(path, group, cfg) for group in range(groups)]
    return found
