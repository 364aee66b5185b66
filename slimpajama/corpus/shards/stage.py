"""Tokenizer and shards of a night: words in, `shards/{train,validation,test}/*.parquet` out.

Two passes, both resumable: the documents of each part are laid out by the shard they go to; then each shard
collects its own from all parts, encodes and writes them. Order within a shard is a keyed hash of the id, so sources
are mixed the same way whatever the number of workers. Memory holds one part or one shard a worker.

A shard's file is named by the first 16 hex digits of its sha256: the same content, the same name.
"""

import io
from collections.abc import Mapping
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
from slimpajama.core.schema import SHARDS as COLUMNS
from slimpajama.core.split import SPLITS, assign, unit_hashes
from slimpajama.corpus.shards.card import croissant, data_card
from slimpajama.corpus.shards.columns import encode_words, shard_bytes, words_of
from slimpajama.text.stopwords import content_flags
from slimpajama.text.tokenizer import SEPARATOR, Tokenizer, train_tokenizer
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, FileEntry, Manifest, add_counts, total
from slimpajama.workspace.parquet import read_table, read_verified, read_with_checksum, with_checksum
from slimpajama.workspace.step import Part, Run, Step
from slimpajama.workspace.store import Store, sha256

AGAIN = "`slimpajama prepare --from shards` makes it anew."
# Words that merges are learnt from, drawn by their counts in the whole sample.
SAMPLE_WORDS = 500_000
Shards = npt.NDArray[np.int64]
"""Of each of SPLITS, how many there are."""


def _kept_vocabulary(run: Run) -> tuple[Manifest | None, FileEntry | None]:
    """Return the newest night that has a vocabulary, and that vocabulary if it was learnt by the same settings."""
    nights = run.workspace.nights
    earlier = (nights.load(name) for name in reversed(nights.published()))
    # Not all nights kept any text.
    previous = next((found for found in earlier if "tokenizer" in found.depends_on["stages"]), None)
    settings = canonical(run.cfg.tokenizer)
    kept = previous is not None and previous.depends_on["stages"]["tokenizer"]["settings"] == settings
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
                step_log(run.name).info("settings changed: a new vocabulary, earlier nights' shards are not replayed")
            data = train_tokenizer(_sample(run), run.cfg.tokenizer)
            size = Tokenizer.load(data).vocab_size
        run.commit("tokenizer", Part({layout.night(run.night).tokenizer: data}, {"pieces": size}))
        bar.advance(size)


TOKENIZER = Step("tokenizer", 2, _tokenizer_inputs, _tokenizer, reads=("dedup", "segment"))
"""Keep the vocabulary of the newest night that has one, or learn one where there is none yet.

Its one file is `nights/NIGHT/tokenizer/tokenizer.json`.
"""


def _sample(run: Run) -> list[str]:
    """Return words of the training documents, joined, each about as often as its share of `sample_mb` of them.

    The documents are an even sample by hash. Of their words, in order, every n-th is taken, sorted: so a word comes
    as often as its count says, to one, and learning takes the same time for every size of the corpus.
    """
    share = min(1.0, run.cfg.tokenizer.sample_mb * 1e6 / max(_text_bytes(run), 1))
    counted: list[pa.Table] = []
    for part in _parts(run):
        table, ids, split = _documents(run, part, ["id", "text"])
        drawn = unit_hashes(ids, "tokenizer", run.cfg.shards.seed) < share
        words = words_of(table.filter(pa.array(drawn & (split == 0)))).values
        times = np.bincount(words.indices.to_numpy(), minlength=len(words.dictionary))
        counted.append(pa.table({"values": words.dictionary, "counts": times}))
    totals = pa.concat_tables(counted).group_by("values").aggregate([("counts", "sum")]).sort_by("values")
    counts = totals["counts_sum"].to_numpy()
    steps = np.floor(np.cumsum(counts) * min(1.0, SAMPLE_WORDS / max(int(counts.sum()), 1)) + 1e-9)
    times = np.diff(steps, prepend=0).astype(np.int64)
    return [
        SEPARATOR.join([word] * n) for word, n in zip(totals["values"].to_pylist(), times.tolist(), strict=True) if n
    ]


def _parts(run: Run) -> list[str]:
    """Return the names of the night's parts: documents, words and minhash of one lie in files of one name."""
    return [layout.stem(path) for path in run.made["dedup"].paths(layout.night(run.night).documents)]


def _text_bytes(run: Run) -> int:
    return total(run.made["dedup"].counts.get("kept_bytes", {}))


