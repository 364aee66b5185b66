"""One-permutation hashing: an unbiased estimate for long and short documents, whatever else is in the block."""

import numpy as np
import pytest

from slimpajama.corpus.dedup.minhash import EMPTY, _borrow, _borrowing, oph_signatures


def signatures(documents, ngram=13, num_perm=256, seed=1):
    chars = np.concatenate([np.zeros(0, np.uint32), *documents]).astype(np.uint32)
    return oph_signatures(chars, np.cumsum([0, *map(len, documents)]), ngram, num_perm, seed)


def pair_of_sets(rng, size, jaccard):
    """Return two documents without repeats whose sets of characters have about this similarity, and it exactly."""
    union = rng.permutation(0x10000)[:size].astype(np.uint32)
    shared, own = int(size * jaccard), (size - int(size * jaccard)) // 2
    a, b = union[: shared + own], np.concatenate([union[:shared], union[shared + own :]])
    return a, b, shared / size


@pytest.mark.parametrize("size", [40, 100, 300, 2000])
@pytest.mark.parametrize("jaccard", [0.3, 0.8])
def test_the_mean_estimate_is_within_four_standard_errors(size, jaccard):
    rng = np.random.default_rng(size)
    errors = []
    for seed in range(60):
        a, b, exact = pair_of_sets(rng, size, jaccard)
        first, second = signatures([a, b], ngram=1, seed=seed)
        errors.append((first == second).mean() - exact)
    # Each estimate varies at most like that of `size` or 256 draws, whichever are fewer.
    standard_error = np.sqrt(jaccard * (1 - jaccard) / min(size, 256) / len(errors))
    assert abs(np.mean(errors)) < 4 * standard_error


def test_empty_bins_borrow_from_the_first_filled_bin_of_their_order():
    rng = np.random.default_rng(0)
    orders, ranks = _borrowing(64, 5)
    for filled in (1, 2, 7, 8, 9, 40, 63, 64):
        row = np.full(64, EMPTY, np.uint32)
        row[rng.permutation(64)[:filled]] = rng.integers(0, 1000, filled)
        expected = [next(row[k] for k in (j, *orders[j]) if row[k] != EMPTY) for j in range(64)]
        _borrow(row, np.empty(64, np.int32), orders, ranks)
        assert row.tolist() == expected


def test_a_signature_does_not_depend_on_the_other_documents_of_a_block():
    rng = np.random.default_rng(1)
    documents = [rng.integers(0, 0x110000, n).astype(np.uint32) for n in (0, 1, 12, 13, 14, 500, 9000, 30)]
    together = signatures(documents)
    alone = [signatures([document])[0] for document in documents]
    assert np.array_equal(together, np.array(alone))


def test_a_signature_depends_on_the_set_of_shingles_only():
    once = np.arange(100, 140, dtype=np.uint32)
    twice = np.concatenate([once, once])
    assert np.array_equal(*signatures([once, twice], ngram=1))
    # 140 then 100 is a new shingle.
    assert not np.array_equal(*signatures([once, twice], ngram=2))


def test_a_document_shorter_than_the_shingle_is_one_shingle():
    short = np.arange(5, dtype=np.uint32)
    row = signatures([short])[0]
    assert len(set(row.tolist())) == 1
    assert np.array_equal(row, signatures([short], ngram=5)[0])


def test_the_order_of_characters_matters():
    a = np.arange(13, dtype=np.uint32)
    rows = signatures([a, a[::-1].copy(), np.roll(a, 1), np.roll(a, 8)])
    assert len({row.tobytes() for row in rows}) == 4


def test_seeds_give_different_signatures():
    a = np.arange(500, dtype=np.uint32)
    assert (signatures([a], seed=1) == signatures([a], seed=2)).mean() < 0.05
