"""Exact similarity of candidate pairs whose texts lie in many files, in bounded memory.

Pairs are cut into buckets whose texts fit in memory, by connected component of the pairs. So nearly every text is in
one bucket: it is read once from its file, written to its bucket and read once more. A component that is too large for
one bucket is cut by number; its first documents are then in several buckets.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import DedupConfig
from slimpajama.core.memory import release_memory
from slimpajama.core.progress import track
from slimpajama.core.stopping import Pool
from slimpajama.corpus.dedup.clusters import components
from slimpajama.corpus.dedup.documents import LoadTexts, Numbers
from slimpajama.corpus.dedup.jaccard import jaccard
from slimpajama.corpus.dedup.spill import HALF, Packed, PairSet, Scored, TextBuckets, distinct, pack, runs, save, unpack
from slimpajama.text.kernels import compiled

# Characters that are compared in one call; at 13 bytes and more each, they stay near the cache.
CHUNK_CHARS = 2_000_000
# Texts put into buckets at a time.
AT_ONCE = 1000
# A bucket's characters are this part of the memory in bytes: 3 bytes each, twice while they are sorted.
SHARE = 125
# Buckets after which memory is released; to release what is used again at once costs page faults.
GIVE_BACK_EVERY = 16


class Texts(NamedTuple):
    """Where the texts of N documents are."""

    places: Callable[[Numbers], npt.NDArray[np.int64]]
    """Documents -> file index * 2^32 + row of each."""
    files: list[LoadTexts]
    n_chars: Numbers
    """[N]: about how long each is; for bounding memory only."""


def similarities(
    pairs: PairSet, texts: Texts, cfg: DedupConfig, least: float, workers: int, memory: int, folder: Path
) -> Iterator[Scored]:
    """Yield distinct pairs and their Jaccard similarities, a bucket at a time; 0 where a text is gone.

    Texts are loaded from this thread only, `workers` threads compare. Similarities from `least` on are exact; a pair
    below may be given as 0. What does not fit into `memory` bytes goes to `folder`, which is emptied again.
    """
    most = max(1, memory // SHARE)
    total, needed = 0, list[Numbers]()
    for packed in _coarse(pairs, texts.n_chars, most, folder):
        for part, nodes in _cut(packed, texts.n_chars, most):
            save(folder / f"pairs-{len(needed):05d}", part)
            total += len(part)
            needed.append(nodes)
    text_folder = folder / "texts"
    text_folder.mkdir()
    store = _fetch(needed, texts, TextBuckets(text_folder, 3 * most))
    with track("compare", total=total, unit="pairs") as bar, Pool(workers) as pool:
        for number in range(len(needed)):
            file = folder / f"pairs-{number:05d}"
            packed = np.fromfile(file, np.uint64)
            file.unlink()
            table = store.take(number)
            nodes, text = table["node"].to_numpy(), table["text"].combine_chunks()
            places = np.searchsorted(nodes, unpack(packed).astype(np.uint32))
            yield packed, _compare(places, text, texts.n_chars[nodes], cfg, least, workers, pool)
            del table, text
            # The holes between the arrays of all buckets would add up.
            if number % GIVE_BACK_EVERY == 0:
                release_memory()
            bar.advance(len(packed))
    text_folder.rmdir()


def _compare(
    pairs: npt.NDArray[np.int64],
    texts: pa.LargeStringArray,
    n_chars: Numbers,
    cfg: DedupConfig,
    least: float,
    workers: int,
    pool: Pool,
) -> npt.NDArray[np.float64]:
    """Return the similarities of one bucket's pairs, chunk by chunk."""
    out = np.zeros(len(pairs))

    def compare(part: npt.NDArray[np.int64], local: npt.NDArray[np.int64], some: pa.LargeStringArray) -> None:
        gone = some.is_null().to_numpy(zero_copy_only=False)
        there = pc.fill_null(some, "") if some.null_count else some
        found = jaccard(there, local, cfg.ngram_chars, least, drop_punctuation=cfg.drop_punctuation)
        out[part] = np.where(gone[local].any(axis=1), 0.0, found)

    family = components([pack(pairs)], len(n_chars))
    # So that few documents are in two chunks.
    order = np.argsort(family[pairs[:, 0]], kind="stable")
    running: list[Future[None]] = []
    for start, end in pairwise([0, *_chunks(pairs[order], n_chars, CHUNK_CHARS).tolist()]):
        part = order[start:end]
        rows, local = np.unique(pairs[part], return_inverse=True)
        running.append(pool.submit(compare, part, local.reshape(-1, 2), texts.take(pa.array(rows))))
        # Texts in flight are bounded too.
        if len(running) > workers:
            running.pop(0).result()
    for future in running:
        future.result()
    return out


