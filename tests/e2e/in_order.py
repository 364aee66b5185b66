"""The order in which training and tuning of version 0.1.0 read, so that all else can be held against that version."""

import itertools

import numpy as np

from slimpajama.apps.tune import rows as tuning
from slimpajama.model.train import data
from slimpajama.model.train.rows import Stream


def use():
    """Let this process read in that order."""
    data.Stream = InOrder
    tuning.PairRows._epoch = pairs_in_order


class InOrder(Stream):
    """Rows that follow each other: shards, and the documents of each, in a random order."""

    def take(self, n):
        """Return the next rows."""
        if not hasattr(self, "tokens"):
            self.tokens, self.shards_of_all_epochs = np.zeros((2, 0), np.uint16), self.in_order()
        size = n * self.row_tokens
        while self.tokens.shape[1] < size:
            self.tokens = np.concatenate([self.tokens, next(self.shards_of_all_epochs)], axis=1)
        (ids, flags), self.tokens = np.split(self.tokens, [size], axis=1)
        return ids.reshape(n, -1), flags.reshape(n, -1).astype(bool)

    def in_order(self):
        """Yield each shard's ids and flags."""
        names = list(self.shards)
        for epoch in itertools.count():
            seeds = [self.seed, self.stream, epoch]
            for number, name in enumerate(np.random.default_rng([*seeds, 0]).permutation(len(names))):
                shard = self.read(names[name])
                documents = np.split(np.stack([shard.ids, shard.content]), np.cumsum(shard.lengths)[:-1], axis=1)
                order = np.random.default_rng([*seeds, 1, number]).permutation(len(documents))
                border = np.array([[self.document_id], [1]], np.uint16)
                yield np.concatenate([part for i in order for part in (border, documents[i])], axis=1)


def pairs_in_order(self):
    """Return the batches of an epoch as they were cut before pairs were gathered by hashes."""
    if not self._batches:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(np.repeat(np.arange(len(self.examples)), self._times))
        pools = [order[start : start + tuning.POOL] for start in range(0, len(order), tuning.POOL)]
        batches = [batch for pool in pools for batch in self._cut(pool[np.lexsort(self._lengths[pool].T[::-1])])]
        self._batches = [batches[i] for i in rng.permutation(len(batches))]
    return self._batches
