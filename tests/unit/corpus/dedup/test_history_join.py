"""Tonight's keys against streamed history: pairs by shared keys, and of many only those that share most."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.dedup.history_join import MATCH, PARTNERS, SHARED, HistoryJoin, most_shared

TOP = np.uint64(0x9E3779B97F4A7C15)
KEYS = st.integers(1, 3).flatmap(
    lambda bands: st.lists(st.lists(st.integers(0, 4), min_size=bands, max_size=bands), min_size=1, max_size=20)
)


def keys_of(values, bands=None):
    """Return small numbers as keys that are spread like hashes."""
    return np.array(values, np.uint64).reshape(len(values), bands or len(values[0])) * TOP


@given(KEYS, st.data())
def test_history_meets_tonight_by_shared_keys(tonight, data):
    bands = len(tonight[0])
    rows = st.lists(st.integers(0, 4), min_size=bands, max_size=bands)
    history = data.draw(st.lists(rows, max_size=SHARED))
    cut = data.draw(st.integers(0, len(history)))
    join, found = HistoryJoin(keys_of(tonight).T), {}
    for start, part in ((0, history[:cut]), (cut, history[cut:])):
        matches = join.match(keys_of(part, bands).T, np.ones(len(part), np.bool_))
        found |= {(a + start, b): shared for a, b, shared, _ in matches.tolist()}
    expected = {
        (a, b): shared
        for a, b in itertools.product(range(len(history)), range(len(tonight)))
        if (shared := sum(x == y for x, y in zip(history[a], tonight[b], strict=True)))
    }
    assert found == expected


def test_a_key_takes_no_more_than_its_share_of_history():
    join = HistoryJoin(keys_of([[1], [2]]).T)
    kept = np.arange(500) % 2 == 0
    matches = join.match(keys_of([[1]] * 500).T, kept)
    assert matches["place"].tolist() == sorted([1, *range(0, 2 * SHARED, 2)])
    assert len(join.match(keys_of([[1]] * 500).T, kept)) == 0
    assert join.match(keys_of([[2]]).T, np.ones(1, np.bool_))[["place", "document"]].tolist() == [(0, 1)]
    # The counters of a key are bytes.
    assert SHARED < 256


def test_keys_at_both_ends_of_the_range_are_found():
    ends = np.array([[0], [2**64 - 1], [2**63]], np.uint64)
    assert len(HistoryJoin(np.repeat(ends, 20, axis=0).T).match(ends.T, np.ones(3, np.bool_))) == 60


def test_of_many_earlier_documents_those_that_share_most_are_compared():
    matches = np.array([(h, t, h % 50, False) for t in range(2) for h in range(100)], MATCH)
    chosen = most_shared(matches)[["place", "document"]]
    best = sorted(h for h in range(100) if h % 50 >= 50 - PARTNERS // 2)
    assert chosen.tolist() == [(h, t) for t in range(2) for h in best]
