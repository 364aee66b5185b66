"""A night's files without some documents: written anew under other names, for a file that is listed never changes.

The new manifest replaces the old one at once. What it no longer lists is deleted afterwards, by the caller.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.corpus.dedup.columns import content_array, key_file, read_keys, read_texts, text_file
from slimpajama.corpus.passages.count import read_windows, window_file
from slimpajama.corpus.passages.find import Windows
from slimpajama.corpus.shards.card import with_files, with_note
from slimpajama.corpus.shards.columns import shard_bytes
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import write_manifest
from slimpajama.workspace.layout import Night
from slimpajama.workspace.manifest import FileEntry, Manifest, add_counts, entry_of
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import parquet_bytes, read_table, read_verified, reading
from slimpajama.workspace.store import Store, sha256

# Kinds of files whose rows are the records of a night.
RECORDS = ("documents", "removed")
# Behind the part's name in the name of a file that was written anew before.
HASH = re.compile("-[0-9a-f]{16}$")
Rows = npt.NDArray[np.bool_]
"""Of each row of a file, whether it stays."""


def _keys(file: BinaryIO, stays: Rows, minhash: pa.Table) -> bytes:
    keys = read_keys(file, range(pq.ParquetFile(file).num_row_groups))
    return key_file(content_array(minhash["content"]), np.ascontiguousarray(keys[1:, stays].T))


def _texts(file: BinaryIO, stays: Rows, minhash: pa.Table) -> bytes:
    return text_file(read_texts(file, np.flatnonzero(stays)))


def _windows(file: BinaryIO, stays: Rows, minhash: pa.Table) -> bytes:
    found = read_windows(file)
    left = stays[found.rows]
    return window_file(Windows(found.hashes[left], (np.cumsum(stays) - 1)[found.rows[left]].astype(np.uint32)))


class _Companion(NamedTuple):
    """A file without ids, whose rows stand in the order of another file of the same part."""

    path: Callable[[Night, str], str]
    """Its path, by night and part."""
    encode: Callable[[BinaryIO, Rows, pa.Table], bytes]
    """Its new bytes, from the old file, the rows that stay, and the other file's rows that stay."""


class _Kind(NamedTuple):
    """How the files of one kind are written; the document of each row is named by the column `id`."""

    encode: Callable[[pa.Table], bytes] = parquet_bytes
    keeps_order: bool = True
    """Whether a new name begins with the old one; shards are named by their hash alone."""
    companions: tuple[_Companion, ...] = ()


KINDS = {
    "documents": _Kind(),
    "removed": _Kind(),
    "passages": _Kind(),
    "notes": _Kind(),
    "minhash": _Kind(
        companions=(
            _Companion(Night.bands, _keys),
            _Companion(Night.texts, _texts),
            _Companion(Night.windows, _windows),
        )
    ),
    "shards": _Kind(shard_bytes, keeps_order=False),
}


class _File(NamedTuple):
    """A file to write."""

    path: str
    data: bytes
    rows: int = 0

    @property
    def entry(self) -> FileEntry:
        """How a manifest lists it."""
        return entry_of(self.path, self.data, self.rows)


def affected(store: Store, manifest: Manifest, ids: Iterable[str]) -> list[str]:
    """Return the night's files that hold rows of some documents, in order."""
    found = {path for path, _ in _losing(store, manifest, ids)}
    found |= {companion for path in found for companion, _ in _companions(path)}
    return [path for path in manifest.paths("") if path in found]


def without(workspace: Workspace, night: str, ids: Iterable[str]) -> Manifest:
    """Write a night's files and manifest without some documents, and return the manifest."""
    store, place, before = workspace.store, layout.night(night), workspace.nights.load(night)
    files = {entry.path: entry for entry in before.files}
    lost = dict.fromkeys(RECORDS, 0)
    for path, stays in _losing(store, before, ids):
        if (kind := layout.place(path).kind) in lost:
            lost[kind] += int((~stays).sum())
        for old, new in _rewritten(store, path, stays, files).items():
            del files[old]
            if new:
                files[new.path] = new.entry
                store.write_listed(new.path, new.data, new.entry.sha256)
    if all(entry.path in files for entry in before.files):
        return before
    counts = before.counts | {"forgotten": add_counts([before.counts.get("forgotten", {}), lost])}
    for card in _cards(store, night, files, counts["forgotten"]["documents"]):
        store.write(_staged(card.path, card.data), card.data)
        files[card.path] = card.entry
        store.write_listed(card.path, card.data, card.entry.sha256)
    manifest = replace(before, files=tuple(files[path] for path in sorted(files)), counts=counts)
    write_manifest(store, place.manifest, manifest)
    return manifest


def _losing(store: Store, manifest: Manifest, ids: Iterable[str]) -> Iterator[tuple[str, Rows]]:
    """Yield the files that lose rows, with the rows that stay."""
    gone = pa.array(sorted(ids), pa.string())
    for entry in manifest.files:
        if layout.place(entry.path).kind in KINDS:
            stays: Rows = pc.invert(pc.is_in(read_table(store, entry, ["id"])["id"], value_set=gone)).to_numpy()
            if not stays.all():
                yield entry.path, stays


def _companions(path: str) -> list[tuple[str, _Companion]]:
    """Return the files beside one, with their paths."""
    _, night, kind, _ = layout.place(path)
    return [(one.path(layout.night(night), layout.stem(path)), one) for one in KINDS[kind].companions]


def _rewritten(store: Store, path: str, stays: Rows, listed: Mapping[str, FileEntry]) -> dict[str, _File | None]:
    """Return what replaces a file and those beside it; None where no row is left."""
    beside = [(old, companion) for old, companion in _companions(path) if old in listed]
    if not stays.any():
        return dict.fromkeys([path, *(old for old, _ in beside)])
    _, night, name, _ = layout.place(path)
    kind = KINDS[name]
    table = read_table(store, listed[path]).filter(pa.array(stays)).combine_chunks()
    data = kind.encode(table)
    part = sha256(data)[:16]
    if kind.keeps_order:
        part = f"{HASH.sub('', layout.stem(path))}-{part}"
    made: dict[str, _File | None] = {path: _File(f"{layout.folder_of(path)}/{part}.parquet", data, len(table))}
    for old, companion in beside:
        with reading(store, listed[old]) as file:
            rows = companion.encode(file, stays, table)
        made[old] = _File(companion.path(layout.night(night), part), rows)
    return made


def _cards(store: Store, night: str, files: dict[str, FileEntry], forgotten: int) -> Iterator[_File]:
    """Yield the night's data card and description, which keep their names; no step reads them."""
    place = layout.night(night)
    shards = [files[path] for path in sorted(files) if path.startswith(place.within("shards"))]
    if forgotten and (path := place.file("README.md")) in files:
        yield _File(path, with_note(_card(store, files[path]), forgotten))
    if (path := place.file("croissant.json")) in files:
        yield _File(path, with_files(_card(store, files[path]), night, shards))


def _card(store: Store, entry: FileEntry) -> bytes:
    """Return a card after its hash was compared with its manifest's, or with that of one that was written since."""
    data = store.read(entry.path)
    return data if store.exists(_staged(entry.path, data)) else read_verified(store, entry)


def _staged(path: str, data: bytes) -> str:
    """Return where a card lies before it takes the place of the old one: after a kill this vouches for it."""
    return f"{path}-{sha256(data)[:16]}"
