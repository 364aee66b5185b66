"""Which split and shard a document goes to, and in what order. Keyed hashes decide, so workers need not agree."""

import hashlib
from collections.abc import Sequence

import numpy as np

from slimpajama.core.config import PairsConfig, ShardsConfig

SPLITS = ("train", "validation", "test")


def unit_hashes(keys: Sequence[str], purpose: str, seed: int) -> np.ndarray:
    """Return a number in [0, 1) for each key, float64 of shape (len(keys),); each purpose and seed has its own."""
    salt = hashlib.blake2b(f"{purpose}\0{seed}".encode(), digest_size=16).digest()
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8, key=salt).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8").astype(np.float64) / 2.0**64


def assign(clusters: Sequence[str], cfg: ShardsConfig | PairsConfig) -> np.ndarray:
    """Return each document's index into `SPLITS` by its duplicate cluster, or each pair's by its group.

    Near-duplicates share a cluster, in every night, so none has a twin across the splits.
    """
    place = unit_hashes(clusters, "split", cfg.seed)
    held_out = np.where(place < cfg.test_share, 2, 1)
    return np.where(place < cfg.test_share + cfg.validation_share, held_out, 0).astype(np.int8)
