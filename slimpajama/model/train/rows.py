"""Training rows: documents of the shards, packed without cropping or padding, from a position that restores exactly.

The documents of an epoch are one long stream of tokens with `<|document|>` before each. Rows are cut from that stream,
so every token of every document is trained on exactly once an epoch. Cutting and padding instead loses 7 to 10 % of the
tokens at rows of 256 and 33 to 49 % at 1,024 (measured on real bilingual text).

Rows come from all over the documents (see `order`): a step whose rows follow each other reads one or two documents, and
the model takes 3 to 18 % more bits per byte (docs/benchmarks/model.md). Where the shards are more than
LOT_BYTES, an epoch has several lots, each of shards drawn from all of them. Within a night documents went to shards by
a hash.

A position is three numbers (epoch, lot, row); no tokens need to be kept to go on from it. Memory: one shard, and about
60 bytes a document and row of a lot, whose tokens lie in a temporary file.
"""

# B = rows a batch, T = tokens a row, N = tokens of a shard, D = documents of a shard

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slimpajama.core.errors import InputError
from slimpajama.core.split import document_keys
from slimpajama.model.train.cache import ShardTokens, TokenCache
from slimpajama.model.train.order import Hashes, Order
from slimpajama.text.buffers import text_buffers

NEWEST, EARLIER = 0, 1
# Bytes of the shards whose rows are mixed: about a text's bytes. Their tokens take half as much.
LOT_BYTES = 1 << 29


