"""Batches of a tuning: nothing is left out, nothing depends on luck, and a position restores exactly."""

import numpy as np
import pytest

from slimpajama.apps.tune.examples import Examples, places_of, windows
from slimpajama.apps.tune.rows import PairRows
from slimpajama.core.errors import InputError
from slimpajama.core.split import hashes

V, ROW, K = 100, 16, 4


def examples(n=50, seed=0):
    rng = np.random.default_rng(seed)
    sides = [[rng.integers(1, V, rng.integers(1, most)).astype(np.uint16) for _ in range(n)] for most in (40, 12)]
    kinds, quotes = [("answer", "summarize")[i % 2] for i in range(n)], np.stack([np.arange(n)] * 2, axis=1)
    return Examples(*sides, kinds, quotes, keys(range(n)))


def keys(numbers):
    return hashes([str(n) for n in numbers], "test", 0)


def rows(data=None, **settings):
    options = {"row_tokens": ROW, "batch_tokens": 96, "vocab_size": V, "chunk_tokens": K, "seed": 0} | settings
    return PairRows(examples() if data is None else data, ("answer", "summarize"), **options)


def pairs_of(batch):
    return [(s[s < V].tolist(), t[t < V].tolist(), int(k), q.tolist()) for s, t, k, q in zip(*batch, strict=True)]


def test_an_epoch_holds_every_pair_once_with_its_task():
    data, batches = examples(), rows()
    seen = []
    while batches.epoch == 0:
        seen += pairs_of(batches.batch())
    expected = [
        (s.tolist(), t.tolist(), i % 2, [i, i]) for i, (s, t) in enumerate(zip(data.sources, data.targets, strict=True))
    ]
    assert sorted(seen) == sorted(expected)
    assert seen != expected


def test_batches_are_bounded_and_cut_at_rows_and_chunks():
    batches = rows()
    for _ in range(40):
        source, target, *_ = batches.batch()
        assert target.shape[1] % K == 0
        assert source.shape[1] % (ROW if source.shape[1] > ROW else K) == 0
        lengths = (source < V).sum(axis=1).max() + (target < V).sum(axis=1).max()
        assert len(source) == 1 or len(source) * lengths <= 96


def test_a_task_with_few_tokens_comes_up_more_often():
    """Sixteen times the tokens make four times the turns, and the directions of a translation are one task."""
    sides = [[np.full(n, 1, np.uint16) for n in (8, 64, 64)] for _ in range(2)]
    kinds = ["answer", "translate-en", "translate-zh"]
    data = Examples(*sides, kinds, np.full((3, 2), -1), keys(range(3)))
    batches = PairRows(data, tuple(kinds), row_tokens=ROW, batch_tokens=96, vocab_size=V, chunk_tokens=K, seed=0)
    seen = []
    while batches.epoch == 0:
        seen += [k for _, _, k, _ in pairs_of(batches.batch())]
    assert sorted(seen) == [0, 0, 0, 0, 1, 2]


def test_a_position_restores_the_batches_over_the_end_of_an_epoch():
    first, second = rows(), rows()
    positions, batches = [], []
    for _ in range(45):
        positions.append(first.position())
        batches.append(first.batch())
    assert first.epoch >= 1
    for start in (0, 7, 30):
        second.seek(positions[start])
        for expected in batches[start:]:
            for one, other in zip(expected, second.batch(), strict=True):
                assert np.array_equal(one, other)


def test_a_pair_that_is_missing_leaves_the_others_in_their_batches(monkeypatch):
    """But for those that it stood with, which are cut anew, and hashes of a place that two batches swap."""
    monkeypatch.setattr("slimpajama.apps.tune.rows.POOL", 20)
    whole, missing = examples(400), 123
    kept = [i for i in range(400) if i != missing]
    sides = [[side[i] for i in kept] for side in (whole.sources, whole.targets)]
    fewer = Examples(*sides, [whole.kinds[i] for i in kept], whole.quotes[kept], whole.keys[kept])
    before, after = ([pairs_of(batch) for batch in epoch_of(rows(data))] for data in (whole, fewer))
    same = [batch for batch in after if batch in before]
    assert len(same) > 0.9 * len(before)
    assert sum(before.index(batch) == after.index(batch) for batch in same) > 0.4 * len(same)
    assert [before.index(batch) for batch in same] == sorted(before.index(batch) for batch in same)


def epoch_of(batches):
    found = []
    while batches.epoch == 0:
        found.append(batches.batch())
    return found


def test_another_seed_is_another_order_and_nothing_is_no_pair():
    assert pairs_of(rows(seed=1).batch()) != pairs_of(rows().batch())
    with pytest.raises(InputError, match="no pair to tune on"):
        rows(Examples([], [], [], np.zeros((0, 2), np.int64), keys([])))


def test_every_window_of_a_passage_begins_with_the_question():
    source, question = np.arange(1, 31, dtype=np.uint16), np.array([90, 91], np.uint16)
    read = windows(source, question, 0, ROW, 64)
    for at in range(0, len(read), ROW):
        assert read[at : at + 3].tolist() == [90, 91, 0]
    assert np.concatenate([read[at + 3 : at + ROW] for at in range(0, len(read), ROW)]).tolist() == source.tolist()
    long = windows(source, np.arange(50, 70, dtype=np.uint16), 0, ROW, 64)
    # A quarter of the row, no more.
    assert long[:5].tolist() == [50, 51, 52, 0, 1]
    assert windows(source, question[:0], 0, ROW, 20).tolist() == source[:20].tolist()


@pytest.mark.parametrize("asked", [0, 2, 20])
def test_every_token_of_a_passage_is_found_in_its_windows(asked):
    source = np.arange(1, 31, dtype=np.uint16)
    read = windows(source, np.arange(50, 50 + asked, dtype=np.uint16), 0, ROW, 25)
    assert read[places_of(np.arange(25), asked, ROW)].tolist() == source[:25].tolist()
