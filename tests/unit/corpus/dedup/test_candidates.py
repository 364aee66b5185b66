"""Candidate pairs: all of a small group, few of a giant one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup.candidates import CROWD, GROUP, KNOWN, LEFT_OUT, NEIGHBOURS, NEW, caught_table, group_pairs
from slimpajama.corpus.dedup.spill import unpack

TOP = np.uint64(0x9E3779B97F4A7C15)


def keys_of(values, bands=None):
    """Return small numbers as keys that are spread like hashes."""
    return np.array(values, np.uint64).reshape(len(values), bands or len(values[0])) * TOP


def pairs_of(values, remaining=None, separate=None):
    keys = keys_of([[value] for value in values], 1)[:, 0]
    return {tuple(pair) for pair in unpack(group_pairs(keys, remaining, separate)[0]).tolist()}


def all_pairs(numbers):
    return set(itertools.combinations(numbers, 2))


@given(st.lists(st.integers(0, 12), max_size=60))
def test_a_small_group_is_paired_in_full_and_an_oversized_one_with_its_first(values):
    expected = set()
    for value in set(values):
        group = [d for d, other in enumerate(values) if other == value]
        expected |= all_pairs(group) if len(group) <= GROUP else {(group[0], d) for d in group[1:]}
    assert pairs_of(values) == expected


@given(st.lists(st.integers(0, 1), max_size=160), st.data())
def test_a_later_round_pairs_the_survivors_of_an_oversized_group_with_each_other(values, data):
    states = st.sampled_from([LEFT_OUT, KNOWN, NEW])
    state = np.array(data.draw(st.lists(states, min_size=len(values), max_size=len(values))), np.uint8)
    expected = set()
    for value in set(values):
        group = [d for d, other in enumerate(values) if other == value]
        remaining = [d for d in group if state[d] != LEFT_OUT] if len(group) > GROUP else []
        reach = len(remaining) if len(remaining) <= CROWD else NEIGHBOURS
        for i, d in enumerate(remaining[1:], 1):
            expected |= {
                (e, d) for e in [remaining[0], *remaining[max(0, i - reach) : i]] if NEW in (state[d], state[e])
            }
    if values:
        assert pairs_of(values, state) == expected


@given(st.lists(st.integers(0, 1), min_size=1, max_size=160), st.data())
def test_a_later_round_pairs_members_of_separate_components(values, data):
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


def test_the_chance_of_being_compared_is_that_of_random_signatures():
    rng, jaccard, bands, rows, n = np.random.default_rng(0), 0.7, 36, 7, 4000
    equal = rng.random((n, bands, rows)) < jaccard
    caught = equal.all(axis=2).any(axis=1).mean()
    expected = dict(caught_table(bands, rows))[jaccard]
    assert abs(caught - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


def test_the_table_rises_and_the_default_bands_catch_what_they_must():
    table = caught_table(DedupConfig().bands, DedupConfig().rows)
    assert [p for _, p in table] == sorted(p for _, p in table)
    assert dict(table)[0.8] == pytest.approx(1 - (1 - 0.8**7) ** 36)
    assert dict(table)[0.8] > 0.9997
