"""Which split and shard a document goes to, and in what order. Keyed hashes decide, so workers need not agree."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slimpajama.core.config import PairsConfig, ShardsConfig

SPLITS = ("train", "validation", "test")


def hashes(keys: Sequence[str], purpose: str, seed: int) -> NDArray[np.uint64]:
    """Return a hash for each key, shape (len(keys),); each purpose and seed has its own."""
    salt = hashlib.blake2b(f"{purpose}\0{seed}".encode(), digest_size=16).digest()
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8, key=salt).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8")


def document_keys(ids: Sequence[str]) -> NDArray[np.uint64]:
    """Return the hash by which a training orders documents, and records which of them it has read."""
    return hashes(ids, "rows", 0)


def unit_hashes(keys: Sequence[str], purpose: str, seed: int) -> np.ndarray:
    """Return a number in [0, 1) for each key, float64 of shape (len(keys),), out of its hash."""
    return hashes(keys, purpose, seed).astype(np.float64) / 2.0**64


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a number for each one, of the same shape; no two have the same, and neighbours have nothing in common.

    Source: splitmix64's last steps (Steele et al. 2014, "Fast splittable pseudorandom number generators").
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def assign(clusters: Sequence[str], cfg: ShardsConfig | PairsConfig) -> np.ndarray:
    """Return each document's index into `SPLITS` by its duplicate cluster, or each pair's by its group.

    Near-duplicates share a cluster, in every night, so none has a twin across the splits.
    """
    place = unit_hashes(clusters, "split", cfg.seed)
    held_out = np.where(place < cfg.test_share, 2, 1)
    return np.where(place < cfg.test_share + cfg.validation_share, held_out, 0).astype(np.int8)
