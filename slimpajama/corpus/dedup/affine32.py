"""MinHash signatures that datasketch 2.0 can compare with its own: its scheme `affine32`, bit for bit.

A shingle's hash is the first four bytes of SHA-1 of its UTF-8, mixed once by MurmurHash3's finaliser; permutation
k maps it to `a_k * h + b_k` in 32 bits, with `a_k` odd; the signature keeps each permutation's minimum. Named,
because datasketch changed its default in 2.0 and sketches of different schemes do not compare.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from slimpajama.text.kernels import compiled


def affine32_signatures(
    utf8: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], ngram: int, num_perm: int, seed: int
) -> npt.NDArray[np.uint32]:
    """Return signatures, uint32 [N, num_perm], of documents given as UTF-8 end to end.

    Equal to `datasketch.MinHash(num_perm, seed)` after `update` with the UTF-8 of every shingle of `ngram`
    characters. A document shorter than `ngram` is one shingle: itself.
    """
    out = np.full((len(offsets) - 1, num_perm), 0xFFFFFFFF, np.uint32)
    _signatures(utf8, offsets, ngram, *_permutations(num_perm, seed), out)
    return out


@lru_cache(maxsize=4)
def _permutations(num_perm: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    # The legacy generator, whose stream numpy has frozen.
    draw = np.random.RandomState(seed)
    a = draw.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, draw.randint(0, 1 << 32, num_perm, dtype=np.uint32)


@compiled(inline=True)
def _rotate(x: Any, n: int) -> Any:
    return np.uint32((x << np.uint32(n)) | (x >> np.uint32(32 - n)))


@compiled
def _sha1_32(message: Any, block: Any, w: Any) -> Any:
    """Return the first four bytes of SHA-1, read as a little-endian integer (FIPS 180-4, section 6.1).

    `block` (uint8 [64]) and `w` (uint32 [80]) are scratch.
    """
    n = len(message)
    h0, h1, h2 = np.uint32(0x67452301), np.uint32(0xEFCDAB89), np.uint32(0x98BADCFE)
    h3, h4 = np.uint32(0x10325476), np.uint32(0xC3D2E1F0)
    for start in range(0, n + 9, 64):
        for k in range(64):
            at = start + k
            block[k] = message[at] if at < n else 0x80 if at == n else 0
        # The last block ends with the length in bits.
        if n + 9 <= start + 64:
            for k in range(8):
                block[63 - k] = (8 * n >> 8 * k) & 0xFF
        for i in range(16):
            w[i] = block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3]
        for i in range(16, 80):
            w[i] = _rotate(np.uint32(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]), 1)
        a, b, c, d, e = h0, h1, h2, h3, h4
        for i in range(20):
            f = np.uint32(((b & c) | (~b & d)) + np.uint32(0x5A827999))
            a, b, c, d, e = np.uint32(_rotate(a, 5) + f + e + w[i]), a, _rotate(b, 30), c, d
        for i in range(20, 40):
            f = np.uint32((b ^ c ^ d) + np.uint32(0x6ED9EBA1))
            a, b, c, d, e = np.uint32(_rotate(a, 5) + f + e + w[i]), a, _rotate(b, 30), c, d
        for i in range(40, 60):
            f = np.uint32(((b & c) | (b & d) | (c & d)) + np.uint32(0x8F1BBCDC))
            a, b, c, d, e = np.uint32(_rotate(a, 5) + f + e + w[i]), a, _rotate(b, 30), c, d
        for i in range(60, 80):
            f = np.uint32((b ^ c ^ d) + np.uint32(0xCA62C1D6))
            a, b, c, d, e = np.uint32(_rotate(a, 5) + f + e + w[i]), a, _rotate(b, 30), c, d
        h0, h1, h2 = np.uint32(h0 + a), np.uint32(h1 + b), np.uint32(h2 + c)
        h3, h4 = np.uint32(h3 + d), np.uint32(h4 + e)
    return np.uint32((h0 & 0xFF) << 24 | (h0 & 0xFF00) << 8 | (h0 >> 8) & 0xFF00 | h0 >> 24)


@compiled
def _lower(h: Any, a: Any, b: Any, row: Any) -> None:
    """Take one shingle into a signature."""
    for k in range(len(row)):
        row[k] = min(row[k], np.uint32(a[k] * h + b[k]))


@compiled(allocates=True)
def _signatures(utf8: Any, offsets: Any, ngram: int, a: Any, b: Any, out: Any) -> None:
    block, w = np.empty(64, np.uint8), np.empty(80, np.uint32)
    for d in range(len(offsets) - 1):
        # Ahead: characters between `start` and `stop`.
        end, ahead = offsets[d + 1], 0
        start = stop = offsets[d]
        while True:
            while stop < end and (ahead < ngram or utf8[stop] & 0xC0 == 0x80):
                stop += 1
                ahead += stop == end or utf8[stop] & 0xC0 != 0x80
            h = _sha1_32(utf8[start:stop], block, w)
            h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            _lower(np.uint32(h ^ (h >> np.uint32(16))), a, b, out[d])
            if stop == end:
                break
            start += 1
            while utf8[start] & 0xC0 == 0x80:
                start += 1
            ahead -= 1
