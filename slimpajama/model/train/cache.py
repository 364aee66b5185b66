"""The tokens of some shards in a temporary file, so that rows are read from all over them.

The file has no name, so it goes with the process, however that ends. It takes 17 bits a token, and memory what is
read of it at the moment: the system maps it.
"""

# N = tokens of all documents, D = documents

import tempfile
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimpajama.core.temporary import temporary_files
from slimpajama.model.train.order import Hashes, Numbers


class ShardTokens(NamedTuple):
    """The documents of one shard, one after the other."""

    ids: NDArray[np.uint16]
    """Shape (N,)."""
    content: NDArray[np.bool_]
    """Shape (N,): part of a content word."""
    lengths: Numbers
    """Tokens of each document, shape (D,)."""
    keys: Hashes
    """A hash of each document's id, shape (D,)."""


class TokenCache:
    """Documents of shards, one after the other, with a boundary before each."""

    def __init__(self, shards: Iterable[ShardTokens], document_id: int) -> None:
        """Write the file, shard by shard.

        Raises:
            StorageError: The folder for temporary files is full or cannot be written to.
        """
        keys, starts, lengths, n = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
        with temporary_files(), tempfile.TemporaryFile() as ids, tempfile.TemporaryFile() as flags:
            for shard in shards:
                packed = pack_documents(shard, document_id)
                packed.ids.tofile(ids)
                np.packbits(packed.content).tofile(flags)
                keys.append(shard.keys)
                starts.append(n + np.cumsum(packed.lengths) - packed.lengths)
                lengths.append(packed.lengths)
                n += len(packed.ids)
            self._ids, self._flags = _mapped(ids, np.uint16), _mapped(flags, np.uint8)
        self.keys, self.starts, self.lengths = np.concatenate(keys), np.concatenate(starts), np.concatenate(lengths)

    def read(self, places: Numbers) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Return the ids and content flags at places, of their shape."""
        bits = self._flags[places >> 3] >> (7 - (places & 7)).astype(np.uint8)
        return self._ids[places], (bits & 1).astype(np.bool_)


def pack_documents(shard: ShardTokens, document_id: int) -> ShardTokens:
    """Return the documents with `document_id` before each, and as many behind the last as make their sum divide by 8.

    The boundary counts as content: whoever restores text from its content words must know where documents start.
    """
    lengths = shard.lengths + 1
    n = int(lengths.sum())
    is_token = np.zeros(-(-n // 8) * 8, np.bool_)
    is_token[:n] = True
    is_token[np.cumsum(lengths) - lengths] = False
    ids, content = np.full(len(is_token), document_id, np.uint16), np.ones(len(is_token), np.bool_)
    ids[is_token], content[is_token] = shard.ids, shard.content
    return ShardTokens(ids, content, lengths, shard.keys)


def _mapped(file: IO[bytes], kind: Any) -> NDArray[Any]:
    file.flush()
    # An empty file cannot be mapped.
    return np.memmap(file, kind, "r") if file.tell() else np.zeros(0, kind)
