from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.errors import InputError
from slimpajama.model.train.rows import EARLIER, NEWEST, Mix, ShardTokens, Stream, pack_documents, parse_shard

DOCUMENT_ID = 7
Shards = dict[str, list[list[int]]]


def shard_of(documents: list[list[int]]) -> ShardTokens:
    flat = np.array([token for document in documents for token in document], np.uint16)
    return ShardTokens(flat, flat % 2 == 0, np.array([len(document) for document in documents], np.int64))


def stream_of(shards: Shards, seed: int = 0, number: int = NEWEST) -> Stream:
    return Stream(sorted(shards), lambda name: shard_of(shards[name]), DOCUMENT_ID, seed, number)


def total_tokens(shards: Shards) -> int:
    return sum(len(document) + 1 for documents in shards.values() for document in documents)


def documents_in(tokens: np.ndarray) -> list[tuple[int, ...]]:
    starts = [*np.flatnonzero(tokens == DOCUMENT_ID), len(tokens)]
    return [tuple(tokens[a + 1 : b].tolist()) for a, b in itertools.pairwise(starts)]


some_documents = st.lists(st.lists(st.integers(8, 500), max_size=12), max_size=6)
some_shards = st.dictionaries(st.sampled_from("abcd"), some_documents, min_size=1).filter(lambda s: any(s.values()))
TEN: Shards = {f"s{i}": [[100 * i + 10 * j + k for k in range(8, 8 + j)] for j in range(1, 9)] for i in range(1, 4)}


def test_parsing_returns_the_documents_of_a_parquet_shard():
    ids = pa.array([[1, 2, 3], [], [65_535]], pa.list_(pa.uint16()))
    mask = ["101", "", "0"]
    shard = parse_shard(pa.table({"input_ids": ids, "content_mask": mask}))
    assert shard.ids.tolist() == [1, 2, 3, 65_535]
    assert shard.content.tolist() == [True, False, True, False]
    assert shard.lengths.tolist() == [3, 0, 1]


def test_packing_puts_the_boundary_before_each_document_and_keeps_the_given_order():
    packed = pack_documents(shard_of([[10, 11], [], [12]]), np.array([2, 0, 1]), DOCUMENT_ID)
    assert packed.ids.tolist() == [7, 12, 7, 10, 11, 7]
    assert packed.content.tolist() == [True, True, True, True, False, True]


@given(some_shards, st.integers(0, 3))
def test_every_document_comes_exactly_once_an_epoch(shards: Shards, seed: int):
    stream = stream_of(shards, seed)
    expected = Counter(tuple(document) for documents in shards.values() for document in documents)
    for _ in range(3):
        assert Counter(documents_in(stream.take(total_tokens(shards))[0])) == expected


@given(some_shards, st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 7))
def test_a_restored_position_goes_on_with_the_same_tokens(shards: Shards, sizes: list[int], stop: int):
    undisturbed, resumed = stream_of(shards), stream_of(shards)
    for number, size in enumerate(sizes):
        if number == stop:
            position, resumed = resumed.position(), stream_of(shards)
            resumed.seek(position)
        for expected, found in zip(undisturbed.take(size), resumed.take(size), strict=True):
            assert np.array_equal(expected, found)


def test_two_epochs_have_different_orders_and_the_same_seed_repeats_them():
    first, again = stream_of(TEN, seed=1), stream_of(TEN, seed=1)
    n = total_tokens(TEN)
    one, two = first.take(n)[0], first.take(n)[0]
    assert not np.array_equal(one, two)
    assert np.array_equal(again.take(2 * n)[0], np.concatenate([one, two]))
    assert not np.array_equal(stream_of(TEN, seed=2).take(n)[0], one)


def test_shards_without_any_document_are_an_error_not_an_endless_loop():
    with pytest.raises(InputError, match="no document"):
        stream_of({"a": [], "b": []}).take(1)


def mix_of(share: float) -> Mix:
    earlier = {"old": [[600 + i] * 9 for i in range(20)]}
    streams = stream_of(TEN), stream_of(earlier, number=EARLIER)
    return Mix(*streams, replay_share=share, batch_rows=4, row_tokens=6)


@given(st.floats(0, 1), st.integers(1, 30))
def test_replayed_rows_keep_their_share_to_within_one_row(share: float, batches: int):
    mix = mix_of(share)
    replayed = sum(int((mix.batch()[0] >= 600).any(axis=1).sum()) for _ in range(batches))
    # A row of earlier documents always holds a token of 600 or more: its 6 tokens span at most one boundary in 10.
    assert abs(replayed - share * 4 * batches) <= 1


def test_a_restored_mix_goes_on_with_the_same_rows():
    undisturbed, stopped, resumed = mix_of(0.3), mix_of(0.3), mix_of(0.3)
    for _ in range(5):
        undisturbed.batch(), stopped.batch()
    resumed.seek(stopped.position())
    for _ in range(5):
        for expected, found in zip(undisturbed.batch(), resumed.batch(), strict=True):
            assert np.array_equal(expected, found)


def test_without_earlier_nights_no_row_is_a_replay_and_without_a_new_night_every_row_is():
    newest = Mix(stream_of(TEN), None, replay_share=0.9, batch_rows=2, row_tokens=5)
    earlier = Mix(None, stream_of(TEN), replay_share=0.1, batch_rows=2, row_tokens=5)
    assert np.array_equal(newest.batch()[0], earlier.batch()[0])


def test_no_shard_at_all_is_an_error_for_the_user():
    with pytest.raises(InputError, match="no shard"):
        Mix(None, None, replay_share=0.5, batch_rows=1, row_tokens=4)
