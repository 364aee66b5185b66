"""The index of the corpus as steps: each published night's training split, and now and then several nights in one.

`slimpajama.workspace.index` says what lies where. A part holds whole shards, in the order in which documents were
spread over them; so where documents are forgotten, only their parts are made again. Validation and test stay out.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.core.config import Config
from slimpajama.core.errors import InputError
from slimpajama.core.memory import release_memory
from slimpajama.core.result import Result
from slimpajama.core.schema import SHARDS
from slimpajama.core.split import unit_hashes
from slimpajama.text.suffixes import Ids, id_type, suffixes_of
from slimpajama.text.tokenizer import DOCUMENT
from slimpajama.workspace import catalogue, layout
from slimpajama.workspace.index import (
    DOCUMENTS,
    VERSION,
    IndexRun,
    by_tokenizer,
    index_runs,
    is_current,
    merged_nights,
    own_index,
    part_files,
    parts_of,
    shards_of,
)
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_columns, read_verified, reading
from slimpajama.workspace.step import Context, OnNight, Part, Run, Step, run_step
from slimpajama.workspace.store import Store, sha256

# Tokens of a part, about: it is made in 14 bytes of memory a token.
PART_TOKENS = 1 << 25
# So many times the next newer index's tokens an index may have for the two to be merged.
LARGER = 2


@dataclass(frozen=True, slots=True)
class IndexReport(Result):
    """What was indexed."""

    nights: list[str]
    """Nights that got an index now."""
    merged: list[list[str]]
    """Nights whose indexes were merged into one now."""

    def text(self) -> str:
        """Return lines for people."""
        lines = [f"indexed: {', '.join(self.nights)}"] if self.nights else []
        lines += [f"merged: {nights[0]} to {nights[-1]}" for nights in self.merged]
        return "\n".join(lines) or "every night has its index"


class _Shard(NamedTuple):
    """What decides where a shard's documents stand."""

    place: float
    """Documents were spread over shards by a hash in [0, 1); that of its first one."""
    tokens: int
    entry: FileEntry


def _night(run: Run) -> Manifest:
    return run.workspace.nights.load(run.night)


def _inputs(run: Run) -> dict[str, Any]:
    manifest = run.once(_night)
    return {"shards": shards_of(run.night, manifest), "tokenizer": manifest.file(layout.TOKENIZER).sha256}


def _folder(run: Run) -> layout.Folder:
    night = layout.night(run.night)
    return night.merged_index if run.name == MERGE.name else night.index


def _place(run: Run) -> tuple[str, str]:
    return _folder(run).work(), _folder(run).manifest


def _index(run: Run) -> None:
    units = {_name(run, number, shards): shards for number, shards in enumerate(_parts(run))}
    # A part's name says what it was made of.
    for name in units:
        files = [e for e in run.replaced.files if layout.name_of(e.path).startswith(f"{name}.")] if run.replaced else []
        if run.replaced and files and not run.has(name):
            run.keep(name, files, {kind: {name: of[name]} for kind, of in run.replaced.counts.items()})

    def make(name: str) -> Part:
        return _part(run, name, units[name])

    # One after the other, for a part takes much memory.
    run.map([(name, name) for name in units], make, unit="parts", workers=1)


def _parts(run: Run) -> list[list[FileEntry]]:
    """Return the shards of each part."""
    manifest = run.once(_night)
    entries = manifest.entries(layout.night(run.night).split("train"))
    seed = manifest.depends_on["settings"]["shards"]["seed"]
    shards = sorted(_shard(run.store, entry, seed) for entry in entries)
    if not shards:
        return []
    parts = -(-sum(shard.tokens for shard in shards) // PART_TOKENS)
    bounds = np.linspace(0, len(shards), min(max(parts, 1), len(shards)) + 1).round().astype(int).tolist()
    return [[shard.entry for shard in shards[begin:end]] for begin, end in pairwise(bounds)]


def _shard(store: Store, entry: FileEntry, seed: int) -> _Shard:
    with reading(store, entry) as file:
        parquet = pq.ParquetFile(file)
        first = parquet.read_row_group(0, columns=["id"])["id"][0].as_py()
        groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
        columns = (group.column(number) for group in groups for number in range(group.num_columns))
        tokens = sum(column.num_values for column in columns if column.path_in_schema.startswith("input_ids."))
    return _Shard(float(unit_hashes([first], "shard", seed)[0]), tokens, entry)


def _name(run: Run, number: int, shards: list[FileEntry]) -> str:
    made_of = [run.depends_on["version"], run.depends_on["tokenizer"], [entry.sha256 for entry in shards]]
    return f"{number:05d}-{sha256(json_bytes(made_of))[:16]}"


def _part(run: Run, name: str, shards: list[FileEntry]) -> Part:
    # Without its words, which take 150 MB.
    vocabulary = json.loads(read_verified(run.store, run.once(_night).file(layout.TOKENIZER)))["model"]["vocab"]
    ids, documents = _read(run, shards, len(vocabulary), vocabulary[DOCUMENT])
    # What was read is gone before the most memory is taken.
    release_memory()
    return _files(run, name, ids, len(vocabulary), documents)


def _read(run: Run, shards: list[FileEntry], vocab_size: int, document_id: int) -> tuple[Ids, pa.Table]:
    """Return the documents of some shards as one stream, and a table of schema DOCUMENTS."""
    table = read_columns(run.store, shards, SHARDS, ["id", "input_ids"])
    lists = table["input_ids"].combine_chunks()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths + 1)])
    stream = np.full(int(begins[-1]) + 1, document_id, id_type(vocab_size))
    is_text = np.ones(len(stream), np.bool_)
    is_text[begins] = False
    stream[is_text] = lists.flatten().to_numpy()
    return stream, pa.table([table["id"], pa.repeat(run.night, len(table)), begins[:-1]], schema=DOCUMENTS)


