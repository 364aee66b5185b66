"""The index of the corpus: what the nights' training splits are searched by, opened for any nights at once.

    nights/N/index/PART.{ids,order,first}.npy, PART.documents.parquet, manifest.json            of the night alone
    nights/N/index/merged/PART....npy, PART.documents.parquet, manifest.json                    and of some before it

A part is a stream of token ids, a document token before each document and behind the last, with its suffix array
(`slimpajama.text.suffixes` asks it). Merged parts hold what the nights' own do; so a year of nights is asked in about
ten files.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.errors import InputError
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest, load_manifest
from slimpajama.workspace.mapped import array_bytes, mapped_array
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_verified_table
from slimpajama.workspace.store import Store

ARRAYS = ("ids", "order", "first")
DOCUMENTS = pa.schema([("id", pa.string()), ("night", pa.string()), ("begin", pa.int64())])
"""Of a part, in the order of the stream; `begin` is the position of the document token before it."""
# Raise it when the same shards give other files.
VERSION = 1


@dataclass(frozen=True)
class IndexPart:
    """One stream of tokens with its suffix array, mapped when it is asked."""

    store: Store
    entries: dict[str, FileEntry]
    """By what follows the part's name: `ids.npy`, `order.npy`, `first.npy`, `documents.parquet`."""

    @cached_property
    def arrays(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], int]:
        """The fields of `slimpajama.text.suffixes.Suffixes`."""
        ids, order, first = (mapped_array(self.store, self.entries[f"{name}.npy"]) for name in ARRAYS)
        return ids, order, first, int(ids[0])

    @cached_property
    def documents(self) -> pa.Table:
        """Its documents, a table of schema DOCUMENTS."""
        return read_verified_table(self.store, self.entries["documents.parquet"])

    @cached_property
    def begins(self) -> npt.NDArray[np.int64]:
        """The column `begin` of its documents."""
        return np.asarray(self.documents["begin"].to_numpy())


@dataclass(frozen=True)
class CorpusIndex:
    """The index of nights that share a tokenizer."""

    nights: tuple[str, ...]
    """In the order in which they were published."""
    tokenizer: FileEntry
    """The newest night's; all have the same bytes."""
    parts: tuple[IndexPart, ...]


@dataclass(frozen=True, slots=True)
class IndexRun:
    """Nights that follow each other, and an index of them alone."""

    nights: tuple[str, ...]
    manifest: Manifest

    @property
    def tokens(self) -> int:
        """How many tokens it holds."""
        return sum(self.manifest.counts.get("tokens", {}).values())


def part_files(
    folder: layout.Folder, name: str, arrays: Iterable[npt.NDArray[Any]], documents: pa.Table
) -> dict[str, pa.Table | bytes]:
    """Return the files of a part by their paths; `arrays` are `ids`, `order` and `first`."""
    files = {folder.file(f"{name}.{kind}.npy"): array_bytes(array) for kind, array in zip(ARRAYS, arrays, strict=True)}
    return files | {folder.file(f"{name}.documents.parquet"): documents}


def parts_of(store: Store, manifest: Manifest) -> list[IndexPart]:
    """Return the parts that an index's manifest lists, in the order of the stream."""
    named: dict[str, dict[str, FileEntry]] = {}
    for entry in manifest.files:
        part, _, kind = layout.name_of(entry.path).partition(".")
        named.setdefault(part, {})[kind] = entry
    return [IndexPart(store, named[part]) for part in sorted(named)]


def open_index(workspace: Workspace, nights: Sequence[str]) -> list[CorpusIndex]:
    """Return the index of published nights, one for each tokenizer that they were encoded with, the newest last.

    Nights that left nothing to train on have none and count for nothing.

    Raises:
        InputError: A night is not published, has no index yet, or one of other documents than it has now.
        StorageError: A manifest is damaged; a part's files are looked at when they are asked for.
    """
    found = []
    for group in by_tokenizer({night: workspace.nights.load(night) for night in nights}):
        own = {night: _require(workspace, night, manifest) for night, manifest in group.items()}
        runs = index_runs(workspace.store, own)
        parts = [part for run in runs for part in parts_of(workspace.store, run.manifest)]
        tokenizer = [*group.values()][-1].file(layout.TOKENIZER)
        found.append(CorpusIndex(tuple(group), tokenizer, tuple(parts)))
    return found


def index_runs(store: Store, own: Mapping[str, Manifest]) -> list[IndexRun]:
    """Return as few indexes as hold all of these nights and no other, oldest first.

    Args:
        own: The nights' own indexes, in the order of publication; all of one tokenizer.
    """
    names, runs = [*own], list[IndexRun]()
    while names:
        merged = load_manifest(store, layout.night(names[-1]).merged_index.manifest)
        held = merged_nights(merged) if merged else {}
        if merged and [*held] == names[-len(held) :] and is_current(held, own):
            runs.append(IndexRun(tuple(held), merged))
        else:
            runs.append(IndexRun((names[-1],), own[names[-1]]))
        names = names[: -len(runs[-1].nights)]
    return runs[::-1]


def merged_nights(manifest: Manifest) -> dict[str, str]:
    """Return the nights that a merged index holds, in order, with the digests of the indexes that it was made of."""
    return dict(manifest.depends_on["nights"])


def is_current(held: Mapping[str, str], own: Mapping[str, Manifest]) -> bool:
    """Return whether a merged index was made of the nights' indexes as they are now."""
    return all(night in own and own[night].digest == digest for night, digest in held.items())


def own_index(store: Store, night: str, manifest: Manifest) -> Manifest | None:
    """Return the manifest of a night's own index; None where it has none, or one of other documents."""
    found, tokenizer = load_manifest(store, layout.night(night).index.manifest), manifest.find(layout.TOKENIZER)
    made_of = {"version": VERSION, "shards": shards_of(night, manifest), "tokenizer": tokenizer and tokenizer.sha256}
    return found if found and found.depends_on | made_of == found.depends_on else None


def shards_of(night: str, manifest: Manifest) -> list[str]:
    """Return the digests of a night's training shards, sorted: what its index is made of."""
    return sorted(entry.sha256 for entry in manifest.entries(layout.night(night).split("train")))


def by_tokenizer(nights: Mapping[str, Manifest]) -> list[dict[str, Manifest]]:
    """Return the nights that have a tokenizer, those with the same one together; the newest night's come last."""
    groups: dict[str, dict[str, Manifest]] = {}
    for night, manifest in nights.items():
        if tokenizer := manifest.find(layout.TOKENIZER):
            groups[tokenizer.sha256] = groups.pop(tokenizer.sha256, {}) | {night: manifest}
    return [*groups.values()]


def superseded(workspace: Workspace) -> list[layout.Folder]:
    """Return the folders of merged indexes of which others hold all nights: nothing asks them any more."""
    found = []
    for group in by_tokenizer(workspace.nights.manifests()):
        own = {night: index for night, made in group.items() if (index := own_index(workspace.store, night, made))}
        if len(own) < len(group):
            continue
        used = {run.nights[-1] for run in index_runs(workspace.store, own) if len(run.nights) > 1}
        folders = (layout.night(night).merged_index for night in group if night not in used)
        found += [folder for folder in folders if workspace.store.exists(folder.manifest)]
    return found


def _require(workspace: Workspace, night: str, manifest: Manifest) -> Manifest:
    found = own_index(workspace.store, night, manifest)
    if found is None:
        where = f"{workspace.uri}/{layout.night(night).index.path}"
        hint = "`slimpajama prepare` makes the index of every night, and so does the next night that trains."
        raise InputError("the night has no index of the documents that it holds now", where=where, hint=hint)
    return found
