"""What follows a context: every answer is that of counting in all documents, however the corpus is cut into parts."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.model.memory import contexts as module
from slimpajama.model.memory.contexts import FEATURES, LOOKED_AT, Corpus
from slimpajama.model.memory.model import places_after, places_in
from slimpajama.text.suffixes import suffixes_of

DOCUMENT, VOCAB, K = 0, 40, 3

documents = st.lists(st.lists(st.integers(1, 4), max_size=12), min_size=1, max_size=6)


def stream(some):
    return np.array([DOCUMENT, *(token for document in some for token in [*document, DOCUMENT])])


def corpus(some, cut=0):
    """Return the documents as one part, or as two."""
    halves = [some[:cut], some[cut:]] if 0 < cut < len(some) else [some]
    return Corpus([suffixes_of(stream(half), VOCAB, DOCUMENT) for half in halves], K)


def followers(some, context):
    """Return how often each token follows a context in documents that stand between document tokens."""
    flat = stream(some).tolist()
    # The first token follows nothing.
    ends = range(max(1, len(context)), len(flat))
    return Counter(flat[i] for i in ends if flat[i - len(context) : i] == context and DOCUMENT not in context[1:])


def context_before(text, at, k):
    """Return the k tokens before a place, or None where they reach over a document token or the beginning."""
    context = text[at - k : at]
    return context if at >= k and DOCUMENT not in context[1:] else None


@st.composite
def searches(draw):
    some = draw(documents)
    text = draw(st.lists(st.integers(0, 4), min_size=1, max_size=20))
    if draw(st.booleans()):
        text = [DOCUMENT, *draw(st.sampled_from(some)), *text]
    return some, text, draw(st.integers(0, len(some)))


@given(searches())
@settings(max_examples=150, deadline=None)
def test_counts_are_those_of_all_documents(search):
    some, text, cut = search
    found, _ = corpus(some, cut).ask(places_in(np.array([text]), DOCUMENT))
    for at in range(len(text)):
        for k in range(K + 1):
            context = context_before(text, at, k)
            expected = followers(some, context) if context is not None else Counter()
            assert found.counts[at, k] == expected.total(), (at, k)
            assert found.targets[at, k] == expected[text[at]], (at, k)


@given(searches())
@settings(max_examples=100, deadline=None)
def test_features_tell_how_many_followers_there_are_and_how_even_they_are(search):
    some, text, cut = search
    found, _ = corpus(some, cut).ask(places_in(np.array([text]), DOCUMENT))
    for at in range(len(text)):
        longest = 0
        for k in range(1, K + 1):
            context = context_before(text, at, k)
            expected = followers(some, context) if context is not None else Counter()
            features = found.features[at, FEATURES * (k - 1) : FEATURES * k]
            if not expected:
                assert not features.any()
                continue
            longest, total = k, expected.total()
            once = sum(times == 1 for times in expected.values()) / total
            top = max(expected.values()) / total
            assert features == pytest.approx([1, math.log(total) / 4, math.log(len(expected)) / 4, top, once])
        assert found.features[at, -1] == longest / K


@given(searches())
@settings(max_examples=100, deadline=None)
def test_a_token_is_spread_to_as_often_as_it_follows(search):
    some, text, cut = search
    asked = corpus(some, cut)
    places = places_in(np.array([text]), DOCUMENT)
    found, walks = asked.ask(places)
    p = np.zeros((len(text), VOCAB))
    asked.spread(places, walks, 1 / np.maximum(found.counts, 1), p)
    assert p.sum(axis=1) == pytest.approx((found.counts > 0).sum(axis=1), abs=1e-12)
    at = np.arange(len(text))
    assert p[at, text] == pytest.approx((found.targets / np.maximum(found.counts, 1)).sum(axis=1), abs=1e-12)


def many_followers(rng, cut):
    """Return documents in which one token is followed by more tokens than are looked at, each some times."""
    tokens = rng.integers(2, VOCAB, 300)
    return [[1, int(token)] for token in tokens], cut


def test_only_the_first_followers_are_looked_at_whatever_part_they_stand_in():
    rng = np.random.default_rng(0)
    some, _ = many_followers(rng, 0)
    expected = followers(some, [1])
    assert len(expected) > LOOKED_AT
    first = [expected[token] for token in sorted(expected)[:LOOKED_AT]]
    for cut in (0, 1, 150, 299):
        found, _ = corpus(some, cut).ask(places_in(np.array([[1, 5]]), DOCUMENT))
        known, count, different, top, once = found.features[1, :FEATURES]
        assert (known, count, different) == (1, math.log(300) / 4, math.log(LOOKED_AT) / 4)
        assert top == max(first) / sum(first)
        assert once == sum(times == 1 for times in first) / sum(first)


def test_contexts_that_occur_often_are_spread_alike(monkeypatch: pytest.MonkeyPatch):
    some, _ = many_followers(np.random.default_rng(1), 0)
    places = places_in(np.array([[1, 5], [2, 1]]), DOCUMENT)
    spread = []
    for often in (2048, 2):
        monkeypatch.setattr(module, "OFTEN", often)
        # The kernels hold the bound as it was when they were compiled.
        for kernel in (module._spread, module._often):
            kernel.recompile()
        asked = corpus(some, 150)
        found, walks = asked.ask(places)
        p = np.zeros((4, VOCAB))
        asked.spread(places, walks, 1 / np.maximum(found.counts, 1), p)
        spread.append(p)
    monkeypatch.undo()
    for kernel in (module._spread, module._often):
        kernel.recompile()
    assert spread[0] == pytest.approx(spread[1], abs=1e-12)


def test_what_stands_behind_a_row_is_asked_like_the_next_place_of_it():
    some = [[1, 2, 3, 4], [2, 3, 1], [3, 4, 4]]
    rows = np.array([[1, 2, 3], [4, DOCUMENT, 3], [DOCUMENT, 2, 3]])
    behind, _ = corpus(some).ask(places_after(rows, DOCUMENT))
    inside, _ = corpus(some).ask(places_in(np.column_stack([rows, [4, 4, 1]]), DOCUMENT))
    assert np.array_equal(behind.counts, inside.counts[3::4])
    assert np.array_equal(behind.features, inside.features[3::4])


def test_an_empty_text_and_rows_that_lie_end_to_end_share_no_context():
    some = [[1, 2, 3, 4]]
    rows = np.array([[1, 2], [3, 4]])
    found, _ = corpus(some).ask(places_in(rows, DOCUMENT))
    assert (found.counts[2, 1:] == 0).all()
    assert (found.counts[3, 1:] == [1, 0, 0]).all()
    nothing, _ = corpus(some).ask(places_in(np.zeros((0, 4), np.int64), DOCUMENT))
    assert len(nothing.counts) == 0
