"""How pairs are cut into what is compared at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.dedup.similarity import _chunks


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40),
    st.lists(st.integers(0, 50), min_size=10, max_size=10),
    st.integers(1, 200),
)
def test_chunks_hold_every_pair_once_and_no_more_characters_than_asked_for(pairs, sizes, most):
    ends = _chunks(np.array(pairs), np.array(sizes, np.uint32), most).tolist()
    assert ends == sorted(set(ends))
    assert ends[-1] == len(pairs)
    assert ends[0] > 0
    for start, end in zip([0, *ends], ends, strict=False):
        characters = sum(sizes[d] for d in {d for pair in pairs[start:end] for d in pair})
        assert end - start == 1 or characters + end - start <= most


def test_a_family_is_one_chunk_as_long_as_its_texts_fit():
    pairs = np.array([(a, b) for a in range(20) for b in range(a + 1, 20)])
    assert _chunks(pairs, np.full(20, 100, np.uint32), 2000 + len(pairs)).tolist() == [len(pairs)]
