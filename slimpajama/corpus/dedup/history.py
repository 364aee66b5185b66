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
from slimpajama.corpus.dedup.columns import content_array, large_strings, read_keys, read_texts
from slimpajama.corpus.dedup.history_join import Earlier, Past
from slimpajama.corpus.dedup.kernel import VERSION, sketch
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.open import find_workspace
from slimpajama.workspace.parquet import read_table, reading
from slimpajama.workspace.store import Store

# keys compare where these are equal
SKETCH_SETTINGS = ("ngram_chars", "drop_punctuation", "sketch", "num_perm", "bands", "rows", "seed")


class _Shelf(NamedTuple):
    """One minhash file and the files of the same part: its keys, if they compare, and its texts."""

    minhash: FileEntry
    keys: FileEntry | None
    texts: FileEntry


class History:
    """Documents of earlier nights, file by file; only files that the nights' manifests list are read.

    Args:
        store: The workspace.
        nights: Manifests of published nights, oldest first.
        cfg: Tonight's settings. A night that was sketched with others is sketched again from its texts.
    """

    def __init__(self, store: Store, nights: dict[str, Manifest], cfg: DedupConfig) -> None:
        self._store, self._cfg = store, cfg
        self._shelves: list[_Shelf] = []
        for night, manifest in nights.items():
            comparable = self._comparable(manifest.about["stages"]["dedup"])
            if not comparable:
                step_log("compare").info(
                    f"night {night} was sketched with other settings: its texts are sketched again"
                )
            listed = {entry.path: entry for entry in manifest.files}
            for minhash in manifest.paths(f"nights/{night}/minhash/"):
                keys = listed[minhash.replace("/minhash/", "/bands/")] if comparable else None
                texts = listed[minhash.replace("/minhash/", "/texts/").replace(".parquet", ".arrow")]
                self._shelves.append(_Shelf(listed[minhash], keys, texts))

    def _comparable(self, about: dict[str, Any]) -> bool:
        mine = asdict(self._cfg)
        return about["version"] == VERSION and all(about["settings"].get(key) == mine[key] for key in SKETCH_SETTINGS)

    def __len__(self) -> int:
        return len(self._shelves)

    def __iter__(self) -> Iterator[Earlier]:
        """Yield one file's documents after another, oldest night first."""
        for number, shelf in enumerate(self._shelves):
            columns = ["id", "content", "cluster", "kept"]
            table = read_table(self._store, shelf.minhash.path, columns, shelf.minhash.bytes)
            kept = table["kept"].to_numpy()
            if shelf.keys:
                content = content_array(table["content"])
                with reading(self._store, shelf.keys.path, shelf.keys.bytes) as file:
                    keys = read_keys(file, range(self._cfg.bands + 1))
            else:
                texts = self.texts(number, np.arange(table.num_rows))
                content, keys = _sketched(pc.fill_null(texts, ""), self._cfg)
                kept = kept & pc.is_valid(texts).to_numpy(zero_copy_only=False)
            yield Earlier(table["id"].combine_chunks(), content, table["cluster"].combine_chunks(), kept, keys)

    def texts(self, shelf: int, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """Return the texts of some rows of a minhash file."""
        entry = self._shelves[shelf].texts
        with reading(self._store, entry.path, entry.bytes) as file:
            return read_texts(file, rows)


def _sketched(texts: pa.LargeStringArray, cfg: DedupConfig) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """Return content hashes and keys, the latter as in a key file."""
    found = sketch(texts, cfg)
    halves = found.content[:, :8].copy().view(np.uint64)
    return found.content, np.ascontiguousarray(np.column_stack([halves, found.keys]).T)


class KeptFiles:
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

    def __iter__(self) -> Iterator[Earlier]:
        """Yield one row group's documents after another."""
        for group in self._groups:
            table = _read_group(*group)
            ids = table["id"].combine_chunks()
            content, keys = _sketched(large_strings(table["text"]), self._cfg)
            yield Earlier(ids, content, ids, np.ones(len(ids), np.bool_), keys)

    def texts(self, shelf: int, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """Return the texts of some rows of a row group."""
        return large_strings(_read_group(*self._groups[shelf])["text"].take(pa.array(rows)))


def _read_group(path: Path, group: int) -> pa.Table:
    return pq.ParquetFile(path).read_row_group(group, ["id", "text"])


def open_past(uri: str, cfg: DedupConfig) -> Past:
    """Return what a workspace or the folder of an earlier `dedup --out` holds.

    Raises:
        InputError: It is neither, or holds nothing.
    """
    if workspace := find_workspace(uri):
        nights = workspace.nights.manifests()
        if not nights:
            raise InputError("nothing is published yet", where=uri, hint="Name a workspace with at least one night.")
        return History(workspace.store, nights, cfg)
    kept = Path(uri, "kept")
    if not any(kept.glob("*.parquet")):
        raise InputError(
            "nothing to compare with",
            where=uri,
            expected="a workspace, or a folder that holds kept/*.parquet",
            hint="A workspace is one once its first night is published; a folder is what `dedup --out` writes.",
        )
    return KeptFiles(kept, cfg)
