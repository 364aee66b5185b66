from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.errors import InputError
from slimpajama.core.split import hashes
from slimpajama.model.train import rows
from slimpajama.model.train.cache import ShardTokens
from slimpajama.model.train.rows import EARLIER, NEWEST, Mix, Stream, parse_shard

DOCUMENT_ID, T = 7, 6
Shards = dict[str, list[list[int]]]


def shard_of(documents: list[list[int]], name: str = "") -> ShardTokens:
    flat = np.array([token for document in documents for token in document], np.uint16)
    lengths = np.array([len(document) for document in documents], np.int64)
    return ShardTokens(flat, flat % 2 == 0, lengths, hashes([f"{name}{i}" for i in range(len(documents))], "test", 0))


def stream_of(shards: Shards, seed: int = 0, number: int = NEWEST, row_tokens: int = T) -> Stream:
    sizes = dict.fromkeys(shards, 1)
    return Stream(sizes, lambda name: shard_of(shards[name], name), DOCUMENT_ID, row_tokens, seed, number)


def epoch_of(stream: Stream) -> np.ndarray:
    """Return the ids of an epoch's rows, shape (R, T)."""
    epoch, rows = stream.epoch, []
    while stream.epoch == epoch:
        rows.append(stream.take(1)[0])
    return np.concatenate(rows)


some_documents = st.lists(st.lists(st.integers(8, 500), max_size=12), max_size=6)
some_shards = st.dictionaries(st.sampled_from("abcd"), some_documents, min_size=1).filter(lambda s: any(s.values()))
TEN: Shards = {f"s{i}": [[100 * i + 10 * j + k for k in range(8, 8 + j)] for j in range(1, 9)] for i in range(1, 4)}


def test_parsing_returns_the_documents_of_a_parquet_shard():
    ids = pa.array([[1, 2, 3], [], [65_535]], pa.list_(pa.uint16()))
    mask = ["101", "", "0"]
    shard = parse_shard(pa.table({"id": ["a", "b", "甲"], "input_ids": ids, "content_mask": mask}))
    assert shard.ids.tolist() == [1, 2, 3, 65_535]
    assert shard.content.tolist() == [True, False, True, False]
    assert shard.lengths.tolist() == [3, 0, 1]
    assert len(set(shard.keys.tolist())) == 3


@given(some_shards, st.integers(0, 3))
def test_an_epoch_holds_every_token_once_and_fills_its_last_row_up(shards: Shards, seed: int):
    stream = stream_of(shards, seed)
    documents = [document for documents in shards.values() for document in documents]
    expected = Counter(token for document in documents for token in [DOCUMENT_ID, *document])
    for _ in range(3):
        found = Counter(epoch_of(stream).ravel().tolist())
        assert not expected - found
        assert (found - expected).total() == -expected.total() % T


def test_a_row_holds_neighbouring_tokens_and_their_flags():
    """Within a document each token is one more than that before it, and even ones are content."""
    shards = {"a": [list(range(100 * i, 100 * i + 40)) for i in range(1, 60)]}
    ids, content = stream_of(shards, row_tokens=24).take(100)
    assert np.array_equal(content, (ids % 2 == 0) | (ids == DOCUMENT_ID))
    inside = (ids[:, 1:] != DOCUMENT_ID) & (ids[:, :-1] != DOCUMENT_ID)
    joined = np.diff(ids.astype(int)) == 1
    # But for the pieces that groups leave over: about one in 8 rows.
    assert (~joined & inside).mean() < 0.01
    begins = ids[:, 1:][ids[:, :-1] == DOCUMENT_ID]
    assert len(begins) > 40
    assert (begins % 100 == 0).mean() > 0.95


@given(some_shards, st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 7))
def test_a_restored_position_goes_on_with_the_same_rows(shards: Shards, sizes: list[int], stop: int):
    undisturbed, resumed = stream_of(shards), stream_of(shards)
    for number, size in enumerate(sizes):
        if number == stop:
            position, resumed = json.loads(json.dumps(resumed.position())), stream_of(shards)
            resumed.seek(position)
        for expected, found in zip(undisturbed.take(size), resumed.take(size), strict=True):
            assert np.array_equal(expected, found)


def test_two_epochs_have_different_rows_and_the_same_seed_repeats_them():
    first, again = stream_of(TEN, seed=1), stream_of(TEN, seed=1)
    one, two = epoch_of(first), epoch_of(first)
    assert not np.array_equal(one, two)
    assert np.array_equal(np.concatenate([epoch_of(again), epoch_of(again)]), np.concatenate([one, two]))
    assert not np.array_equal(epoch_of(stream_of(TEN, seed=2)), one)


