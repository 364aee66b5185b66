"""The kernel's normalisation against its definition in plain Python."""

import string
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.corpus.dedup.normalise import RUN, normalise, normalise_block, without_punctuation
from slimpajama.text.buffers import text_buffers

EVERY_CHARACTER = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def kernel(texts):
    """Return each text as the kernel normalises it, read from both of its outputs."""
    block = normalise_block(*text_buffers(texts))
    utf8, chars = block.utf8.tobytes(), block.chars.astype("<u4").tobytes()
    a, b = block.byte_offsets, block.char_offsets
    for d in range(len(texts)):
        text = utf8[a[d] : a[d + 1]].decode()
        assert chars[4 * b[d] : 4 * b[d + 1]].decode("utf-32-le") == text
        yield text


def test_every_code_point_is_normalised_as_defined():
    texts = ["y".join(EVERY_CHARACTER[start : start + 512]) for start in range(0, len(EVERY_CHARACTER), 512)]
    assert list(kernel(pa.array(texts, pa.large_string()))) == [normalise(text) for text in texts]


def test_punctuation_and_symbols_are_left_out_by_unicode_category():
    assigned = [char for char in EVERY_CHARACTER if unicodedata.category(char) != "Cn"]
    left = without_punctuation(pa.array(assigned, pa.large_string())).to_pylist()
    assert left == ["" if unicodedata.category(char)[0] in "PS" else char for char in assigned]
    assert without_punctuation(pa.array([string.punctuation, "《你好》， 世界。"], pa.large_string())).to_pylist() == [
        "",
        "你好 世界",
    ]


@given(st.lists(st.text(st.sampled_from("aAΣςİ\u0307K \t\n\u3000\u00a0\x1f中。，𐐀𐐨😀é"))))
def test_texts_are_normalised_as_defined(texts):
    assert list(kernel(pa.array(texts, pa.large_string()))) == [normalise(text) for text in texts]


@settings(max_examples=300)
@given(st.lists(st.text()))
def test_any_texts_are_normalised_as_defined(texts):
    assert list(kernel(pa.array(texts, pa.large_string()))) == [normalise(text) for text in texts]


@given(st.lists(st.text(), min_size=1), st.data())
def test_a_slice_of_an_array_gives_its_own_texts(texts, data):
    start = data.draw(st.integers(0, len(texts)))
    array = pa.array(texts, pa.large_string())[start:]
    assert list(kernel(array)) == [normalise(text) for text in texts[start:]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello \t\n WORLD ", "hello world"),
        ("你好，\u3000世界。\n", "你好， 世界。"),
        ("ＡＢＣ", "ａｂｃ"),
        # str.lower would look around and write `ς` at the ends.
        ("ΟΔΟΣ ΟΔΟΣ", "οδοσ οδοσ"),
        ("İstanbul", "i\u0307stanbul"),
        (" \u2028\u3000 ", ""),
        ("", ""),
    ],
)
def test_known_texts_in_both_languages(text, expected):
    assert normalise(text) == expected
    assert list(kernel(pa.array([text], pa.large_string()))) == [expected]


@pytest.mark.parametrize("length", [*range(6, 19), *range(RUN - 2, RUN + 3), 2 * RUN])
@pytest.mark.parametrize("behind", ["Z", " \n Z", "中", " 中 ", "\u3000 İ", " "])
def test_white_space_where_a_run_of_ascii_ends_is_squeezed(length, behind):
    texts = [start + "Ab \t" * (length // 4) + "C" * (length % 4) + behind for start in ("", "中", " ")]
    assert list(kernel(pa.array(texts, pa.large_string()))) == [normalise(text) for text in texts]


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.binary(max_size=64))
def test_bytes_that_are_no_utf8_stay_within_their_document(data):
    """Parquet files are read without a check of their UTF-8; the neighbours of bad bytes must not be touched."""
    around = b"ab" + data + b"cd"
    offsets = np.array([0, 2, 2 + len(data), len(around)])
    block = normalise_block(offsets, np.frombuffer(around, np.uint8))
    assert block.chars[:2].tobytes() == np.array([97, 98], np.uint32).tobytes()
    assert block.chars[-2:].tobytes() == np.array([99, 100], np.uint32).tobytes()


def test_a_null_is_refused():
    with pytest.raises(ValueError, match="must not be null, found 1"):
        text_buffers(pa.array(["a", None], pa.large_string()))
