"""Candidate pairs: all of a small group, few of a giant one, and tonight's against streamed history."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup.candidates import (
    CROWD,
    GROUP,
    KNOWN,
    LEFT_OUT,
    NEIGHBOURS,
    NEW,
    PARTNERS,
    SHARED,
    HistoryJoin,
    caught_table,
    group_pairs,
    most_shared,
    probability_caught,
)
from slimpajama.corpus.dedup.spill import unpack

TOP = np.uint64(0x9E3779B97F4A7C15)
KEYS = st.integers(1, 3).flatmap(
    lambda bands: st.lists(st.lists(st.integers(0, 4), min_size=bands, max_size=bands), min_size=1, max_size=20)
)


def keys_of(values, bands=None):
    """Return small numbers as keys that are spread like hashes."""
    return np.array(values, np.uint64).reshape(len(values), bands or len(values[0])) * TOP


def pairs_of(values, left=None, apart=None):
    keys = keys_of([[value] for value in values], 1)[:, 0]
    return {tuple(pair) for pair in unpack(group_pairs(keys, left, apart)[0]).tolist()}


def all_pairs(numbers):
    return set(itertools.combinations(numbers, 2))


@given(st.lists(st.integers(0, 12), max_size=60))
def test_a_small_group_is_paired_in_full_and_a_large_one_with_its_first(values):
    expected = set()
    for value in set(values):
        group = [d for d, other in enumerate(values) if other == value]
        expected |= all_pairs(group) if len(group) <= GROUP else {(group[0], d) for d in group[1:]}
    assert pairs_of(values) == expected


@given(st.lists(st.integers(0, 1), max_size=160), st.data())
def test_a_later_look_pairs_the_survivors_of_a_large_group_with_each_other(values, data):
    states = st.sampled_from([LEFT_OUT, KNOWN, NEW])
    state = np.array(data.draw(st.lists(states, min_size=len(values), max_size=len(values))), np.uint8)
    expected = set()
    for value in set(values):
        group = [d for d, other in enumerate(values) if other == value]
        left = [d for d in group if state[d] != LEFT_OUT] if len(group) > GROUP else []
        reach = len(left) if len(left) <= CROWD else NEIGHBOURS
        for i, d in enumerate(left[1:], 1):
            expected |= {(e, d) for e in [left[0], *left[max(0, i - reach) : i]] if NEW in (state[d], state[e])}
    if values:
        assert pairs_of(values, state) == expected


@given(st.lists(st.integers(0, 1), min_size=1, max_size=160), st.data())
def test_a_look_at_what_stands_apart_pairs_members_of_different_components(values, data):
    component = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values))), np.uint32)
    nobody, expected = np.zeros(len(values), np.uint8), set()
    for value in set(values):
        group = [d for d, other in enumerate(values) if other == value]
        reach = len(group) if len(group) <= CROWD else NEIGHBOURS
        for i, d in enumerate(group if len(group) > GROUP else ()):
            expected |= {(e, d) for e in group[max(1, i - reach) : i] if component[d] != component[e]}
    assert pairs_of(values, nobody, component) == expected


def test_keys_that_share_only_their_upper_half_do_not_meet():
    keys = np.array([1, 2, 1, 3, 2], np.uint64) | np.uint64(5 << 32)
    assert unpack(group_pairs(keys)[0]).tolist() == [[0, 2], [1, 4]]


def test_no_documents_have_no_pairs():
    assert pairs_of([]) == set()


def test_a_giant_group_makes_a_star_and_at_most_a_few_pairs_each():
    n = 5000
    assert pairs_of([1] * n) == {(0, d) for d in range(1, n)}
    assert len(pairs_of([1] * n, np.full(n, NEW, np.uint8))) <= (NEIGHBOURS + 1) * n
    nobody = np.zeros(n, np.uint8)
    assert pairs_of([1] * n, nobody, np.zeros(n, np.uint32)) == set()
    assert len(pairs_of([1] * n, nobody, np.arange(n, dtype=np.uint32))) <= NEIGHBOURS * n


@given(KEYS, st.data())
def test_history_meets_tonight_by_shared_keys(tonight, data):
    bands = len(tonight[0])
    rows = st.lists(st.integers(0, 4), min_size=bands, max_size=bands)
    history = data.draw(st.lists(rows, max_size=SHARED))
    cut = data.draw(st.integers(0, len(history)))
    join, found = HistoryJoin(keys_of(tonight).T), {}
    for start, part in ((0, history[:cut]), (cut, history[cut:])):
        pairs, shared = join.match(keys_of(part, bands).T, np.ones(len(part), np.bool_))
        found |= {(int(a) + start, int(b)): int(n) for (a, b), n in zip(pairs, shared, strict=True)}
    expected = {
        (a, b): shared
        for a, b in itertools.product(range(len(history)), range(len(tonight)))
        if (shared := sum(x == y for x, y in zip(history[a], tonight[b], strict=True)))
    }
    assert found == expected


def test_a_key_takes_no_more_than_its_share_of_history():
    join = HistoryJoin(keys_of([[1], [2]]).T)
    kept = np.arange(500) % 2 == 0
    pairs, _ = join.match(keys_of([[1]] * 500).T, kept)
    assert pairs[:, 0].tolist() == sorted([1, *range(0, 2 * SHARED, 2)])
    assert len(join.match(keys_of([[1]] * 500).T, kept)[0]) == 0
    assert join.match(keys_of([[2]]).T, np.ones(1, np.bool_))[0].tolist() == [[0, 1]]


def test_keys_at_both_ends_of_the_range_are_found():
    ends = np.array([[0], [2**64 - 1], [2**63]], np.uint64)
    pairs, _ = HistoryJoin(np.repeat(ends, 20, axis=0).T).match(ends.T, np.ones(3, np.bool_))
    assert len(pairs) == 60


def test_of_many_earlier_documents_those_that_share_most_are_compared():
    pairs = np.array([[h, t] for t in range(2) for h in range(100)])
    shared = np.array([h % 50 for t in range(2) for h in range(100)])
    chosen = pairs[most_shared(pairs, shared)]
    best = sorted(h for h in range(100) if h % 50 >= 50 - PARTNERS // 2)
    assert chosen.tolist() == [[h, t] for t in range(2) for h in best]


def test_the_chance_of_being_compared_is_that_of_random_signatures():
    rng, jaccard, bands, rows, n = np.random.default_rng(0), 0.7, 36, 7, 4000
    equal = rng.random((n, bands, rows)) < jaccard
    caught = equal.all(axis=2).any(axis=1).mean()
    expected = probability_caught(jaccard, bands, rows)
    assert abs(caught - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


def test_the_table_rises_and_the_default_bands_catch_what_they_must():
    table = caught_table(DedupConfig().bands, DedupConfig().rows)
    assert [p for _, p in table] == sorted(p for _, p in table)
    assert dict(table)[0.8] == pytest.approx(1 - (1 - 0.8**7) ** 36)
    assert dict(table)[0.8] > 0.9997
    # The counters of a key are bytes.
    assert SHARED < 256
