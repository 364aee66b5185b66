"""Tokens in a temporary file: what was written comes back, and no file stays behind."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slimpajama.core.errors import StorageError
from slimpajama.model.train.cache import ShardTokens, TokenCache, pack_documents

DOCUMENT_ID = 7


def shard_of(*documents: list[int]) -> ShardTokens:
    flat = np.array([token for document in documents for token in document], np.uint16)
    lengths = np.array([len(document) for document in documents], np.int64)
    return ShardTokens(flat, flat % 2 == 0, lengths, np.arange(len(documents), dtype=np.uint64))


def test_packing_puts_the_boundary_before_each_document_and_ends_at_a_whole_byte_of_flags():
    packed = pack_documents(shard_of([10, 11], [], [65_535]), DOCUMENT_ID)
    assert packed.ids.tolist() == [7, 10, 11, 7, 7, 65_535, 7, 7]
    assert packed.content.tolist() == [True, True, False, True, True, False, True, True]
    assert packed.lengths.tolist() == [3, 1, 2]


def test_documents_come_back_from_every_shard_whatever_its_length():
    rng = np.random.default_rng(0)
    documents = [[rng.integers(8, 9000, n).tolist() for n in rng.integers(0, 30, count)] for count in (1, 4, 0, 9)]
    cache = TokenCache([shard_of(*shard) for shard in documents], DOCUMENT_ID)
    written = [document for shard in documents for document in shard]
    assert len(cache.keys) == len(cache.starts) == len(written)
    for start, length, document in zip(cache.starts, cache.lengths, written, strict=True):
        ids, content = cache.read(np.arange(start, start + length))
        assert ids.tolist() == [DOCUMENT_ID, *document]
        assert content.tolist() == [True, *(token % 2 == 0 for token in document)]


def test_no_file_stays_behind_even_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache = TokenCache([shard_of([10, 11])], DOCUMENT_ID)
    assert list(tmp_path.iterdir()) == []
    assert cache.read(np.array([[1]]))[0].tolist() == [[10]]


def test_memory_holds_a_few_shards_whatever_their_number():
    def shards() -> Iterator[ShardTokens]:
        for number in range(40):
            keys = np.arange(number, number + 2, dtype=np.uint64)
            yield ShardTokens(np.zeros(200_000, np.uint16), np.zeros(200_000, np.bool_), np.full(2, 100_000), keys)

    tracemalloc.start()
    cache = TokenCache(shards(), DOCUMENT_ID)
    cache.read(np.arange(0, 40 * 200_000, 1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One has 600 kB, and packing copies it; all have 24 MB.
    assert peak < 4_000_000


def test_without_documents_there_is_nothing():
    assert len(TokenCache([], DOCUMENT_ID).keys) == len(TokenCache([shard_of()], DOCUMENT_ID).keys) == 0


def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(StorageError, match=r"/proc/nowhere.*TMPDIR"):
        TokenCache([shard_of([10])], DOCUMENT_ID)
