"""What deduplication compares with besides its input: earlier nights, or the outcome of an earlier `dedup --out`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log
from slimpajama.corpus.dedup.columns import content_array, key_columns, large_strings, load_keys, load_texts
from slimpajama.corpus.dedup.documents import History, HistoryBatch
from slimpajama.corpus.dedup.kernel import VERSION, sketch
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import find_workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store

# Keys compare where these are equal.
SKETCH_SETTINGS = ("ngram_chars", "drop_punctuation", "sketch", "num_perm", "bands", "rows", "seed")


class _NightFile(NamedTuple):
    """A minhash file and the files of the same part: its keys, if they compare, and its texts."""

    minhash: FileEntry
    keys: FileEntry | None
    texts: FileEntry


class NightsHistory:
    """Documents of earlier nights, file by file; only files that the nights' manifests list are read.

    Args:
        store: The workspace.
        nights: Manifests of published nights, oldest first.
        cfg: Tonight's settings. A night that was sketched with others is sketched again from its texts.
    """

    def __init__(self, store: Store, nights: dict[str, Manifest], cfg: DedupConfig) -> None:
        self._store, self._cfg = store, cfg
        self._files: list[_NightFile] = []
        for name, manifest in nights.items():
            comparable = self._comparable(manifest.depends_on["stages"]["dedup"])
            if not comparable:
                step_log("compare").info(f"night {name} was sketched with other settings: its texts are sketched again")
            night, listed = layout.night(name), {entry.path: entry for entry in manifest.files}
            for minhash in manifest.entries(night.minhash):
                part = layout.stem(minhash.path)
                keys = listed[night.bands(part)] if comparable else None
                self._files.append(_NightFile(minhash, keys, listed[night.texts(part)]))

    def _comparable(self, depends_on: dict[str, Any]) -> bool:
        settings = asdict(self._cfg)
        return depends_on["version"] == VERSION and all(
            depends_on["settings"].get(name) == settings[name] for name in SKETCH_SETTINGS
        )

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[HistoryBatch]:
        """Yield one file's documents after another, oldest night first."""
        for file_index, (minhash, keys, _) in enumerate(self._files):
            table = read_table(self._store, minhash, ["id", "content", "cluster", "kept"])
            content, documents = content_array(table["content"]), table.select(["id", "cluster", "kept"])
            if keys:
                columns = load_keys(self._store, keys, range(self._cfg.bands + 1))
                yield HistoryBatch(documents, content, columns)
            else:
                texts = self.texts(file_index, np.arange(table.num_rows))
                kept = pc.and_(table["kept"], pc.is_valid(texts))
                yield _sketched(documents.set_column(2, "kept", kept), pc.fill_null(texts, ""), self._cfg)

    def texts(self, file_index: int, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """Return the texts of some rows of a minhash file."""
        return load_texts(self._store, self._files[file_index].texts, rows)


def _sketched(documents: pa.Table, texts: pa.LargeStringArray, cfg: DedupConfig) -> HistoryBatch:
    found = sketch(texts, cfg)
    return HistoryBatch(documents, found.content, key_columns(found.content, found.keys))


class FolderHistory:
    """Documents that an earlier `dedup --out` kept; they are sketched again, for a folder holds no keys.

    Args:
        folder: Its `kept`.
        cfg: The settings to sketch with.
    """

    def __init__(self, folder: Path, cfg: DedupConfig) -> None:
        self._cfg = cfg
        self._groups: list[tuple[Path, int]] = []
        for path in sorted(folder.glob("*.parquet")):
            try:
                self._groups += [(path, group) for group in range(pq.ParquetFile(path).num_row_groups)]
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"cannot be read: {error}", where=str(path)) from None

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[HistoryBatch]:
        """Yield one row group's documents after another."""
        for file_index in range(len(self)):
            table = self._read(file_index, ["id", "text"])
            documents = pa.table([table["id"], table["id"], pa.repeat(True, table.num_rows)], ["id", "cluster", "kept"])
            yield _sketched(documents, large_strings(table["text"]), self._cfg)

    def texts(self, file_index: int, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """Return the texts of some rows of a row group."""
        return large_strings(self._read(file_index, ["text"])["text"].take(pa.array(rows)))

    def _read(self, file_index: int, columns: list[str]) -> pa.Table:
        path, group = self._groups[file_index]
        return pq.ParquetFile(path).read_row_group(group, columns)


def open_history(uri: str, cfg: DedupConfig) -> History:
    """Return what a workspace or the folder of an earlier `dedup --out` holds.

    Raises:
        InputError: It is neither, or holds nothing.
    """
    if workspace := find_workspace(uri):
        nights = workspace.nights.manifests()
        if not nights:
            raise InputError("nothing is published yet", where=uri, hint="Name a workspace with at least one night.")
        return NightsHistory(workspace.store, nights, cfg)
    kept = Path(uri, "kept")
    if not any(kept.glob("*.parquet")):
        raise InputError(
            "nothing to compare with",
            where=uri,
            expected="a workspace, or a folder that holds kept/*.parquet",
            hint="A workspace is one once its first night is published; a folder is what `dedup --out` writes.",
        )
    return FolderHistory(kept, cfg)
