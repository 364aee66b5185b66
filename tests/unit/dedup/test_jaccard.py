"""Exact similarity against Python's own sets."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.dedup.jaccard import WINDOW, jaccard
from slimpajama.dedup.normalise import normalise


def exact(a, b, ngram):
    first, second = (
        {text[i : i + ngram] for i in range(max(1, len(text) - ngram + 1))} if text else set()
        for text in map(normalise, (a, b))
    )
    return len(first & second) / len(first | second) if first | second else 1.0


def check(texts, pairs, ngram):
    found = jaccard(pa.array(texts, pa.large_string()), np.array(pairs, np.int64).reshape(-1, 2), ngram)
    assert found.tolist() == [exact(texts[a], texts[b], ngram) for a, b in pairs]


@settings(deadline=None)
@given(st.lists(st.text("ab 中文", max_size=40), min_size=1, max_size=5), st.sampled_from([1, 2, 3, 5, 13]), st.data())
def test_similarity_equals_that_of_python_sets(texts, ngram, data):
    """Few letters, so shingles repeat within a text and across; any order of pairs, a text with itself."""
    number = st.integers(0, len(texts) - 1)
    check(texts, data.draw(st.lists(st.tuples(number, number), max_size=12)), ngram)


@settings(deadline=None)
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
    assert WINDOW < 20_000  # so that shingles across windows are seen
    base = "".join(chr(c) for c in rng.integers(0x4E00, 0x5200, 20_000))
    texts = [base, base[:9000] + "改" + base[9000:], base[5000:], base[::-1], base[:100] * 200, "别的" * 30]
    check(texts, [(a, b) for a in range(6) for b in range(6)], 13)


def test_a_change_in_the_middle_of_a_text_costs_one_shingle_width():
    a, b = "北京" + "".join(map(chr, range(0x5000, 0x5100))), "".join(map(chr, range(0x5000, 0x5100)))
    assert jaccard(pa.array([a, b], pa.large_string()), np.array([[0, 1]]), 13)[0] == (256 - 12) / (258 - 12)
