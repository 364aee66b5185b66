"""Tokenizer and shards of a night: words in, `shards/{train,validation,test}/*.parquet` out.

Two passes, both resumable: the documents of each part are laid out by the shard they go to; then each shard
collects its own from all parts, encodes and writes them. Order within a shard is a keyed hash of the id, so sources
are mixed the same way whatever the number of workers. Memory holds one part or one shard a worker.

A shard's file is named by the first 16 hex digits of its sha256: the same content, the same name.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from slimpajama.core.config import Config, canonical
from slimpajama.core.errors import InputError
from slimpajama.core.logs import step_log
from slimpajama.core.progress import track
from slimpajama.core.split import SPLITS, assign, unit_hashes
from slimpajama.corpus.shards.card import croissant, data_card
from slimpajama.corpus.shards.columns import encode_words, shard_bytes, words_of
from slimpajama.text.stopwords import content_flags
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, FileEntry, Manifest, add_counts
from slimpajama.workspace.parquet import read_table, read_verified, read_with_checksum, with_checksum
from slimpajama.workspace.step import Part, Run, Step
from slimpajama.workspace.store import Store, sha256

AGAIN = "`slimpajama prepare --from shards` makes it anew."
# Words that merges are learnt from, drawn by their counts in the whole sample.
SAMPLE_WORDS = 500_000


def _kept_vocabulary(run: Run) -> tuple[Manifest | None, FileEntry | None]:
    """Return the newest night that has a vocabulary, and that vocabulary if it was learnt by the same settings."""
    nights = run.workspace.nights
    earlier = (nights.load(name) for name in reversed(nights.published()))
    # Not all nights kept any text.
    previous = next((found for found in earlier if "tokenizer" in found.depends_on["stages"]), None)
    kept = previous is not None and previous.depends_on["stages"]["tokenizer"]["settings"] == canonical(
        run.cfg.tokenizer
    )
    return previous, previous.file(layout.TOKENIZER) if previous and kept else None


def _tokenizer_inputs(run: Run) -> dict[str, Any]:
    _, own = run.once(_kept_vocabulary)
    return {
        "settings": run.cfg.tokenizer,
        "library": f"tokenizers {tokenizers.__version__}",
        "from": own.path if own else run.made["segment"].digest,
    }


def _tokenizer(run: Run) -> None:
    previous, own = run.once(_kept_vocabulary)
    with track("tokenizer", unit="pieces") as bar:
        if previous and own:
            data, size = read_verified(run.store, own), previous.counts["tokenizer"]["pieces"]
        else:
            if previous:
                step_log("tokenizer").info(
                    "settings changed: a new vocabulary, earlier nights' shards are not replayed"
                )
            data = train_tokenizer(_sample(run.store, run.cfg, _match(run)), run.cfg.tokenizer)
            size = Tokenizer.load(data).vocab_size
        run.commit("tokenizer", Part({layout.night(run.night).tokenizer: data}, {"pieces": size}))
        bar.advance(size)


TOKENIZER = Step("tokenizer", 2, _tokenizer_inputs, _tokenizer, reads=("dedup", "segment"))
"""Keep the vocabulary of the newest night that has one, or learn one where there is none yet.

Its one file is `nights/NIGHT/tokenizer/tokenizer.json`.
"""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The files of one part of the corpus, which hold the same kept documents in the same order."""

    key: str
    documents: FileEntry
    words: FileEntry
    minhash: FileEntry


def _sample(store: Store, cfg: Config, parts: list[_Inputs]) -> list[str]:
    """Return words of the training documents, joined, each about as often as its share of `sample_mb` of them.

    The documents are an even sample by hash. Of their words, in order, every n-th is taken, sorted: so a word comes
    as often as its count says, to one, and learning takes the same time for every size of the corpus.
    """
    share = min(1.0, cfg.tokenizer.sample_mb * 1e6 / max(_text_bytes(store, parts), 1))
    counted: list[pa.Table] = []
    for inputs in parts:
        table = _documents_with_words(store, inputs, ["id", "text"])
        ids = table["id"].to_pylist()
        drawn = unit_hashes(ids, "tokenizer", cfg.shards.seed) < share
        chosen = table.filter(pa.array(drawn & (assign(_clusters(store, inputs, ids), cfg.shards) == 0)))
        words = words_of(chosen).values
        times = np.bincount(words.indices.to_numpy(), minlength=len(words.dictionary))
        counted.append(pa.table({"values": words.dictionary, "counts": times}))
    totals = pa.concat_tables(counted).group_by("values").aggregate([("counts", "sum")]).sort_by("values")
    counts = totals["counts_sum"].to_numpy()
    steps = np.floor(np.cumsum(counts) * min(1.0, SAMPLE_WORDS / max(int(counts.sum()), 1)) + 1e-9)
    times = np.diff(steps, prepend=0).astype(np.int64)
    return [
        SEPARATOR.join([word] * n) for word, n in zip(totals["values"].to_pylist(), times.tolist(), strict=True) if n
    ]


