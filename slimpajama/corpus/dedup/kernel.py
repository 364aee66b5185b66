"""From texts to what documents are compared by: signature, band keys and a hash of the normalised content.

Documents go through in blocks that fit the processor's cache: normalise, hash, sketch. Each step is one call
that releases the interpreter's lock, so threads scale, and every document's result is its own: the same for
any block size and number of workers.
"""

import hashlib
import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import DedupConfig
from slimpajama.core.stopping import Pool
from slimpajama.corpus.dedup.affine32 import affine32_signatures
from slimpajama.corpus.dedup.minhash import oph_signatures
from slimpajama.corpus.dedup.normalise import Normalised, normalise_block
from slimpajama.text.buffers import text_buffers
from slimpajama.text.kernels import GOLDEN, compiled

# Raise it when normalisation, hashing or keys change; sketches of different versions do not compare.
VERSION = 3
# Text, code points and hashes of a block stay within a second-level cache of 1 MB.
BLOCK_BYTES = 128 * 1024


class Sketches(NamedTuple):
    """What N documents are compared by."""

    keys: npt.NDArray[np.uint64]
    """[N, bands]: two documents that share one are compared."""
    content: npt.NDArray[np.uint8]
    """[N, 16]: first half of SHA-256 of the normalised text; equal for exact copies only."""
    n_chars: npt.NDArray[np.uint32]
    """[N]: characters after normalisation."""


def sketch(texts: pa.LargeStringArray, cfg: DedupConfig, workers: int = 1) -> Sketches:
    """Return band keys, content hash and length of each text; raises ValueError if one is null."""
    offsets, data = text_buffers(texts)
    out = Sketches(
        np.empty((len(texts), cfg.bands), np.uint64),
        np.empty((len(texts), 16), np.uint8),
        np.empty(len(texts), np.uint32),
    )

    def run(span: tuple[int, int]) -> None:
        start, stop = span
        block = normalise_block(offsets[start : stop + 1], data, drop_punctuation=cfg.drop_punctuation)
        out.keys[start:stop] = band_keys(signatures(block, cfg), cfg.bands, cfg.rows)
        # Cryptographic, because the corpus is hostile input: nobody can craft a page that has another one removed.
        # OpenSSL's takes 0.6 ns a byte where the processor helps; a kernel of our own took 2.
        view, ends = memoryview(block.utf8), block.byte_offsets.tolist()  # type: ignore[arg-type]
        hashes = [hashlib.sha256(view[begin:end]).digest()[:16] for begin, end in itertools.pairwise(ends)]
        out.content[start:stop] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16)
        out.n_chars[start:stop] = np.diff(block.char_offsets)

    if workers <= 1:
        for span in _blocks(offsets):
            run(span)
    else:
        with Pool(workers, "dedup") as pool:
            # Taking the results raises the first error.
            list(pool.map(run, _blocks(offsets)))
    return out


def signatures(block: Normalised, cfg: DedupConfig) -> npt.NDArray[np.uint32]:
    """Return the signatures of one block, uint32 [N, num_perm], by the configured scheme.

    The share of equal entries of two rows estimates the Jaccard similarity.
    """
    if cfg.sketch == "datasketch":
        return affine32_signatures(block.utf8, block.byte_offsets, cfg.ngram_chars, cfg.num_perm, cfg.seed)
    return oph_signatures(block.chars, block.char_offsets, cfg.ngram_chars, cfg.num_perm, cfg.seed)


def _blocks(offsets: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut documents into runs of about `BLOCK_BYTES`: (first, behind the last)."""
    spans, start, n = [], 0, len(offsets) - 1
    while start < n:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + BLOCK_BYTES, side="right")) - 1)
        spans.append((start, min(stop, n)))
        start = spans[-1][1]
    return spans


def band_keys(signatures: npt.NDArray[np.uint32], bands: int, rows: int) -> npt.NDArray[np.uint64]:
    """Return one 64-bit key a band, uint64 [N, bands]: two documents meet where all rows of a band agree.

    Bands differ in their keys even for the same values, so keys of all bands can share one index.
    """
    out = np.empty((len(signatures), bands), np.uint64)
    _band_keys(signatures, rows, out)
    return out


@compiled
def _band_keys(signatures: Any, rows: int, out: Any) -> None:
    for d in range(len(signatures)):
        for band in range(out.shape[1]):
            key = np.uint64(band + 1) * GOLDEN
            for row in range(rows):
                key = (key ^ np.uint64(signatures[d, band * rows + row])) * np.uint64(0xFF51AFD7ED558CCD)
                key ^= key >> np.uint64(32)
            out[d, band] = key