def parse_shard(table: pa.Table) -> ShardTokens:
    """Return the tokens of a table with the columns `id`, `input_ids` and `content_mask` (schema SHARDS)."""
    ids, mask = (table[name].combine_chunks() for name in ("input_ids", "content_mask"))
    lengths = np.asarray(ids.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    ends, flags = text_buffers(mask.cast(pa.large_string()))
    if not np.array_equal(lengths, np.diff(ends)):
        raise InputError("a shard's content_mask is not as long as its input_ids")
    return ShardTokens(
        ids.flatten().to_numpy(zero_copy_only=False).astype(np.uint16, copy=False),
        flags[ends[0] : ends[-1]] == ord("1"),
        lengths,
        document_keys(table["id"].to_pylist()),
    )


@dataclass(slots=True)
class Stream:
    """Endless stream of rows over a fixed set of shards."""

    shards: Mapping[str, int]
    """Bytes of each by its name; the names are part of the result, but not their order."""
    read: Callable[[str], ShardTokens]
    document_id: int
    row_tokens: int
    seed: int
    stream: int = NEWEST
    """Keeps the orders of two streams with the same seed apart."""
    epoch: int = 0
    lot: int = 0
    row: int = 0
    _cache: tuple[list[str], TokenCache] | None = None
    """Names of its shards, and their tokens."""
    _order: Order | None = None

    def take(self, n: int) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Return the tokens of the next `n` rows and their content flags, each of shape (n, T)."""
        ids: list[NDArray[np.uint16]] = []
        content: list[NDArray[np.bool_]] = []
        missing = n
        while missing:
            cache, order = self.open_lot()
            last = min(self.row + missing, len(order))
            found = cache.read(order.places(self.row, last))
            ids.append(found[0])
            content.append(found[1])
            missing -= last - self.row
            self.row = last
            if last == len(order):
                self._next_lot()
        return np.concatenate(ids), np.concatenate(content)

    def read_keys(self) -> Hashes | None:
        """Return the hashes of the documents that the rows so far hold tokens of; None for all documents."""
        if self.epoch:
            return None
        until, keys = self.position(), [np.zeros(0, np.uint64)]
        for lot in range(until[1] + bool(until[2])):
            self.seek([0, lot, 0])
            cache, order = self.open_lot()
            keys.append(cache.keys[order.read_by(until[2] if lot == until[1] else len(order))])
        self.seek(until)
        return np.concatenate(keys)

    def position(self) -> list[int]:
        """Return epoch, lot (in this epoch's order) and row of the next row."""
        return [self.epoch, self.lot, self.row]

    def seek(self, position: Sequence[int]) -> None:
        """Go to a `position`, so that `take` returns what it would have returned then."""
        self.epoch, self.lot, self.row = (int(n) for n in position)
        self._order = None

    def describe(self) -> str:
        """Return where the next row lies, for messages."""
        return f"epoch {self.epoch}, lot {self.lot + 1} of {self._lots()}, row {self.row}"

    def _lots(self) -> int:
        return min(len(self.shards), max(1, -(-sum(self.shards.values()) // LOT_BYTES)))

    def open_lot(self) -> tuple[TokenCache, Order]:
        """Return the tokens and rows of the lot that the next row lies in."""
        if self._order is None:
            names = np.array(sorted(self.shards))
            shuffled = np.random.default_rng([self.seed, self.stream, self.epoch, 0]).permutation(names)
            chosen = sorted(np.array_split(shuffled, self._lots())[self.lot].tolist())
            if self._cache is None or self._cache[0] != chosen:
                self._cache = None
                self._cache = chosen, TokenCache(map(self.read, chosen), self.document_id)
            cache = self._cache[1]
            if not len(cache.keys):
                raise InputError("no document to train on", where=", ".join(chosen[:3]))
            rng = np.random.default_rng([self.seed, self.stream, self.epoch, 1, self.lot])
            salt = rng.integers(1 << 64, dtype=np.uint64)
            self._order = Order(cache.keys, cache.starts, cache.lengths, self.row_tokens, salt)
        assert self._cache is not None
        return self._cache[1], self._order

    def _next_lot(self) -> None:
        self.lot, self.row, self._order = self.lot + 1, 0, None
        if self.lot == self._lots():
            self.epoch, self.lot = self.epoch + 1, 0


class Rows(Protocol):
    """Where a training's batches come from."""

    batch_rows: int
    row_tokens: int

    def batch(self) -> tuple[NDArray[Any], ...]:
        """Return what the model takes of the next rows, their token ids first."""

    def position(self) -> dict[str, Any]:
        """Return where the next batch starts, as plain JSON."""

    def seek(self, position: dict[str, Any]) -> None:
        """Go to a `position`, so that `batch` returns what it would have returned then."""

    def describe(self) -> str:
        """Return where the next batch lies, for messages."""


class Mix(Rows):
    """Batches of rows, a fixed share of them from earlier nights.

    Row number r (from 0, over the whole run) is a replay where `floor((r + 1) * share)` exceeds `floor(r * share)`:
    the share is kept to within one row at any moment, and no random state has to be restored.

    Of both streams, that of the night whose documents are new and that of earlier nights, one may be None.
    """

    def __init__(
        self, newest: Stream | None, earlier: Stream | None, *, replay_share: float, batch_tokens: int
    ) -> None:
        if not (any_stream := newest or earlier):
            raise InputError("no shard to train on", hint="Run `slimpajama prepare` first.")
        self.newest, self.earlier = newest, earlier
        self.share = 1.0 if newest is None else 0.0 if earlier is None else replay_share
        self.row_tokens = any_stream.row_tokens
        self.batch_rows, self.row = max(1, batch_tokens // self.row_tokens), 0

    def batch(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the next tokens_BT and content_BT."""
        numbers = np.arange(self.row, self.row + self.batch_rows + 1, dtype=np.float64)
        replay_B = np.diff(np.floor(numbers * self.share)) > 0
        tokens = np.empty((self.batch_rows, self.row_tokens), np.int64)
        content = np.empty((self.batch_rows, self.row_tokens), np.bool_)
        for stream, chosen_B in ((self.newest, ~replay_B), (self.earlier, replay_B)):
            if stream is not None and chosen_B.any():
                tokens[chosen_B], content[chosen_B] = stream.take(int(chosen_B.sum()))
        self.row += self.batch_rows
        return tokens, content

    def position(self) -> dict[str, Any]:
        return {"row": self.row} | {name: stream.position() for name, stream in self._streams().items()}

    def seek(self, position: dict[str, Any]) -> None:
        self.row = int(position["row"])
        for name, stream in self._streams().items():
            stream.seek(position[name])

    def describe(self) -> str:
        return "; ".join(f"{name}: {stream.describe()}" for name, stream in self._streams().items())

    def _streams(self) -> dict[str, Stream]:
        """Return the streams that there are, by their names in a checkpoint."""
        streams = {"newest": self.newest, "earlier": self.earlier}
        return {name: stream for name, stream in streams.items() if stream is not None}