def _documents_with_words(store: Store, inputs: _Inputs, columns: list[str]) -> pa.Table:
    """Return columns of a part's documents, with the `lengths` of their words."""
    documents = read_table(store, inputs.documents, columns)
    words = read_table(store, inputs.words)
    if not documents["id"].equals(words["id"]):
        raise InputError("documents and words do not hold the same rows", where=inputs.documents.path)
    return documents.append_column("lengths", words["lengths"])


def _clusters(store: Store, inputs: _Inputs, ids: list[str]) -> list[str]:
    """Return the duplicate cluster of each kept document of a part."""
    minhash = read_table(store, inputs.minhash, ["id", "cluster", "kept"])
    minhash = minhash.filter(minhash["kept"])
    if minhash["id"].to_pylist() != ids:
        raise InputError("documents and minhash do not hold the same rows", where=inputs.documents.path)
    return list(minhash["cluster"].to_pylist())


def _vocabulary(run: Run) -> bytes:
    return read_verified(run.store, run.made["tokenizer"].files[0])


def _shards_inputs(run: Run) -> dict[str, Any]:
    return {"settings": run.cfg.shards, "sources": run.cfg.ingest.sources, "tokenizer": sha256(run.once(_vocabulary))}


def _shards(run: Run) -> None:
    store, cfg, night = run.store, run.cfg, layout.night(run.night)
    encoder = Tokenizer.load(run.once(_vocabulary), cfg.text)
    parts = _match(run)
    n_bytes = _text_bytes(store, parts)
    plan = _Plan.of(n_bytes, cfg)
    routed = {inputs.key: f"{run.work}/routed/{inputs.key}.rows" for inputs in parts}

    def route(inputs: _Inputs) -> Part:
        return Part({routed[inputs.key]: _route(store, inputs, cfg, plan)})

    bounds = dict[str, npt.NDArray[np.int64]]()

    def collect(bucket: int) -> Part:
        rows = _collect(store, bounds, bucket)
        if not len(rows):
            return Part()
        table, counts = _encode(rows, encoder, cfg, plan.split(bucket))
        file = shard_bytes(table)
        path = f"{night.split(plan.split(bucket))}{sha256(file)[:16]}.parquet"
        return Part({path: file}, counts, {path: len(table)})

    buckets = [(f"shard-{bucket:05d}", bucket) for bucket in range(plan.n_buckets)]
    with track("shards", total=n_bytes, unit="B") as bar:
        run.map([(f"route-{inputs.key}", inputs) for inputs in parts], route)
        bounds |= {path: _bounds(store, path, plan) for path in routed.values()}
        done = run.map(buckets, collect, done=lambda _: bar.advance(n_bytes / plan.n_buckets))
    if not (counts := add_counts(done)):
        raise InputError("no documents to make shards of", where=f"night {run.night}")
    if not run.has("card"):
        files = [entry for key, _ in buckets for entry in run.part_files(key)]
        run.commit("card", Part(_cards(run, files, counts)))


SHARDS = Step(
    "shards",
    5,
    _shards_inputs,
    _shards,
    needs={"documents": "dedup", "words": "segment"},
    reads=("tokenizer",),
    grows_with="kept",
    folders="documents|work/segment|tokenizer",
)
"""Encode the night's documents and write its shards, with a data card (README.md) and Croissant metadata.

Counts: `documents` (by split), `tokens` and `bytes` (by split and language), and `sources` (by source and language:
`documents`, `bytes`, `words`, `content_words`, `tokens`).
"""


def _cards(run: Run, files: list[FileEntry], counts: Counts) -> dict[str, pa.Table | bytes]:
    cfg, night, place = run.cfg, run.night, layout.night(run.night)
    files = sorted(files, key=lambda entry: entry.path)
    engine, pieces = run.made["segment"].depends_on["engine"], run.made["tokenizer"].counts["pieces"]
    return {
        place.file("README.md"): data_card(cfg, night, files, counts, engine, pieces),
        place.file("croissant.json"): croissant(cfg, night, files, counts),
    }


@dataclass(frozen=True, slots=True)
class _Plan:
    """How many shards each split has; buckets number the shards of `SPLITS` one after the other."""

    shards: tuple[int, ...]

    @classmethod
    def of(cls, n_bytes: int, cfg: Config) -> _Plan:
        held_out = (cfg.shards.validation_share, cfg.shards.test_share)
        shares = (max(0.0, 1.0 - sum(held_out)), *held_out)
        return cls(tuple(max(1, round(n_bytes * share / 1e6 / cfg.shards.target_mb)) for share in shares))

    @property
    def n_buckets(self) -> int:
        return sum(self.shards)

    def split(self, bucket: int) -> str:
        """Return the split that a bucket belongs to."""
        return SPLITS[int(np.searchsorted(np.cumsum(self.shards), bucket, side="right"))]

    def buckets(self, split: npt.NDArray[np.int8], place: npt.NDArray[np.float64]) -> np.ndarray:
        """Return the bucket of documents by their split (index into `SPLITS`) and place in [0, 1) within it."""
        shards = np.array(self.shards)[split]
        buckets: np.ndarray = np.cumsum([0, *self.shards])[split] + (place * shards).astype(np.int64)
        return buckets


