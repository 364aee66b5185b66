"""Exact similarity against Python's own sets."""

import math

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from slimpajama.corpus.dedup.jaccard import WINDOW, _likely, jaccard
from slimpajama.corpus.dedup.normalise import normalise


def exact(a, b, ngram):
    first, second = (
        {text[i : i + ngram] for i in range(max(1, len(text) - ngram + 1))} if text else set()
        for text in map(normalise, (a, b))
    )
    return len(first & second) / len(first | second) if first | second else 1.0


def check(texts, pairs, ngram):
    found = jaccard(pa.array(texts, pa.large_string()), np.array(pairs, np.int64).reshape(-1, 2), ngram)
    assert found.tolist() == [exact(texts[a], texts[b], ngram) for a, b in pairs]


@given(st.lists(st.text("ab 中文", max_size=40), min_size=1, max_size=5), st.sampled_from([1, 2, 3, 5, 13]), st.data())
def test_similarity_equals_that_of_python_sets(texts, ngram, data):
    """Few letters, so shingles repeat within a text and across; any order of pairs, a text with itself."""
    number = st.integers(0, len(texts) - 1)
    check(texts, data.draw(st.lists(st.tuples(number, number), max_size=12)), ngram)


HOSTILE = "İΣςß\u0307\u0301\u200d\u202e\ufeff\ufffe\ue000\U0010ffff\U0001f469\x00\x1f\x1b\u3000\u2028𠮷ﬁ"


@given(st.lists(st.text(HOSTILE, max_size=30), min_size=2, max_size=2), st.sampled_from([1, 2, 5, 13]))
# The one code point that becomes two.
@example(["İ" * 13, "i\u0307" * 13], 13)
@example(["\x00" * 20, "\x00" * 13], 13)
def test_shingles_of_hostile_texts_equal_those_of_python(texts, ngram):
    check(texts, [(0, 1), (0, 0), (1, 0)], ngram)


@given(st.lists(st.text("ab 中文", max_size=40), min_size=1, max_size=5), st.floats(0, 1), st.data())
def test_what_is_asked_for_stays_exact_and_the_rest_stays_below(texts, least, data):
    number = st.integers(0, len(texts) - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=12))
    array, numbers = pa.array(texts, pa.large_string()), np.array(pairs, np.int64).reshape(-1, 2)
    whole = jaccard(array, numbers, 2)
    for bound in (least, *whole):  # exactly reached, too
        found = jaccard(array, numbers, 2, bound)
        assert found[whole >= bound].tolist() == whole[whole >= bound].tolist()
        assert (found[whole < bound] < bound).all()


def test_unlike_documents_are_given_up_early():
    array = pa.array(["".join(map(chr, range(k, k + 600))) for k in (0x4E00, 0x4F00)], pa.large_string())
    pair = np.array([[0, 1]])
    assert jaccard(array, pair, 13)[0] > jaccard(array, pair, 13, 0.8)[0] == 0


def test_long_documents_that_drift_apart():
    rng = np.random.default_rng(0)
    # So that shingles across windows are seen.
    assert WINDOW < 20_000
    base = "".join(chr(c) for c in rng.integers(0x4E00, 0x5200, 20_000))
    texts = [base, base[:9000] + "改" + base[9000:], base[5000:], base[::-1], base[:100] * 200, "别的" * 30]
    check(texts, [(a, b) for a in range(6) for b in range(6)], 13)


def test_a_change_in_the_middle_of_a_text_costs_one_shingle_width():
    a, b = "北京" + "".join(map(chr, range(0x5000, 0x5100))), "".join(map(chr, range(0x5000, 0x5100)))
    assert jaccard(pa.array([a, b], pa.large_string()), np.array([[0, 1]]), 13)[0] == (256 - 12) / (258 - 12)


def with_changes(base, changes, rng):
    """Replace that many characters, far apart, so that each costs `ngram` shingles."""
    text = list(base)
    for place in range(20, 20 + 40 * changes, 40):
        text[place] = chr(0x6000 + int(rng.integers(0x1000)))
    return "".join(text)


def test_no_pair_that_reaches_the_threshold_is_given_up_after_its_sample():
    """1,200 pairs of each length, most of them just above 0.8 or just below."""
    rng = np.random.default_rng(3)
    for length, changes in ((300, range(6)), (1000, range(4, 14)), (9000, range(60, 100))):
        base = "".join(map(chr, rng.integers(0x4E00, 0x5E00, length)))
        texts = [base] + [with_changes(base, int(n), rng) for n in rng.choice(list(changes), 1200)]
        array = pa.array(texts, pa.large_string())
        pairs = np.column_stack([np.zeros(1200, np.int64), np.arange(1, 1201)])
        whole, found = jaccard(array, pairs, 13), jaccard(array, pairs, 13, 0.8)
        assert (whole >= 0.8).any()
        assert (whole < 0.8).any()
        assert found.tolist() == np.where(whole >= 0.8, whole, found).tolist()
        assert (found[whole < 0.8] < 0.8).all()


@given(st.integers(1, 100_000), st.floats(0.01, 1), st.data())
def test_a_sample_counts_as_unlike_only_where_chance_explains_it_once_in_500_million(union, least, data):
    """Chernoff's bound against the binomial distribution itself, summed in logarithms."""
    shared = data.draw(st.integers(0, union))
    if not _likely(np.array([shared]), np.array([union]), least)[0]:
        k = np.arange(shared + 1)
        choose = math.lgamma(union + 1) - np.array([math.lgamma(i + 1) + math.lgamma(union - i + 1) for i in k[-500:]])
        terms = choose + k[-500:] * math.log(least) + (union - k[-500:]) * math.log1p(-least) if least < 1 else [-99]
        assert np.exp(terms).sum() <= 2.1e-9


def test_what_the_sample_cannot_tell_is_compared():
    union, shared = np.array([0, 1, 40, 1000, 1000, 1000]), np.array([0, 0, 28, 800, 740, 700])
    assert _likely(shared, union, 0.8).tolist() == [True, True, True, True, True, False]
    assert _likely(shared, union, 1.0).tolist() == [True, False, False, False, False, False]
