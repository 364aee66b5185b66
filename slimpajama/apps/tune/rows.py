"""Batches of a tuning: pairs of like length together.

An epoch's pairs are gathered in pools by a hash of their ids, seed and epoch, sorted by length inside each, cut into
batches of about as many tokens, and these shuffled by a hash of their place: little padding, no order that a model
could learn, and a pair that is missing leaves the others in their pools. A position is two numbers.

Tasks with few pairs come up more often: the pairs of one with a q-th of the largest task's tokens stand `sqrt(q)`
times in an epoch, rounded (sampling at temperature 2, as in Arivazhagan et al. 2019, "Massively multilingual neural
machine translation in the wild").
"""

# B = pairs a batch, S = tokens of a source, T = tokens of a target, K = tokens a chunk

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimpajama.apps.tune.examples import Examples, padded
from slimpajama.core.errors import InputError
from slimpajama.core.split import mixed
from slimpajama.model.train.rows import Rows

# Pairs that are sorted by length together, at most, on average.
POOL = 4096


class PairRows(Rows):
    """Batches of pairs.

    Args:
        kinds: The model's, in the order of their numbers.
        batch_tokens: Tokens of sources and targets in a batch, padding included.
        vocab_size: V, which fills what is behind a text's end.
    """

    def __init__(
        self,
        examples: Examples,
        kinds: tuple[str, ...],
        *,
        row_tokens: int,
        batch_tokens: int,
        vocab_size: int,
        chunk_tokens: int,
        seed: int,
    ) -> None:
        if not len(examples):
            raise InputError("no pair to tune on", where="pairs.sources")
        self.examples, self.seed = examples, seed
        self.vocab_size, self.chunk_tokens = vocab_size, chunk_tokens
        self.batch_rows, self.row_tokens = max(1, batch_tokens // row_tokens), row_tokens
        self._kinds = np.array([kinds.index(kind) for kind in examples.kinds], np.int64)
        self._lengths = np.array([[len(s), len(t)] for s, t in zip(examples.sources, examples.targets, strict=True)])
        tasks = np.unique([kind.partition("-")[0] for kind in kinds], return_inverse=True)[1][self._kinds]
        tokens = np.bincount(tasks, self._lengths.sum(axis=1))
        self._times = np.rint(np.sqrt(tokens.max() / np.maximum(tokens, 1))).astype(np.int64)[tasks]
        self.epoch, self.place = 0, 0
        self._batches: list[NDArray[np.int64]] = []

    def batch(self) -> tuple[NDArray[Any], ...]:
        """Return source_BS, target_BT, kind_B and quote_B2 of the next pairs."""
        chosen_B = self._epoch()[self.place]
        self.place += 1
        if self.place == len(self._batches):
            self.epoch, self.place, self._batches = self.epoch + 1, 0, []
        sources, targets = ([side[i] for i in chosen_B] for side in (self.examples.sources, self.examples.targets))
        rows = self.row_tokens if max(map(len, sources)) > self.row_tokens else self.chunk_tokens
        source_BS = padded(sources, rows, self.vocab_size)
        target_BT = padded(targets, self.chunk_tokens, self.vocab_size)
        return source_BS, target_BT, self._kinds[chosen_B], self.examples.quotes[chosen_B]

    def _epoch(self) -> list[NDArray[np.int64]]:
        if not self._batches:
            salt = np.random.default_rng([self.seed, self.epoch]).integers(1 << 64, dtype=np.uint64)
            pairs = np.repeat(np.arange(len(self.examples)), self._times)
            turns = np.arange(len(pairs)) - np.repeat(np.cumsum(self._times) - self._times, self._times)
            keys = mixed(mixed(self.examples.keys[pairs] ^ salt) + turns.astype(np.uint64))
            bits = ((len(pairs) - 1) // POOL).bit_length()
            pools = (keys >> np.uint64(32) << np.uint64(bits)) >> np.uint64(32)
            # By pool, then source, then target.
            order = np.lexsort((keys, *self._lengths[pairs].T[::-1], pools))
            bounds = np.searchsorted(pools[order], np.arange(1, 1 << bits))
            cut = [self._cut(pairs[pool]) for pool in np.split(order, bounds) if len(pool)]
            places = np.array([n << 32 | place for n, pool in enumerate(cut) for place in range(len(pool))], np.uint64)
            batches = [batch for pool in cut for batch in pool]
            self._batches = [batches[i] for i in np.argsort(mixed(places ^ salt), kind="stable")]
        return self._batches

    def _cut(self, pool: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cut pairs, ascending by length, where padding them to the longest would make a batch too large."""
        batches, first = [], 0
        for last in range(len(pool)):
            longest = self._lengths[pool[first : last + 1]].max(axis=0)
            if last > first and (last + 1 - first) * int(longest.sum()) > self.batch_rows * self.row_tokens:
                batches.append(pool[first:last])
                first = last
        return [*batches, pool[first:]]

    def position(self) -> dict[str, Any]:
        return {"pairs": [self.epoch, self.place]}

    def seek(self, position: dict[str, Any]) -> None:
        self.epoch, self.place = (int(n) for n in position["pairs"])
        self._batches = []

    def describe(self) -> str:
        return f"batch {self.place} of epoch {self.epoch} of the pairs"