def _documents(run: Run, part: str, columns: list[str]) -> tuple[pa.Table, list[str], npt.NDArray[np.int8]]:
    """Return columns of a part's documents, with the `lengths` of their words; their ids; and the split of each."""
    night, file, kept = layout.night(run.night), f"{part}.parquet", run.made["dedup"]
    documents = read_table(run.store, kept.file(f"{night.documents}{file}"), columns)
    words = read_table(run.store, run.made["segment"].file(f"{night.work('segment')}/{file}"))
    minhash = read_table(run.store, kept.file(f"{night.minhash}{file}"), ["id", "cluster", "kept"])
    minhash, ids = minhash.filter(minhash["kept"]), documents["id"]
    if not (ids.equals(words["id"]) and ids.equals(minhash["id"])):
        raise InputError("documents, words and minhash do not hold the same rows", where=f"{night.documents}{file}")
    split = assign(minhash["cluster"].to_pylist(), run.cfg.shards)
    return documents.append_column("lengths", words["lengths"]), ids.to_pylist(), split


def _vocabulary(run: Run) -> bytes:
    return read_verified(run.store, run.made["tokenizer"].files[0])


def _shards_inputs(run: Run) -> dict[str, Any]:
    return {"settings": run.cfg.shards, "sources": run.cfg.ingest.sources, "tokenizer": sha256(run.once(_vocabulary))}


def _shards(run: Run) -> None:
    cfg, night, n_bytes = run.cfg, layout.night(run.night), _text_bytes(run)
    encoder, shards = Tokenizer.load(run.once(_vocabulary), cfg.text), _shards_of_splits(n_bytes, cfg)
    # Buckets number the shards of all splits, one after the other.
    splits = np.repeat(SPLITS, shards).tolist()
    routed = {part: f"{run.work}/routed/{part}.rows" for part in _parts(run)}

    def route(part: str) -> Part:
        return Part({routed[part]: _route(run, part, shards)})

    bounds = dict[str, npt.NDArray[np.int64]]()

    def collect(bucket: int) -> Part:
        rows = _collect(run.store, bounds, bucket)
        if not len(rows):
            return Part()
        table, counts = _encode(rows, encoder, cfg, splits[bucket])
        file = shard_bytes(table)
        path = f"{night.split(splits[bucket])}{sha256(file)[:16]}.parquet"
        return Part({path: file}, counts, {path: len(table)})

    buckets = [(f"shard-{bucket:05d}", bucket) for bucket in range(len(splits))]
    with track("shards", total=n_bytes, unit="B") as bar:
        run.map([(f"route-{part}", part) for part in routed], route)
        for path in routed.values():
            bounds[path] = np.frombuffer(read_with_checksum(run.store, path, 0, _head_bytes(shards), AGAIN), "<i8")
        done = run.map(buckets, collect, done=lambda _: bar.advance(n_bytes / len(splits)))
    if not (counts := add_counts(done)):
        raise InputError("no documents to make shards of", where=f"night {run.night}")
    if not run.has("card"):
        files = sorted((entry for key, _ in buckets for entry in run.part_files(key)), key=lambda entry: entry.path)
        engine, pieces = run.made["segment"].depends_on["engine"], run.made["tokenizer"].counts["pieces"]
        card = data_card(cfg, run.night, files, counts, engine, pieces)
        described = croissant(cfg, run.night, files, counts)
        run.commit("card", Part({night.file("README.md"): card, night.file("croissant.json"): described}))


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


def _shards_of_splits(n_bytes: int, cfg: Config) -> Shards:
    held_out = (cfg.shards.validation_share, cfg.shards.test_share)
    shares = (max(0.0, 1.0 - sum(held_out)), *held_out)
    return np.array([max(1, round(n_bytes * share / 1e6 / cfg.shards.target_mb)) for share in shares])


def _route(run: Run, part: str, shards: Shards) -> bytes:
    """Return a part's documents bucket by bucket, behind where each begins and the last ends (int64).

    A shard then reads its own of every part, and each by one range: all of them would be read once a shard else.
    """
    table, ids, split = _documents(run, part, ["id", "lang", "source", "text", "n_bytes"])
    place = unit_hashes(ids, "shard", run.cfg.shards.seed)
    bucket = np.cumsum([0, *shards])[split] + (place * shards[split]).astype(np.int64)
    table = table.append_column("order", pa.array(unit_hashes(ids, "order", run.cfg.shards.seed)))
    table = table.take(np.argsort(bucket, kind="stable")).combine_chunks()
    bounds = np.searchsorted(np.sort(bucket), np.arange(shards.sum() + 1)).tolist()
    rows = [with_checksum(_stream(table.slice(begin, end - begin))) for begin, end in pairwise(bounds)]
    places = np.cumsum([_head_bytes(shards), *map(len, rows)], dtype="<i8")
    return b"".join([with_checksum(places.tobytes()), *rows])


def _head_bytes(shards: Shards) -> int:
    return len(with_checksum(bytes(8 * (shards.sum() + 1))))


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return sink.getvalue()


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
    made = {"words": words, "content_words": content_words, "input_ids": input_ids, "content_mask": mask}
    table = pa.table([made[name] if name in made else rows[name] for name in COLUMNS.names], COLUMNS.names)
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
