"""What earlier nights left behind for deduplication: their minhash files, and the texts these speak of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.config import DedupConfig
from slimpajama.dedup.columns import content_array, key_array, large_strings
from slimpajama.dedup.decide import Earlier
from slimpajama.dedup.kernel import VERSION, band_keys, sketch
from slimpajama.night import load_night
from slimpajama.progress import say
from slimpajama.storage import Store, read_table

__all__ = ["History"]

SKETCH_SETTINGS = ("ngram_chars", "sketch", "num_perm", "bands", "rows", "seed")  # keys compare where these are equal


class _Shelf(NamedTuple):
    """One minhash file and the files of the same part that hold its texts."""

    minhash: str
    texts: tuple[str, ...]
    comparable: bool


class History:
    """Earlier documents, file by file; only files that the nights' manifests list are read.

    Args:
        store: The workspace.
        nights: Published nights, oldest first.
        cfg: Tonight's settings. A night that was sketched with others is sketched again from its texts.
        first_shelf: Number of the first minhash file; the next ones follow.
    """

    def __init__(self, store: Store, nights: list[str], cfg: DedupConfig, first_shelf: int) -> None:
        self._store, self._cfg, self._first = store, cfg, first_shelf
        self._shelves: list[_Shelf] = []
        for night in nights:
            manifest = load_night(store, night)
            listed = {entry.path for entry in manifest.files}
            comparable = self._comparable(manifest.about["stages"]["dedup"])
            if not comparable:
                say(f"{'dedup':<10} night {night} was sketched with other settings: its texts are sketched again")
            for minhash in manifest.paths(f"nights/{night}/minhash/"):
                file = minhash.rsplit("/", 1)[1]
                texts = (f"nights/{night}/documents/{file}", f"nights/{night}/removed/dedup-{file}")
                self._shelves.append(_Shelf(minhash, tuple(path for path in texts if path in listed), comparable))

    def _comparable(self, about: dict[str, Any]) -> bool:
        mine = asdict(self._cfg)
        return about["version"] == VERSION and all(about["settings"][key] == mine[key] for key in SKETCH_SETTINGS)

    def batches(self) -> Iterator[Earlier]:
        """Yield one file's documents after another, oldest night first."""
        for number, shelf in enumerate(self._shelves, self._first):
            table = read_table(self._store, shelf.minhash)
            kept = table["kept"].to_numpy()
            if shelf.comparable:
                content, keys = content_array(table["content"]), key_array(table["bands"], self._cfg.bands)
            else:
                texts = self.texts(number, np.arange(table.num_rows))
                sketches = sketch(pc.fill_null(texts, ""), self._cfg)
                content, keys = sketches.content, band_keys(sketches.signatures, self._cfg.bands, self._cfg.rows)
                kept = kept & pc.is_valid(texts).to_numpy(zero_copy_only=False)
            yield Earlier(number, table["id"].combine_chunks(), content, table["cluster"].combine_chunks(), kept, keys)

    def texts(self, shelf: int, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """Return the texts of some rows of a minhash file; null where a document was forgotten since."""
        files = self._shelves[shelf - self._first]
        ids = read_table(self._store, files.minhash, ["id"])["id"].take(pa.array(rows))
        tables = [read_table(self._store, path, ["id", "text"]) for path in files.texts]
        found = [table.filter(pc.is_in(table["id"], value_set=ids)) for table in tables]
        texts = pa.concat_tables(found).combine_chunks()
        return large_strings(texts["text"].take(pc.index_in(ids, value_set=texts["id"].combine_chunks())))