def _files(run: Run, name: str, ids: Ids, vocab_size: int, documents: pa.Table) -> Part:
    try:
        suffixes = suffixes_of(ids, vocab_size, int(ids[0]))
    except ValueError as error:
        where = f"{run.workspace.uri}/{layout.night(run.night).path}"
        hint = "Another program or version wrote them: prepare the night again, in a fresh workspace."
        raise InputError(f"the night's shards cannot be indexed: {error}", where=where, hint=hint) from error
    counts = {"tokens": {name: len(ids)}, "documents": {name: len(documents)}}
    return Part(part_files(_folder(run), name, suffixes[:3], documents), counts)


def _tidy(run: Run) -> None:
    """Delete what the index's manifest does not list: parts of documents that are forgotten, above all."""
    folder = _folder(run)
    # Before the manifest is read: whatever another run lists and writes from here on is not in it.
    present = run.store.list(folder.path)
    manifest = load_manifest(run.store, folder.manifest)
    listed = {folder.manifest}
    for entry in manifest.files if manifest else ():
        listed |= {entry.path, run.store.name(entry.path, entry.sha256)}
    for path in present:
        if path not in listed and layout.folder_of(path) == folder.path:
            run.store.delete(path)


def index_nights(workspace: Workspace, cfg: Config, only: Collection[str] | None = None) -> IndexReport:
    """Make the index of every published night that has none, or one of other documents, and merge what is due.

    Args:
        only: Nights to look at; None for all.
    """
    nights, made = workspace.nights.manifests(), list[str]()
    places = map(layout.place, workspace.store.list("nights"))
    broken_off = {place.owner for place in places if place.kind == "index" and place.inner == "work"}
    own: dict[str, Manifest] = {}
    for night, manifest in nights.items():
        found = own_index(workspace.store, night, manifest)
        wanted = manifest.find(layout.TOKENIZER) and (only is None or night in only)
        if wanted and (found is None or night in broken_off):
            found = run_step(INDEX, Context(workspace, cfg, night)).result
            made.append(night)
        if found:
            own[night] = found
    _drop_outdated(workspace.store, nights, own)
    merged = []
    for group in by_tokenizer(nights):
        if own.keys() >= group.keys():
            merged += _merge_due(workspace, cfg, {night: own[night] for night in group})
    return IndexReport(made, merged)


def _drop_outdated(store: Store, nights: Collection[str], own: Mapping[str, Manifest]) -> None:
    """Delete merged indexes of documents that are no longer there."""
    for night in nights:
        folder = layout.night(night).merged_index
        merged = load_manifest(store, folder.manifest)
        if merged and not is_current(merged_nights(merged), own):
            catalogue.forget(store, folder.path)


def _merge_due(workspace: Workspace, cfg: Config, own: dict[str, Manifest]) -> list[list[str]]:
    """Merge indexes until each is more than twice as large as the next newer one, or the two are too large for one.

    So a token is merged a few times only, and the number of indexes grows with the logarithm of that of the nights.
    Source: O'Neil et al. 1996, "The log-structured merge-tree".
    """
    stack: list[tuple[list[IndexRun], int]] = []
    for run in index_runs(workspace.store, own):
        stack.append(([run], run.tokens))
        while len(stack) > 1 and stack[-2][1] <= min(LARGER * stack[-1][1], PART_TOKENS - stack[-1][1]):
            runs, tokens = stack.pop()
            stack[-1] = (stack[-1][0] + runs, stack[-1][1] + tokens)
    merged = [[night for run in runs for night in run.nights] for runs, _ in stack if len(runs) > 1]
    for nights in merged:
        run_step(MERGE, Context(workspace, cfg, nights[-1]), nights={night: own[night] for night in nights})
    return merged


def _merge(run: Run) -> None:
    nights: dict[str, Manifest] = run.options["nights"]
    parts = [part for manifest in nights.values() for part in parts_of(run.store, manifest)]
    if not parts:
        return
    streams = [part.arrays[0] for part in parts]
    # The last document token of each is the first one of the next.
    ids = np.concatenate([*(stream[:-1] for stream in streams), streams[-1][-1:]])
    shifts = np.cumsum([0, *(len(stream) - 1 for stream in streams)]).tolist()
    documents = [
        part.documents.set_column(2, "begin", pa.array(part.documents["begin"].to_numpy() + shift))
        for part, shift in zip(parts, shifts, strict=False)
    ]
    name = f"00000-{run.fingerprint}"
    run.commit(name, _files(run, name, ids, len(parts[0].arrays[2]) - 1, pa.concat_tables(documents)))


def _on_night(context: Context, model: str) -> IndexReport:
    return index_nights(context.workspace, context.cfg)


INDEX = Step(
    "index",
    VERSION,
    _inputs,
    _index,
    place=_place,
    tidy=_tidy,
    grows_with="kept",
    folders="shards/train|tokenizer",
    on_night=OnNight(_on_night, "train-model", model=""),
)
"""Index a night's training split. Counts, by part: `tokens`, document tokens included, and `documents`."""

MERGE = Step(
    "merge",
    VERSION,
    lambda run: {"nights": [[night, manifest.digest] for night, manifest in run.options["nights"].items()]},
    _merge,
    place=_place,
    tidy=_tidy,
    folders="index",
)
"""Merge the indexes of some nights in the newest one's folder. Option `nights`: the manifests of their indexes."""