def test_how_documents_are_spread_over_shards_changes_no_row():
    documents = [[100 + i] * (i % 5 + 1) for i in range(60)]
    shards = {name: shard_of(documents) for name in "ab"}

    def read(chosen: np.ndarray) -> ShardTokens:
        whole = shards["a"]
        parts = [[documents[i]] for i in chosen]
        return ShardTokens(
            np.concatenate([shard_of(part).ids for part in parts]),
            np.concatenate([shard_of(part).content for part in parts]),
            whole.lengths[chosen],
            whole.keys[chosen],
        )

    one = Stream({"a": 1}, lambda _: shards["a"], DOCUMENT_ID, T, 0)
    halves = {"x": np.arange(1, 60, 2), "y": np.arange(58, -1, -2)}
    two = Stream({"y": 1, "x": 1}, lambda name: read(halves[name]), DOCUMENT_ID, T, 0)
    assert np.array_equal(epoch_of(one), epoch_of(two))


def test_rows_next_to_each_other_come_from_all_shards():
    shards = {str(i): [[100 + i] * 20 for _ in range(20)] for i in range(8)}
    ids = epoch_of(stream_of(shards))
    assert all(len(set(ids[start : start + 50].ravel().tolist()) - {DOCUMENT_ID}) == 8 for start in range(0, 501, 50))


def test_shards_beyond_a_lot_come_lot_by_lot_each_in_one_of_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "LOT_BYTES", 3)
    shards = {str(i): [[100 + i] * 20 for _ in range(20)] for i in range(8)}
    read: list[str] = []

    def shard(name: str) -> ShardTokens:
        read.append(name)
        return shard_of(shards[name], name)

    stream = Stream(dict.fromkeys(shards, 1), shard, DOCUMENT_ID, T, 0)
    first, second = epoch_of(stream), epoch_of(stream)
    assert sorted(read[:8]) == sorted(read[8:]) == sorted(shards)
    assert read[:8] != read[8:]
    for found in (first, second):
        counted = Counter(found.ravel().tolist())
        # Each of three lots fills a row up.
        assert all(400 <= counted[100 + i] <= 400 + 3 * T for i in range(8))
    resumed = Stream(dict.fromkeys(shards, 1), shard, DOCUMENT_ID, T, 0)
    resumed.seek([1, 2, 5])
    read.clear()
    assert np.array_equal(resumed.take(4)[0], second[second_lot_row(stream, second) :][:4])
    assert len(read) == 2


def second_lot_row(stream: Stream, ids: np.ndarray) -> int:
    """Return the number in its epoch of row 5 of the last of three lots; lots hold 3, 3 and 2 shards of 20 x 21."""
    lots = [-(-shards * 20 * 21 // T) for shards in (3, 3, 2)]
    assert sum(lots) == len(ids)
    return lots[0] + lots[1] + 5


def test_shards_without_any_document_are_an_error_not_an_endless_loop():
    with pytest.raises(InputError, match="no document"):
        stream_of({"a": [], "b": []}).take(1)


def mix_of(share: float) -> Mix:
    earlier = {"old": [[600 + i] * 9 for i in range(20)]}
    streams = stream_of(TEN), stream_of(earlier, number=EARLIER)
    return Mix(*streams, replay_share=share, batch_tokens=4 * T)


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
    newest = Mix(stream_of(TEN), None, replay_share=0.9, batch_tokens=10)
    earlier = Mix(None, stream_of(TEN), replay_share=0.1, batch_tokens=10)
    assert np.array_equal(newest.batch()[0], earlier.batch()[0])


def test_no_shard_at_all_is_an_error_for_the_user():
    with pytest.raises(InputError, match="no shard"):
        Mix(None, None, replay_share=0.5, batch_tokens=4)


@given(some_shards, st.integers(0, 3), st.integers(0, 40), st.sampled_from([1, 1 << 29]))
def test_the_documents_that_were_read_are_those_that_the_rows_have_tokens_of(
    shards: Shards, seed: int, n: int, lot: int
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "LOT_BYTES", lot)
        stream, expected = stream_of(shards, seed), set[int]()
        try:
            for _ in range(n):
                cache, order = stream.open_lot()
                places = order.places(stream.row, stream.row + 1)
                # A document begins with its boundary.
                expected |= set(cache.keys[np.searchsorted(cache.starts, places.ravel(), "right") - 1].tolist())
                stream.take(1)
        except InputError:
            # A lot of a shard without documents.
            return
        before = stream.position()
        read = stream.read_keys()
        assert stream.position() == before
        if stream.epoch:
            assert read is None
        else:
            assert read is not None
            assert set(read.tolist()) == expected