def _coarse(pairs: PairSet, n_chars: Numbers, most: int, folder: Path) -> Iterator[Packed]:
    """Yield the pairs by the bucket of their second document, each bucket sorted and distinct."""
    n, count, touched = len(n_chars), np.zeros(len(n_chars), np.int64), np.zeros(len(n_chars), np.bool_)
    for packed in pairs.blocks():
        second = (packed & HALF).astype(np.int64)
        count += np.bincount(second, minlength=n)
        touched[second] = touched[(packed >> np.uint64(32)).astype(np.int64)] = True
    # A pair counts as one character.
    count += np.where(touched, n_chars, 0)
    if count.sum() <= most:
        whole = distinct(np.concatenate(list(pairs.blocks())))
        if len(whole):
            yield whole
        return
    order = np.argsort(components(pairs.blocks(), n), kind="stable")
    del touched
    bucket = np.empty(n, np.uint32)
    bucket[order] = np.cumsum(count[order]) // most
    del order, count
    for packed in pairs.blocks():
        at = bucket[(packed & HALF).astype(np.int64)]
        order = np.argsort(at, kind="stable")
        at, ordered = at[order], packed[order]
        for start, end in runs(at):
            with (folder / f"coarse-{at[start]:06d}").open("ab") as file:
                # Not `tofile`, see `save`.
                file.write(ordered[start:end].data)
    del bucket
    for path in sorted(folder.glob("coarse-*")):
        yield distinct(np.fromfile(path, np.uint64))
        path.unlink()


def _cut(packed: Packed, n_chars: Numbers, most: int) -> Iterator[tuple[Packed, Numbers]]:
    """Halve a bucket's pairs until the documents of each part fit: (pairs, documents)."""
    nodes = np.unique(unpack(packed)).astype(np.uint32)
    if len(packed) == 1 or int(n_chars[nodes].sum()) <= 2 * most:
        yield packed, nodes
        return
    half = len(packed) // 2
    yield from _cut(packed[:half], n_chars, most)
    yield from _cut(packed[half:], n_chars, most)


def _fetch(needed: list[Numbers], texts: Texts, store: TextBuckets) -> TextBuckets:
    """Put every document's text into the buckets that need it; each file is read once."""
    if not needed:
        return store
    nodes = np.concatenate(needed)
    bucket = np.repeat(np.arange(len(needed), dtype=np.uint32), [len(part) for part in needed])
    places = texts.places(nodes)
    order = np.argsort(places, kind="stable")
    nodes, bucket, places = nodes[order], bucket[order], places[order]
    for start, end in runs(places >> 32):
        rows, copies = np.unique(places[start:end] & 0xFFFFFFFF, return_inverse=True)
        found = texts.files[places[start] >> 32](rows)
        # A text that many buckets need is copied as often.
        for low in range(start, end, AT_ONCE):
            part = slice(low, min(end, low + AT_ONCE))
            store.add(bucket[part], nodes[part], found.take(pa.array(copies[low - start : part.stop - start])))
    return store


@compiled(allocates=True)
def _chunks(pairs: Any, sizes: Any, most: int) -> Any:
    """Cut pairs into chunks whose documents have about `most` characters together; return where each chunk ends.

    There is at least one pair, and each counts as one character.
    """
    ends, total, number, chunk = np.empty(len(pairs), np.int64), 0, 0, np.full(len(sizes), -1, np.int64)
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        more = 1 + (sizes[a] if chunk[a] != number else 0) + (sizes[b] if chunk[b] != number else 0)
        if total > 0 and total + more > most:
            ends[number] = p
            number, total, more = number + 1, 0, 1 + sizes[a] + sizes[b]
        total += more
        chunk[a] = chunk[b] = number
    ends[number] = len(pairs)
    return ends[: number + 1]