def _text_bytes(store: Store, parts: list[_Inputs]) -> int:
    return sum(pc.sum(read_table(store, part.documents, ["n_bytes"])["n_bytes"]).as_py() or 0 for part in parts)


def _match(run: Run) -> list[_Inputs]:
    """Return documents, words and minhash files of the same part together."""
    night = layout.night(run.night)

    def by_name(entries: Iterable[FileEntry]) -> dict[str, FileEntry]:
        return {layout.stem(entry.path): entry for entry in entries}

    words, minhash = by_name(run.made["segment"].files), by_name(run.made["dedup"].entries(night.minhash))
    documents = by_name(run.made["dedup"].entries(night.documents))
    return [_Inputs(name, entry, words[name], minhash[name]) for name, entry in documents.items()]


def _route(store: Store, inputs: _Inputs, cfg: Config, plan: _Plan) -> bytes:
    """Return a part's documents bucket by bucket, behind where each begins and the last ends (int64).

    A shard then reads its own of every part, and each by one range: all of them would be read once a shard else.
    """
    table = _documents_with_words(store, inputs, ["id", "lang", "source", "text", "n_bytes"])
    ids = table["id"].to_pylist()
    split = assign(_clusters(store, inputs, ids), cfg.shards)
    bucket = plan.buckets(split, unit_hashes(ids, "shard", cfg.shards.seed))
    table = table.append_column("order", pa.array(unit_hashes(ids, "order", cfg.shards.seed)))
    table = table.take(np.argsort(bucket, kind="stable")).combine_chunks()
    bounds = np.searchsorted(np.sort(bucket), np.arange(plan.n_buckets + 1)).tolist()
    rows = [with_checksum(_stream(table.slice(begin, end - begin))) for begin, end in pairwise(bounds)]
    places = np.cumsum([_head_bytes(plan), *map(len, rows)], dtype="<i8")
    return b"".join([with_checksum(places.tobytes()), *rows])


def _head_bytes(plan: _Plan) -> int:
    return len(with_checksum(bytes(8 * (plan.n_buckets + 1))))


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _bounds(store: Store, path: str, plan: _Plan) -> npt.NDArray[np.int64]:
    return np.frombuffer(read_with_checksum(store, path, 0, _head_bytes(plan), AGAIN), "<i8")


def _collect(store: Store, bounds: Mapping[str, npt.NDArray[np.int64]], bucket: int) -> pa.Table:
    """Return a bucket's documents out of every part, in the order of their hashes."""
    some = [
        read_with_checksum(store, path, int(places[bucket]), int(places[bucket + 1]), AGAIN)
        for path, places in bounds.items()
    ]
    table = pa.concat_tables([pa.ipc.open_stream(rows).read_all() for rows in some])
    return table.sort_by([("order", "ascending"), ("id", "ascending")]).combine_chunks()


def _encode(rows: pa.Table, encoder: Tokenizer, cfg: Config, split: str) -> tuple[pa.Table, Counts]:
    """Return the SHARDS columns of documents, its words as indices into the different ones, and what was counted."""
    words = words_of(rows)
    carries = content_flags(words.values.dictionary, cfg.text)
    content_words, input_ids, mask = encode_words(words, carries, encoder)
    table = pa.table(
        {
            "id": rows["id"],
            "lang": rows["lang"],
            "source": rows["source"],
            "words": words,
            "content_words": content_words,
            "input_ids": input_ids,
            "content_mask": mask,
            "n_bytes": rows["n_bytes"],
        }
    )
    return table, _counts(table, split)


def _counts(table: pa.Table, split: str) -> Counts:
    columns: dict[str, pa.ChunkedArray] = {"source": table["source"], "lang": table["lang"], "bytes": table["n_bytes"]}
    lists = {"words": "words", "content_words": "content_words", "tokens": "input_ids"}
    columns |= {name: pc.list_value_length(table[column]) for name, column in lists.items()}
    sums = [*((name, "sum") for name in ("bytes", *lists)), ("bytes", "count")]
    counted = []
    for row in pa.table(columns).group_by(["source", "lang"]).aggregate(sums).to_pylist():
        lang, of_row = row["lang"], {name: row[f"{name}_sum"] for name in ("bytes", *lists)}
        counts: Counts = {name: {split: {lang: of_row[name]}} for name in ("tokens", "bytes")}
        counts["documents"] = {split: row["bytes_count"]}
        counted.append(counts | {"sources": {row["source"]: {lang: of_row | {"documents": row["bytes_count"]}}}})
    return add_counts(counted)
