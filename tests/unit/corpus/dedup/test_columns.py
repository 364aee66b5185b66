"""Columns between Arrow, numpy and files: what is read is what was written, slices and nulls included."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.dedup.columns import (
    content_array,
    content_column,
    key_file,
    pack_ids,
    read_keys,
    read_texts,
    text_file,
    unpack_ids,
)

IDS = st.lists(st.text("0123456789abcdef", min_size=32, max_size=32))


@given(IDS)
def test_packed_ids_keep_their_order_and_come_back(ids):
    packed = pack_ids(pa.array(ids, pa.string()))
    assert packed.type == pa.binary(16)
    assert [value.hex() for value in packed.to_pylist()] == ids
    assert unpack_ids(packed).to_pylist() == ids


@given(IDS, st.data())
def test_nulls_and_slices_of_packed_ids_come_back(ids, data):
    places = data.draw(st.lists(st.integers(0, len(ids) - 1) | st.none())) if ids else []
    taken = pack_ids(pa.array(ids, pa.string())).take(pa.array(places, pa.int64()))
    assert unpack_ids(taken[1:]).to_pylist() == [None if p is None else ids[p] for p in places[1:]]


def test_content_of_several_chunks_and_a_slice():
    content = np.arange(160, dtype=np.uint8).reshape(10, 16)
    column = pa.chunked_array([content_column(content[:3]), content_column(content[3:])]).slice(2, 6)
    assert np.array_equal(content_array(column), content[2:8])


@pytest.mark.parametrize("n", [1, 5])
def test_a_row_group_of_a_key_file_is_one_column_of_the_join(n):
    rng = np.random.default_rng(0)
    content, keys = rng.integers(0, 256, (n, 16), np.uint8), rng.integers(0, 2**64, (n, 3), np.uint64)
    data = key_file(content, keys)
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 4
    assert np.array_equal(read_keys(io.BytesIO(data), [1, 2, 3]), keys.T)
    assert read_keys(io.BytesIO(data), [0]).tobytes() == content[:, :8].tobytes()
    assert np.array_equal(read_keys(io.BytesIO(data), [2]), keys[:, 1:2].T)


def test_a_text_file_gives_any_rows_back_and_keeps_gaps():
    texts = [f"第{n}篇：数据清洗。" if n % 2 else f"Document {n} on clean data." for n in range(50)]
    texts[33] = None
    data = text_file(pa.array(texts, pa.large_string()))
    for rows in ([], [0], [15, 16], [3, 33, 49], list(range(50))):
        assert read_texts(io.BytesIO(data), np.array(rows, np.int64)).to_pylist() == [texts[row] for row in rows]


def test_few_texts_are_read_without_the_others():
    class Counting(io.BytesIO):
        got = 0

        def read(self, size=-1):
            data = super().read(size)
            self.got += len(data)
            return data

    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(0x4E00, 0x9FA5, 2000))) for _ in range(800)]
    file = Counting(text_file(pa.array(texts, pa.large_string())))
    assert read_texts(file, np.array([100, 700])).to_pylist() == [texts[100], texts[700]]
    # 2 of 50 batches, and the list of all.
    assert file.got < len(file.getvalue()) / 10
