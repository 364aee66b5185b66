"""Candidate pairs: all of a small group, few of a giant one, and tonight's against streamed history."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.dedup import candidates
from slimpajama.dedup.candidates import (
    GROUP,
    NEIGHBOURS,
    PARTNERS,
    HistoryJoin,
    candidate_pairs,
    caught_table,
    most_shared,
    probability_caught,
)

TOP = np.uint64(0x9E3779B97F4A7C15)
KEYS = st.integers(1, 3).flatmap(
    lambda bands: st.lists(st.lists(st.integers(0, 4), min_size=bands, max_size=bands), min_size=1, max_size=20)
)


def keys_of(values, bands=None):
    """Return small numbers as keys that are spread like hashes."""
    return np.array(values, np.uint64).reshape(len(values), bands or len(values[0])) * TOP


@settings(deadline=None)
@given(KEYS)
def test_documents_that_share_a_key_are_paired(values):
    expected = [
        (a, b)
        for a, b in itertools.combinations(range(len(values)), 2)
        if any(x == y for x, y in zip(values[a], values[b], strict=True))
    ]
    assert candidate_pairs(keys_of(values)).tolist() == [list(pair) for pair in expected]


def test_no_documents_have_no_pairs():
    assert candidate_pairs(np.zeros((0, 4), np.uint64)).shape == (0, 2)


def test_a_giant_group_makes_few_pairs_and_a_star_to_its_first():
    n, bands = 5000, 4
    pairs = candidate_pairs(keys_of([[1] * bands] * n))
    assert len(pairs) <= (NEIGHBOURS + 1) * n
    assert set(map(tuple, pairs.tolist())) >= {(0, d) for d in range(1, n)}


def test_in_a_giant_group_those_that_share_the_next_band_are_paired():
    values = [[1, 100 + d] for d in range(4 * GROUP)]
    values[10][1] = values[150][1] = 7
    band_of_the_crowd = candidate_pairs(keys_of(values))[:, :].tolist()
    assert [10, 150] in band_of_the_crowd


@settings(deadline=None)
@given(KEYS, st.data())
def test_history_meets_tonight_by_shared_keys(tonight, data):
    bands = len(tonight[0])
    rows = st.lists(st.integers(0, 4), min_size=bands, max_size=bands)
    history = data.draw(st.lists(rows, max_size=GROUP))
    cut = data.draw(st.integers(0, len(history)))
    join, found = HistoryJoin(keys_of(tonight)), {}
    for start, part in ((0, history[:cut]), (cut, history[cut:])):
        pairs, shared = join.match(keys_of(part, bands), np.ones(len(part), np.bool_))
        found |= {(int(a) + start, int(b)): int(n) for (a, b), n in zip(pairs, shared, strict=True)}
    expected = {
        (a, b): shared
        for a, b in itertools.product(range(len(history)), range(len(tonight)))
        if (shared := sum(x == y for x, y in zip(history[a], tonight[b], strict=True)))
    }
    assert found == expected


def test_a_key_takes_no_more_than_its_share_of_history():
    join = HistoryJoin(keys_of([[1], [2]]))
    kept = np.arange(500) % 2 == 0
    pairs, _ = join.match(keys_of([[1]] * 500), kept)
    assert pairs[:, 0].tolist() == sorted([1, *range(0, 2 * GROUP, 2)])
    assert len(join.match(keys_of([[1]] * 500), kept)[0]) == 0
    assert join.match(keys_of([[2]]), np.ones(1, np.bool_))[0].tolist() == [[0, 1]]


def test_keys_at_both_ends_of_the_range_are_found():
    ends = np.array([[0], [2**64 - 1], [2**63]], np.uint64)
    pairs, _ = HistoryJoin(np.repeat(ends, 20, axis=0)).match(ends, np.ones(3, np.bool_))
    assert len(pairs) == 60


def test_of_many_earlier_documents_those_that_share_most_are_compared():
    pairs = np.array([[h, t] for t in range(2) for h in range(100)])
    shared = np.array([h % 50 for t in range(2) for h in range(100)])
    chosen = pairs[most_shared(pairs, shared)]
    best = sorted(h for h in range(100) if h % 50 >= 50 - PARTNERS // 2)
    assert chosen.tolist() == [[h, t] for t in range(2) for h in best]


def test_the_chance_of_being_compared_is_that_of_random_signatures():
    rng, jaccard, bands, rows, n = np.random.default_rng(0), 0.7, 32, 8, 4000
    equal = rng.random((n, bands, rows)) < jaccard
    caught = equal.all(axis=2).any(axis=1).mean()
    expected = probability_caught(jaccard, bands, rows)
    assert abs(caught - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


def test_the_table_rises_and_the_default_bands_catch_what_they_must():
    table = caught_table(32, 8)
    assert [p for _, p in table] == sorted(p for _, p in table)
    assert dict(table)[0.8] == pytest.approx(1 - (1 - 0.8**8) ** 32)
    assert dict(table)[0.8] > 0.99
    assert candidates.GROUP < 256  # the counters of a key are bytes
