"""The sketches that a datasketch index can be asked about, against datasketch itself."""

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import example, given
from hypothesis import strategies as st

from slimpajama.corpus.dedup.affine32 import affine32_signatures
from slimpajama.corpus.dedup.normalise import normalise, normalise_block
from slimpajama.text.buffers import text_buffers


def kernel(texts, ngram, num_perm, seed):
    block = normalise_block(*text_buffers(pa.array(texts, pa.large_string())))
    return affine32_signatures(block.utf8, block.byte_offsets, ngram, num_perm, seed)


def datasketch(text, ngram, num_perm, seed):
    text = normalise(text)
    sketch = MinHash(num_perm, seed=seed)
    sketch.update_batch([text[i : i + ngram].encode() for i in range(max(1, len(text) - ngram + 1))])
    return sketch.hashvalues


@given(st.lists(st.text(max_size=90), max_size=4), st.sampled_from([1, 5, 13, 64]))
# 55, 56 and 64 bytes are SHA-1's corners.
@example(["", "a", "你好", "x" * 13, "語" * 64, "𐐀" * 64, "語" * 18 + "ab"], 13)
@example(["a" * 55, "a" * 56, "a" * 64, "語" * 64, "𐐀" * 64], 64)
def test_signatures_equal_datasketch(texts, ngram):
    expected = [datasketch(text, ngram, 32, 1) for text in texts]
    assert np.array_equal(kernel(texts, ngram, 32, 1), np.array(expected, np.uint32).reshape(-1, 32))


@pytest.mark.parametrize(("num_perm", "seed"), [(16, 1), (256, 1), (128, 7)])
def test_signatures_equal_datasketch_for_other_sizes_and_seeds(num_perm, seed):
    text = "机器学习是人工智能的一个分支。 Machine learning is a branch of it. " * 3
    assert np.array_equal(kernel([text], 13, num_perm, seed)[0], datasketch(text, 13, num_perm, seed))
