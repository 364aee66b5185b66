"""What waits on disk comes back as it was given, whatever fits in memory."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.dedup.spill import PairSet, TextBuckets, distinct, pack, unpack

BLOCKS = st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=20))
def test_pairs_come_out_of_one_number_as_they_went_in(pairs):
    array = np.array(pairs, np.int64).reshape(-1, 2)
    assert unpack(pack(array)).tolist() == array.tolist()


@pytest.mark.parametrize("limit", [1, 7, 1000])
@given(blocks=BLOCKS)
def test_pairs_are_the_same_for_any_limit(tmp_path_factory, limit, blocks):
    pairs = PairSet(tmp_path_factory.mktemp("pairs"), limit)
    for block in blocks:
        pairs.add(np.array(block, np.uint64))
    found = list(pairs.blocks())
    assert all(np.array_equal(block, distinct(block)) for block in found)
    assert sorted(set(np.concatenate(found).tolist())) == sorted({value for block in blocks for value in block})
    pairs.clear()
    assert np.concatenate(list(pairs.blocks())).tolist() == []


@pytest.mark.parametrize("limit", [0, 200, 10**6])
def test_texts_come_back_by_bucket_and_number_for_any_limit(tmp_path, limit):
    rng, store, expected = np.random.default_rng(0), TextBuckets(tmp_path, limit), {}
    for start in range(0, 200, 10):
        bucket = rng.integers(0, 5, 10).astype(np.uint32)
        node = (start + rng.permutation(10)).astype(np.uint32)
        texts = [None if n % 7 == 0 else f"第{n}篇 text {n}" for n in node]
        for b, n, text in zip(bucket.tolist(), node.tolist(), texts, strict=True):
            expected.setdefault(b, {})[n] = text
        store.add(bucket, node, pa.array(texts, pa.large_string()))
    for b, texts in expected.items():
        table = store.take(b)
        assert dict(zip(table["node"].to_pylist(), table["text"].to_pylist(), strict=True)) == texts
        assert table["node"].to_pylist() == sorted(texts)
    assert list(tmp_path.iterdir()) == []
