"""Who survives: never removed for a keeper that it does not resemble, whatever the order of the pairs."""

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup import clusters
from slimpajama.corpus.dedup.clusters import judge
from slimpajama.corpus.dedup.spill import pack


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 12))
    before = draw(st.lists(st.booleans(), max_size=n))
    possible = [(a, b) for b in range(len(before), n) for a in range(b)]
    pairs = draw(st.lists(st.sampled_from(possible), unique=True)) if possible else []
    similarity = [draw(st.sampled_from([0.8, 0.9, 1.0])) for _ in pairs]
    return n, before, pairs, similarity


def verdict_of(n, before, pairs, similarity):
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return judge([(pack(array), np.array(similarity, np.float64))], n, np.array(before, np.bool_))


@given(graphs())
def test_a_document_is_removed_exactly_if_an_earlier_survivor_resembles_it(graph):
    n, before, pairs, similarity = graph
    verdict = verdict_of(*graph)
    alike = dict(zip(pairs, similarity, strict=True))
    survives = [*before, *(verdict.partner[len(before) :] < 0)]
    for d in range(n):
        partners = [a for a in range(d) if survives[a] and (a, d) in alike]
        if d < len(before) or not partners:
            assert verdict.partner[d] == -1
            assert np.isnan(verdict.jaccard[d])
        else:
            best = max(partners, key=lambda a, d=d: (alike[a, d], -a))
            assert (verdict.partner[d], verdict.jaccard[d]) == (best, alike[best, d])


@given(graphs())
def test_a_component_is_all_that_pairs_connect_and_bears_its_smallest_number(graph):
    n, _, pairs, _ = graph
    component = list(range(n))
    for _ in range(n):
        for a, b in pairs:
            component[a] = component[b] = min(component[a], component[b])
    assert verdict_of(*graph).component.tolist() == component


@given(graphs(), st.integers(0, 10), st.integers(1, 4))
def test_the_verdict_does_not_depend_on_blocks_nor_on_how_many_pairs_are_sorted_together(graph, cut, at_once):
    n, before, pairs, similarity = graph
    packed, values = pack(np.array(pairs, np.int64).reshape(-1, 2)), np.array(similarity, np.float64)
    with mock.patch.object(clusters, "AT_ONCE", at_once):
        blocks = [(packed[cut:], values[cut:]), (packed[:cut], values[:cut])]
        parts = judge(blocks, n, np.array(before, np.bool_))
    for a, b in zip(verdict_of(*graph), parts, strict=True):
        np.testing.assert_array_equal(a, b)


@given(graphs(), st.randoms())
def test_the_verdict_does_not_depend_on_the_order_of_pairs(graph, random):
    n, before, pairs, similarity = graph
    together = list(zip(pairs, similarity, strict=True))
    random.shuffle(together)
    shuffled = verdict_of(n, before, [pair for pair, _ in together], [value for _, value in together])
    for a, b in zip(verdict_of(*graph), shuffled, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_end_of_a_chain_stays_if_it_is_unlike_the_keeper():
    verdict = verdict_of(3, [], [(0, 1), (1, 2)], [0.9, 0.9])
    assert verdict.partner.tolist() == [-1, 0, -1]
    assert verdict.component.tolist() == [0, 0, 0]


def test_the_setting_has_one_form_on_record_under_both_of_its_names():
    assert DedupConfig(clusters="nearest_keeper") == DedupConfig(clusters="stars") == DedupConfig()
