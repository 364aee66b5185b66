"""What documents are compared by: the same for any blocks and workers, pinned where it lies on disk for ever."""

import hashlib
import importlib
import pkgutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher

import slimpajama.corpus.dedup
from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup import kernel
from slimpajama.corpus.dedup.kernel import band_keys, signatures, sketch
from slimpajama.corpus.dedup.normalise import normalise, normalise_block
from slimpajama.text.buffers import text_buffers

CFG = DedupConfig()
ZH = "今天天气很好，我们去北京的图书馆读书，讨论语言模型和数据清洗的方法。"
EN = "Today the weather is fine, and we go to the library to read about language models and clean data."


def texts(n=300):
    return pa.array([(ZH if i % 2 else EN) * (i % 7) + f" {i * i}" for i in range(n)], pa.large_string())


def test_content_is_the_first_half_of_sha256_of_the_normalised_text():
    array = texts(20)
    expected = [hashlib.sha256(normalise(text).encode()).digest()[:16] for text in array.to_pylist()]
    found = sketch(array, CFG)
    assert [row.tobytes() for row in found.content] == expected
    assert found.n_chars.tolist() == [len(normalise(text)) for text in array.to_pylist()]


@pytest.mark.parametrize("scheme", ["oph", "datasketch"])
def test_sketches_do_not_depend_on_blocks_or_workers(scheme, monkeypatch):
    array, cfg = texts(60), DedupConfig(sketch=scheme, num_perm=64, bands=8)
    expected = sketch(array, cfg)
    monkeypatch.setattr(kernel, "BLOCK_BYTES", 500)
    for workers in (1, 4):
        assert all(np.array_equal(a, b) for a, b in zip(expected, sketch(array, cfg, workers), strict=True))


def test_signatures_match_the_golden_value():
    """A change here means every minhash file on disk must be made again: raise `kernel.VERSION`."""
    texts = pa.array([ZH, EN, "短", ""], pa.large_string())
    found = signatures(normalise_block(*text_buffers(texts)), CFG)
    keys = sketch(texts, DedupConfig(bands=32, rows=8)).keys
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "a9332101b13d3aea"
    assert hashlib.sha256(keys.tobytes()).hexdigest()[:16] == "00e885ee51290178"


@given(st.integers(1, 8), st.integers(1, 4), st.data())
def test_band_keys_are_equal_exactly_where_the_rows_are(bands, rows, data):
    values = st.lists(st.integers(0, 1), min_size=bands * rows, max_size=bands * rows)
    pair = np.array([data.draw(values), data.draw(values)], np.uint32)
    keys = band_keys(pair, bands, rows)
    expected = (pair[0] == pair[1]).reshape(bands, rows).all(axis=1)
    assert (keys[0] == keys[1]).tolist() == expected.tolist()
    # Bands of the same values differ, too.
    assert len(set(keys[0].tolist())) == bands


def test_a_kernel_of_another_module_is_called_only_by_kernels_whose_cache_notices_when_it_changes():
    """Numba's own cache on disk would go on running the old callee; `compiled` adds the callee's stamp."""
    for info in pkgutil.iter_modules(slimpajama.corpus.dedup.__path__):
        module = importlib.import_module(f"slimpajama.corpus.dedup.{info.name}")
        kernels = [value for value in vars(module).values() if isinstance(value, Dispatcher)]
        own = [kernel for kernel in kernels if kernel.py_func.__module__ == module.__name__]
        called = {repr(stamp(kernel)) for kernel in kernels if kernel not in own}
        assert all(isinstance(stamp(kernel), tuple) and called == set(stamp(kernel)[1:]) for kernel in own)


def stamp(kernel):
    return kernel._cache._cache_file._source_stamp
